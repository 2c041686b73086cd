/*
 * The Trusted Application as its callers see it: UUID, commands, parameters, errors. For the normal world and the TA.
 *
 * A session holds at most one model. Every command checks its parameter types before anything else
 * (TEE_ERROR_BAD_PARAMETERS), and a refused command leaves the session as it was, except where it says otherwise.
 */
#ifndef LEAKBOARD_TA_H
#define LEAKBOARD_TA_H

#include <stdint.h>

#define LEAKBOARD_TA_UUID {0x6c62a1d0, 0x3f5e, 0x4c1b, {0x9a, 0x7d, 0x2e, 0x84, 0x51, 0xb7, 0x0c, 0x39}}

/* Parameter types are written p0, p1, p2, p3; NONE is left out. */
enum leakboard_command {
	/* No parameters. Does nothing: what remains is the cost of a world switch. */
	LEAKBOARD_CMD_NOOP = 0,
	/*
	 * Checks the loaded model file and allocates all memory it will ever use. Needs BEGIN_MODEL and every chunk before.
	 *   p0 VALUE_INPUT   a, b: words 0 and 1 of the model id
	 *   p1 VALUE_INPUT   a, b: words 2 and 3
	 *   p2 VALUE_OUTPUT  a: segments, b: enum lb_policy that the TA applies, 0 when the answer is made elsewhere
	 *   p3 VALUE_OUTPUT  with success     a: sealed slices (lb_slices.h) that a query takes, b: bytes of the largest one
	 *                                     with its tag
	 *                    with BAD_FORMAT  a: enum lb_error, b: index of what is at fault
	 *                    with SECURITY    a: enum lb_sealed_error, b: 0
	 * BAD_STATE: nothing is being loaded. SECURITY: chunks are missing, or the model is another one than was asked for.
	 * BAD_FORMAT: the file inside is not a TEE's model file. OUT_OF_MEMORY: the TA's heap cannot hold it. After any
	 * refusal but BAD_STATE and BAD_PARAMETERS nothing stays allocated.
	 */
	LEAKBOARD_CMD_OPEN_MODEL = 1,
	/*
	 * Runs one TEE segment. Segments run in order 0..n-1 and begin again; a call out of order is refused with
	 * BAD_STATE. After a RUN that failed, for whatever reason, the next one must be segment 0.
	 *   p0 VALUE_INPUT    a: segment, counted among the TEE's; b: 0
	 *   p1 MEMREF_INPUT   the input tensors, concatenated, exactly their bytes
	 *   p2 MEMREF_OUTPUT  room for the outputs; on success its size is what was written
	 *   p3 VALUE_OUTPUT   a: the policy applied to the output, 0 for tensors that go on to the normal world; b: 0
	 * SHORT_BUFFER: p2 is too small, its size says what is needed; nothing is written.
	 * Where the segment takes sealed slices, RUN stops at the first one: success, nothing is written, p2's size and
	 * p3's a are 0, p3's b is how many it takes. FEED_SLICES goes on; any other RUN drops what was begun.
	 */
	LEAKBOARD_CMD_RUN = 2,
	/*
	 *   p0 VALUE_OUTPUT  a: bytes of heap held now, b: most held at once since the TA started
	 *   p1 VALUE_OUTPUT  a: the TA's stack in bytes, b: successful RUN commands since OPEN_MODEL, modulo 2^32
	 */
	LEAKBOARD_CMD_STATS = 3,
	/* No parameters. Wipes and frees the model; BAD_STATE when none is open or being loaded. */
	LEAKBOARD_CMD_CLOSE_MODEL = 4,
	/*
	 * The device's public key; the pair is made at the first call and kept in secure storage.
	 *   p0 MEMREF_OUTPUT  LB_SEALED_KEY_BYTES: X || Y. SHORT_BUFFER: too small, its size says what is needed.
	 */
	LEAKBOARD_CMD_DEVICE_KEY = 5,
	/*
	 * Begins to load a sealed model (lb_sealed.h). One that was open or half loaded before is closed first.
	 *   p0 MEMREF_INPUT  struct lb_sealed_header, exactly
	 *   p1 VALUE_OUTPUT  a: enum lb_sealed_error with SECURITY, b: with LB_SEALED_ERROR_OLDER the version that was opened
	 * OUT_OF_MEMORY: the heap cannot hold the model file.
	 */
	LEAKBOARD_CMD_BEGIN_MODEL = 6,
	/*
	 * Takes the next chunk; the first wrong one ends the loading, and everything that was loaded is wiped.
	 *   p0 MEMREF_INPUT  struct lb_sealed_chunk, ciphertext, tag, exactly
	 *   p1 VALUE_OUTPUT  a: enum lb_sealed_error with SECURITY, b: index of the chunk that was expected
	 * BAD_STATE: nothing is being loaded.
	 */
	LEAKBOARD_CMD_LOAD_CHUNK = 7,
	/*
	 * Takes the next sealed slices of the segment that waits for them, computes and forgets them. p2 and p3 as with RUN:
	 * the last slice brings the outputs, before that p3's b says how many are missing. After a FEED_SLICES that failed,
	 * for whatever reason, the run is over, and the next command must be RUN of segment 0.
	 *   p0 VALUE_INPUT    a: segment, counted among the TEE's; b: 0
	 *   p1 MEMREF_INPUT   one or more whole slices, each with its tag, in order and nothing between
	 *   p2 MEMREF_OUTPUT  room for the segment's outputs
	 *   p3 VALUE_OUTPUT   with BAD_PARAMETERS for the size of p1, SECURITY and BAD_FORMAT
	 *                     a: enum lb_error, b: index of the slice that was expected
	 * BAD_STATE: no run waits, or it is another segment's. BAD_PARAMETERS: p1 does not end where a slice of the segment
	 * ends. SECURITY: it is another slice than is expected, or was changed. BAD_FORMAT: it is authentic, and its weights
	 * are out of range. SHORT_BUFFER: as with RUN.
	 */
	LEAKBOARD_CMD_FEED_SLICES = 8,
	/*
	 * Begins to train the open model, whose owner allows it by a training section (lb_training.h); all memory that this
	 * takes is allocated. A training that was under way is ended first. The weights change where RUN uses them.
	 *   p0 VALUE_INPUT   a: learning rate, b: momentum, as the bits of a float
	 *   p1 VALUE_INPUT   a: weight decay, likewise; b: seed of the dropouts
	 *   p2 VALUE_OUTPUT  a: bytes of memory that training takes; with BAD_FORMAT: enum lb_error
	 *                    b: 1 when the gradient of the first segment's inputs goes out
	 * BAD_STATE: no model is open. ACCESS_DENIED: its owner does not allow training. BAD_FORMAT: it cannot be trained.
	 * BAD_PARAMETERS: also for numbers that make no sense. OUT_OF_MEMORY.
	 *
	 * What comes out of the next three commands is what the normal world needs to train its own layers, and no more:
	 * neither a loss nor a gradient of a weight, and of the answer nothing at all. The labels come from the normal
	 * world, which has the training data. A sample goes through segments 0..n-1, then back; the last one, when it makes
	 * the answer, both ways at once. After a command that failed, or came out of order (BAD_STATE), the sample and the
	 * batch so far are gone. Each needs TRAIN_BEGIN (else BAD_STATE).
	 */
	LEAKBOARD_CMD_TRAIN_BEGIN = 9,
	/*
	 * A segment that does not make the answer, forward.
	 *   p0 VALUE_INPUT    a: segment, b: 0
	 *   p1 MEMREF_INPUT   the input tensors, exactly their bytes
	 *   p2 MEMREF_OUTPUT  room for the output tensors
	 */
	LEAKBOARD_CMD_TRAIN_FORWARD = 10,
	/*
	 * The same segment, backward.
	 *   p0 VALUE_INPUT    a: segment, b: 0
	 *   p1 MEMREF_INPUT   the gradients of its output tensors, exactly their bytes
	 *   p2 MEMREF_OUTPUT  room for the gradients of its inputs (none come when they do not go out)
	 */
	LEAKBOARD_CMD_TRAIN_BACKWARD = 11,
	/*
	 * The segment that makes the answer: forward, cross-entropy with the label, backward.
	 *   p0 VALUE_INPUT    a: segment, b: label
	 *   p1 MEMREF_INPUT   the input tensors, exactly their bytes
	 *   p2 MEMREF_OUTPUT  as TRAIN_BACKWARD
	 */
	LEAKBOARD_CMD_TRAIN_ANSWER = 12,
	/*
	 * Ends a batch of at least one whole sample (else BAD_STATE).
	 *   p0 VALUE_INPUT  a: 1: changes the weights by the mean gradient, 0: forgets it; b: 0
	 */
	LEAKBOARD_CMD_TRAIN_STEP = 13,
	/* No parameters. Wipes and frees what training takes; the weights stay as they are. BAD_STATE without a training. */
	LEAKBOARD_CMD_TRAIN_END = 14,
	/*
	 * Begins to seal the open model with its tuned weights to the owner (lb_sealed.h): makes a key and gives the header.
	 * The training is ended, so that all chunks are of one state. An export that was under way is dropped.
	 *   p0 MEMREF_OUTPUT  sizeof(struct lb_sealed_header). SHORT_BUFFER: too small, its size says what is needed.
	 * BAD_STATE: no model is open. ACCESS_DENIED: it has no training section. OUT_OF_MEMORY.
	 */
	LEAKBOARD_CMD_EXPORT_BEGIN = 15,
	/*
	 * The next chunk of it, each once.
	 *   p0 MEMREF_OUTPUT  room for struct lb_sealed_chunk, ciphertext, tag; SHORT_BUFFER as above
	 * BAD_STATE: no export is under way, or there is no chunk left. After the last chunk the key is gone.
	 */
	LEAKBOARD_CMD_EXPORT_CHUNK = 16,
};

/* Ids in secure storage. The version of a model: these 8 bytes, then the 16 of the model id. */
#define LEAKBOARD_DEVICE_KEY_OBJECT "device-key"
#define LEAKBOARD_DEVICE_KEY_OBJECT_BYTES 10u
#define LEAKBOARD_VERSION_PREFIX "version-"
#define LEAKBOARD_VERSION_PREFIX_BYTES 8u
#define LEAKBOARD_MODEL_ID_BYTES 16u

#endif
