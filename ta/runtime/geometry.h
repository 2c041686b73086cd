/* What kernels want to know of an op, read from its tensors and attributes. Internal to the runtime. */
#ifndef LB_GEOMETRY_H
#define LB_GEOMETRY_H

#include "lb_runtime.h"

/* Channels and plane of an activation: (C,H,W) or (F,), the latter as F channels of 1x1. */
static inline uint32_t lb_rows(const struct lb_tensor *t)
{
	return t->rank == 3 ? t->dims[1] : 1;
}

static inline uint32_t lb_columns(const struct lb_tensor *t)
{
	return t->rank == 3 ? t->dims[2] : 1;
}

static inline size_t lb_elements(const struct lb_tensor *t)
{
	return (size_t)t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
}

static inline const struct lb_tensor *lb_input(const struct lb_model *model, const struct lb_op *op, uint32_t i)
{
	return &model->tensors[model->refs[op->first_input + i]];
}

static inline enum lb_activation lb_fused(const struct lb_op *op)
{
	if (op->fused == LB_OP_RELU)
		return LB_ACTIVATION_RELU;
	return op->fused == LB_OP_RELU6 ? LB_ACTIVATION_RELU6 : LB_ACTIVATION_NONE;
}

/* `in`, `out` of rank 3, `weight` of rank 4. */
static inline struct lb_conv2d lb_conv2d_of(const struct lb_op *op, const struct lb_tensor *in,
					    const struct lb_tensor *weight, const struct lb_tensor *out)
{
	return (struct lb_conv2d){
		.in_c = in->dims[0],
		.in_h = in->dims[1],
		.in_w = in->dims[2],
		.out_c = out->dims[0],
		.out_h = out->dims[1],
		.out_w = out->dims[2],
		.kernel_h = weight->dims[2],
		.kernel_w = weight->dims[3],
		.stride_h = op->attr[0],
		.stride_w = op->attr[1],
		.pad_h = op->attr[2],
		.pad_w = op->attr[3],
		.dilation_h = op->attr[4],
		.dilation_w = op->attr[5],
		.groups = op->attr[6],
		.activation = lb_fused(op),
	};
}

/* `in`, `out` of rank 3; for MAX_POOL2D and AVG_POOL2D. */
static inline struct lb_pool2d lb_pool2d_of(const struct lb_op *op, const struct lb_tensor *in,
					    const struct lb_tensor *out)
{
	struct lb_pool2d pool = {
		.channels = in->dims[0],
		.in_h = in->dims[1],
		.in_w = in->dims[2],
		.out_h = out->dims[1],
		.out_w = out->dims[2],
		.kernel_h = op->attr[0],
		.kernel_w = op->attr[1],
		.stride_h = op->attr[2],
		.stride_w = op->attr[3],
		.pad_h = op->attr[4],
		.pad_w = op->attr[5],
		.dilation_h = 1,
		.dilation_w = 1,
	};

	if (op->kind == LB_OP_MAX_POOL2D) {
		pool.dilation_h = op->attr[6];
		pool.dilation_w = op->attr[7];
	} else {
		pool.count_include_pad = op->attr[7];
	}
	return pool;
}

/* Checks one op of a file whose tensors and refs are sound; adds to model->scratch_bytes. In check_op.c. */
enum lb_error lb_check_op(struct lb_model *model, const struct lb_op *op);

/* Checks that everything read has been written before, over the whole query. In check_flow.c. */
enum lb_error lb_check_flow(struct lb_model *model);

#endif
