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

/* Of LEAKY_RELU. */
static inline float lb_slope(const struct lb_op *op)
{
	float slope;

	__builtin_memcpy(&slope, &op->attr[0], sizeof(slope));
	return slope;
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

/* Bytes of an element. */
static inline uint32_t lb_dtype_bytes(uint32_t dtype)
{
	return dtype == LB_DTYPE_INT8 ? 1u : 4u;
}

/* LB_LAYOUT_DOT4 of `out` channels with `taps` inputs each; below 2^60 where both are below 2^28. */
static inline uint64_t lb_dot4_bytes(uint64_t out, uint64_t taps)
{
	return (out + LB_I8_LANES - 1u) / LB_I8_LANES * LB_I8_LANES *
	       ((taps + LB_I8_STEP - 1u) / LB_I8_STEP * LB_I8_STEP);
}

/* The weight tensor of that index, in the file or streamed; NULL when it is none. */
const struct lb_tensor *lb_weight_at(const struct lb_model *model, uint32_t index);

/* Sorts an op into those of int8 (one of its activations is) and those of float32. */
int lb_is_i8(const struct lb_model *model, const struct lb_op *op);

/* Whether the op's filter comes in slices. */
int lb_is_streamed(const struct lb_model *model, const struct lb_op *op);

/* Between which values an int8 op's results are kept; the output's scale says where 6 lies. */
void lb_limits(const struct lb_op *op, const struct lb_tensor *out, int32_t *low, int32_t *high);

/* Checks one op of a file whose tensors and refs are sound; adds to model->scratch_bytes. In check_op.c. */
enum lb_error lb_check_op(struct lb_model *model, const struct lb_op *op);

/* What lb_check_op() leaves to be checked of an int8 op: all but fields, overlap and shapes. In check_op_i8.c. */
enum lb_error lb_check_op_i8(struct lb_model *model, const struct lb_op *op);

/* Adds to what the kernels need. */
enum lb_error lb_add_scratch(struct lb_model *model, size_t bytes);

/* Whether no weight is -128. */
int lb_weights_in_range(const int8_t *weights, size_t n);

/* The slices, when all ops are sound: in check_slices.c. */
enum lb_error lb_check_slices(struct lb_model *model);

/* One op; an int8 one's channels first .. first + count - 1 with the filter at `weight`. In segment.c, run_i8.c. */
void lb_run_op(const struct lb_model *model, const struct lb_op *op, unsigned char *arena, void *scratch);
void lb_run_op_i8(const struct lb_model *model, const struct lb_op *op, unsigned char *arena, void *scratch);
void lb_run_slice(const struct lb_model *model, const struct lb_op *op, uint32_t first, uint32_t count,
		  const int8_t *weight, unsigned char *arena, void *scratch);

/* Checks that everything read has been written before, over the whole query. In check_flow.c. */
enum lb_error lb_check_flow(struct lb_model *model);

#endif
