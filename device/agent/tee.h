/* The secure world as the agent sees it: through the GlobalPlatform client API and nothing else. */
#ifndef LB_AGENT_TEE_H
#define LB_AGENT_TEE_H

#include <tee_client_api.h>

#include "failure.h"

struct tee {
	int is_open;
	TEEC_Context context;
	TEEC_Session session;
	TEEC_SharedMemory in, out;
	uint32_t policy; /* that the TA applies to the answer, 0: it does not make it */
};

/*
 * Starts a session with the TA and opens the sealed model in it. `segments` is how many the public file expects;
 * `in_bytes` and `out_bytes` the most that one segment takes and gives. 0 and nothing open on failure.
 */
int tee_open(struct tee *tee, const uint32_t model_id[4], uint32_t segments, size_t in_bytes, size_t out_bytes,
	     struct failure *failure);

/* Runs a segment on tee->in, `out_bytes` into tee->out; `ns` is increased by how long the call took. */
int tee_run(struct tee *tee, uint32_t segment, size_t in_bytes, size_t out_bytes, uint64_t *ns,
	    struct failure *failure);

/* An empty call; `ns` as above. */
int tee_noop(struct tee *tee, uint64_t *ns, struct failure *failure);

/* Most memory that the secure world held at once, and its limit (0: not known). */
int tee_memory(struct tee *tee, uint64_t *peak_bytes, uint64_t *limit_bytes, struct failure *failure);

/* Does nothing when nothing is open. */
void tee_close(struct tee *tee);

uint64_t now_ns(void);

#endif
