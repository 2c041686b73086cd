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
	 * Opens the sealed model of that id and allocates all memory it will ever use. A model that was open before is
	 * closed first.
	 *   p0 VALUE_INPUT   a, b: words 0 and 1 of the model id
	 *   p1 VALUE_INPUT   a, b: words 2 and 3
	 *   p2 VALUE_OUTPUT  a: segments, b: enum lb_policy that the TA applies, 0 when the answer is made elsewhere
	 *   p3 VALUE_OUTPUT  a: enum lb_error when the result is TEE_ERROR_BAD_FORMAT, b: index of what is at fault
	 * ITEM_NOT_FOUND: no such model is provisioned. BAD_FORMAT: it is not a sealed model, or has another id.
	 * OUT_OF_MEMORY: the TA's heap cannot hold it; nothing stays allocated.
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
	 */
	LEAKBOARD_CMD_RUN = 2,
	/*
	 *   p0 VALUE_OUTPUT  a: bytes of heap held now, b: most held at once since the TA started
	 *   p1 VALUE_OUTPUT  a: the TA's stack in bytes, b: successful RUN commands since OPEN_MODEL, modulo 2^32
	 */
	LEAKBOARD_CMD_STATS = 3,
	/* No parameters. Wipes and frees the model; BAD_STATE when none is open. */
	LEAKBOARD_CMD_CLOSE_MODEL = 4,
};

/* The id in secure storage under which a sealed model is provisioned: these 6 bytes, then the 16 of the model id. */
#define LEAKBOARD_OBJECT_PREFIX "model-"
#define LEAKBOARD_OBJECT_PREFIX_BYTES 6u
#define LEAKBOARD_MODEL_ID_BYTES 16u

#endif
