/* What is special about an op on int8: element types, scales, and that no sum can overflow. */
#include "geometry.h"

/* 2^31 - LB_I8_MAX_TAPS * 127 * 128 is more than a bias may be. */
_Static_assert((uint64_t)LB_I8_MAX_TAPS * 127u * 128u + LB_I8_MAX_BIAS < (1ull << 31), "int32 sums");

int lb_is_i8(const struct lb_model *model, const struct lb_op *op)
{
	if (model->tensors[op->output].dtype == LB_DTYPE_INT8)
		return 1;
	for (uint32_t i = 0; i < op->n_inputs; i++)
		if (lb_input(model, op, i)->dtype == LB_DTYPE_INT8)
			return 1;
	return 0;
}

int lb_is_streamed(const struct lb_model *model, const struct lb_op *op)
{
	return op->weight != LB_NONE && model->tensors[op->weight].kind == LB_TENSOR_STREAMED;
}

int lb_weights_in_range(const int8_t *weights, size_t n)
{
	int wrong = 0;

	for (size_t i = 0; i < n; i++)
		wrong |= weights[i] == INT8_MIN;
	return !wrong;
}

/* A vector of n 32-bit elements in the file; NULL when it is none. */
static const void *vector_at(const struct lb_model *model, uint32_t index, uint32_t dtype, uint32_t n)
{
	const struct lb_tensor *t = lb_weight_at(model, index);

	if (!t || t->kind != LB_TENSOR_WEIGHT || t->dtype != dtype || t->layout != LB_LAYOUT_PLAIN || t->rank != 1 ||
	    t->dims[0] != n)
		return NULL;
	return model->weights + t->offset;
}

/* `w` is an int8 tensor whose shape fits the op; `taps` products make a sum. */
static enum lb_error check_filter(const struct lb_model *model, const struct lb_op *op, const struct lb_tensor *w,
				  uint32_t groups, uint64_t taps, int depthwise)
{
	const uint32_t out = w->dims[0];
	const int32_t *bias = vector_at(model, op->bias, LB_DTYPE_INT32, out);
	const float *multiplier = vector_at(model, op->multiplier, LB_DTYPE_FLOAT32, out);

	if (!bias || !multiplier || (w->layout == LB_LAYOUT_CHANNELS_LAST) != depthwise ||
	    (!depthwise && w->bytes != groups * lb_dot4_bytes(out / groups, taps)) ||
	    (w->kind == LB_TENSOR_STREAMED && (groups != 1 || depthwise)))
		return LB_ERROR_OP_WEIGHTS;
	if (taps > LB_I8_MAX_TAPS)
		return LB_ERROR_OP_RANGE;
	for (uint32_t i = 0; i < out; i++) {
		if (bias[i] > LB_I8_MAX_BIAS || bias[i] < -LB_I8_MAX_BIAS)
			return LB_ERROR_OP_RANGE;
		if (!(multiplier[i] >= 0.0f && multiplier[i] <= LB_MAX_SCALE))
			return LB_ERROR_OP_SCALE;
	}
	if (w->kind == LB_TENSOR_WEIGHT && !lb_weights_in_range((const int8_t *)(model->weights + w->offset), w->bytes))
		return LB_ERROR_OP_RANGE;
	return LB_OK;
}

static enum lb_error check_conv2d(struct lb_model *model, const struct lb_op *op, const struct lb_tensor *in,
				  const struct lb_tensor *out)
{
	const struct lb_tensor *w = lb_weight_at(model, op->weight);
	const uint32_t groups = op->attr[6];
	const int depthwise = groups == in->dims[0] && groups == out->dims[0];
	const struct lb_conv2d_i8 whole = {.conv = lb_conv2d_of(op, in, w, out), .count = out->dims[0]};
	enum lb_error error;

	error = check_filter(model, op, w, groups, (uint64_t)w->dims[1] * w->dims[2] * w->dims[3], depthwise);
	if (error || depthwise)
		return error;
	return lb_add_scratch(model, lb_conv2d_i8_scratch_bytes(&whole));
}

static enum lb_error check_linear(struct lb_model *model, const struct lb_op *op, const struct lb_tensor *in)
{
	const struct lb_tensor *w = lb_weight_at(model, op->weight);
	enum lb_error error = check_filter(model, op, w, 1, in->dims[0], 0);

	if (model->tensors[op->output].dtype == LB_DTYPE_FLOAT32 && op->fused)
		return LB_ERROR_OP_FUSED;
	return error ? error : lb_add_scratch(model, lb_linear_i8_scratch_bytes(in->dims[0]));
}

static enum lb_error check_ratios(const struct lb_model *model, const struct lb_op *op, const struct lb_tensor *out)
{
	for (uint32_t i = 0; i < op->n_inputs; i++)
		if (!(lb_input(model, op, i)->scale / out->scale <= LB_I8_MAX_RATIO))
			return LB_ERROR_OP_SCALE;
	return LB_OK;
}

static enum lb_error check_dtypes(const struct lb_model *model, const struct lb_op *op, const struct lb_tensor *out)
{
	const uint32_t from = op->kind == LB_OP_QUANTIZE ? LB_DTYPE_FLOAT32 : LB_DTYPE_INT8;
	const uint32_t to = op->kind == LB_OP_DEQUANTIZE ? LB_DTYPE_FLOAT32 : LB_DTYPE_INT8;

	for (uint32_t i = 0; i < op->n_inputs; i++)
		if (lb_input(model, op, i)->dtype != from)
			return LB_ERROR_OP_DTYPE;
	if (out->dtype != to && op->kind != LB_OP_LINEAR)
		return LB_ERROR_OP_DTYPE;
	return LB_OK;
}

enum lb_error lb_check_op_i8(struct lb_model *model, const struct lb_op *op)
{
	const struct lb_tensor *in = lb_input(model, op, 0), *out = &model->tensors[op->output];
	const enum lb_error error = check_dtypes(model, op, out);

	if (error)
		return error;
	switch (op->kind) {
	case LB_OP_QUANTIZE:
	case LB_OP_DEQUANTIZE: return LB_OK;
	case LB_OP_CONV2D: return check_conv2d(model, op, in, out);
	case LB_OP_LINEAR: return check_linear(model, op, in);
	case LB_OP_ADD:
	case LB_OP_CONCAT: return check_ratios(model, op, out);
	case LB_OP_AVG_POOL2D:
		if ((uint64_t)op->attr[0] * op->attr[1] > LB_I8_MAX_TAPS)
			return LB_ERROR_OP_RANGE;
		break;
	case LB_OP_ADAPTIVE_AVG_POOL2D:
		if ((uint64_t)lb_rows(in) * lb_columns(in) > LB_I8_MAX_TAPS)
			return LB_ERROR_OP_RANGE;
		break;
	case LB_OP_RELU:
	case LB_OP_RELU6:
	case LB_OP_MAX_POOL2D:
	case LB_OP_FLATTEN: break;
	default: return LB_ERROR_OP_DTYPE;
	}
	return in->scale >= out->scale && in->scale <= out->scale ? LB_OK : LB_ERROR_OP_SCALE;
}
