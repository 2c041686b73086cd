/* The TA's commands for training, as the agent gives them. Sizes of what crosses are the public file's. */
#ifndef LB_AGENT_TEE_TRAIN_H
#define LB_AGENT_TEE_TRAIN_H

#include "lb_backward.h"
#include "tee.h"

struct tee_training {
	int is_active;
	int gives_gradient; /* of what the first segment takes */
	uint32_t bytes;     /* of the TA's memory, beside the model */
	TEEC_SharedMemory in, out;
};

/* `in_bytes` and `out_bytes`: the most that one call takes and gives. */
int tee_train_begin(struct tee *tee, struct tee_training *training, const struct lb_sgd *sgd, uint32_t seed,
		    size_t in_bytes, size_t out_bytes, struct failure *failure);

/* Of a segment; `a`, `b`: p0 of the command. What goes in lies in training->in, what comes out in training->out. */
int tee_train_run(struct tee *tee, struct tee_training *training, uint32_t command, uint32_t a, uint32_t b,
		  size_t in_bytes, size_t out_bytes, clockid_t clock, uint64_t *ns, struct failure *failure);

int tee_train_step(struct tee *tee, int update, clockid_t clock, uint64_t *ns, struct failure *failure);

/* Frees what training takes in either world; does nothing when there is none. */
void tee_train_end(struct tee *tee, struct tee_training *training);

/* The tuned model, sealed to its owner; `*sealed` is the caller's to free. */
int tee_train_export(struct tee *tee, unsigned char **sealed, size_t *bytes, struct failure *failure);

#endif
