/* One op backwards. Internal to the runtime. */
#ifndef LB_TRAIN_OP_H
#define LB_TRAIN_OP_H

#include "lb_train.h"

/* Of a tensor, while it is trained. */
enum lb_train_flag {
	LB_TRAIN_WANTS = 1,   /* an activation's gradient is of use to somebody; a weight learns */
	LB_TRAIN_REACHED = 2, /* something has contributed to its gradient in this sample */
};

/* LB_SCRATCH_OVERFLOW when it cannot be represented. */
size_t lb_op_backward_scratch_bytes(const struct lb_model *model, const struct lb_op *op);

/* From the gradient of the op's output, which it destroys, to those of its weights and of the inputs that want one. */
void lb_op_backward(struct lb_train *train, const struct lb_op *op);

static inline float *lb_train_floats(const struct lb_train *train, size_t area, uint32_t tensor)
{
	return (float *)(void *)(train->block + area + train->model.tensors[tensor].offset);
}

static inline unsigned char *lb_train_flags(const struct lb_train *train)
{
	return train->block + train->plan.flags;
}

#endif
