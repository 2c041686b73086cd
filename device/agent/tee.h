/* The secure world as the agent sees it: through the GlobalPlatform client API and nothing else. */
#ifndef LB_AGENT_TEE_H
#define LB_AGENT_TEE_H

#include <stdint.h>
#include <time.h>

#include <tee_client_api.h>

#include "failure.h"

struct tee {
	int has_context, is_open; /* a session with the TA, which is there only with a context */
	int has_model;            /* the TA has been given some of one */
	TEEC_Context context;
	TEEC_Session session;
	TEEC_SharedMemory in, out;
	uint32_t policy;                /* that the TA applies to the answer, 0: it does not make it */
	uint32_t slices, largest_slice; /* that a query takes; bytes of the largest one with its tag */
	uint64_t loading_bytes;         /* most heap and shared memory while the model was loaded, without the stack */
};

/* Starts a session with the TA, unless there is one. */
int tee_connect(struct tee *tee, struct failure *failure);

/* `key` has LB_SEALED_KEY_BYTES. Connects. */
int tee_device_key(struct tee *tee, uint8_t *key, struct failure *failure);

/* Gives a sealed model to the TA, header and chunks, through a block of shared memory that is gone afterwards. */
int tee_load(struct tee *tee, const unsigned char *sealed, size_t bytes, struct failure *failure);

/*
 * Opens the model that was loaded. `segments` is how many the public file expects; `in_bytes` and `out_bytes` the most
 * that one segment takes and gives.
 */
int tee_open(struct tee *tee, const uint32_t model_id[4], uint32_t segments, size_t in_bytes, size_t out_bytes,
	     struct failure *failure);

/*
 * Runs a segment on tee->in, `out_bytes` into tee->out, unless slices are `missing`; `ns` is increased by how long the
 * call took.
 */
int tee_run(struct tee *tee, uint32_t segment, size_t in_bytes, size_t out_bytes, uint32_t *missing, clockid_t clock,
	    uint64_t *ns, struct failure *failure);

/* Gives the slices in tee->in, `bytes` of them, to the segment that waits; the rest as above. */
int tee_feed(struct tee *tee, uint32_t segment, size_t bytes, size_t out_bytes, uint32_t *missing, clockid_t clock,
	     uint64_t *ns, struct failure *failure);

/* An empty call; `clock` and `ns` as above. */
int tee_noop(struct tee *tee, clockid_t clock, uint64_t *ns, struct failure *failure);

/* Most memory that the secure world held at once, and its limit (0: not known). */
int tee_memory(struct tee *tee, uint64_t *peak_bytes, uint64_t *limit_bytes, struct failure *failure);

/* Ends the session if a model was brought to it, with which the TA wipes that. */
void tee_drop_model(struct tee *tee);

/* Ends everything. */
void tee_end(struct tee *tee);

/* For tee.c and tee_load.c: a block of memory that both worlds see; the words for a TA's refusal; two values asked. */
int tee_share(struct tee *tee, TEEC_SharedMemory *memory, uint32_t flags, size_t bytes, struct failure *failure);
int tee_refused(struct failure *failure, const char *what, TEEC_Result result);
TEEC_Result tee_ask(TEEC_Session *session, uint32_t command, TEEC_Operation *operation);

uint64_t now_ns(clockid_t clock);

#endif
