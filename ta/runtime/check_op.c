/* One op against its tensors: everything that its kernel takes for granted. */
#include "geometry.h"

/* 1.0f: floats from +0 to it have these bits or lower ones; all others, negative and NaN among them, higher ones. */
#define ONE_BITS 0x3F800000u

/* Output length of a window that slides over `in`, PyTorch's formula; 0 when it does not fit once. */
static uint64_t slide(uint64_t in, uint64_t kernel, uint64_t stride, uint64_t pad, uint64_t dilation, int ceil)
{
	uint64_t extent = dilation * (kernel - 1u) + 1u, padded = in + 2u * pad, out;

	if (padded < extent)
		return 0;
	out = (padded - extent + (ceil ? stride - 1u : 0u)) / stride + 1u;
	/* The last window must start in the input or in the padding on its left. */
	if (ceil && (out - 1u) * stride >= in + pad)
		out--;
	return out;
}

static int within(uint32_t value, uint32_t low, uint32_t high)
{
	return value >= low && value <= high;
}

static int same_shape(const struct lb_tensor *a, const struct lb_tensor *b)
{
	return a->rank == b->rank && a->dims[0] == b->dims[0] && a->dims[1] == b->dims[1] && a->dims[2] == b->dims[2];
}

const struct lb_tensor *lb_weight_at(const struct lb_model *model, uint32_t index)
{
	if (index >= model->header->n_tensors || model->tensors[index].kind == LB_TENSOR_ACTIVATION)
		return NULL;
	return &model->tensors[index];
}

static const struct lb_tensor *weight_at(const struct lb_model *model, uint32_t index, uint32_t dtype)
{
	const struct lb_tensor *t = lb_weight_at(model, index);

	return t && t->dtype == dtype ? t : NULL;
}

static int is_vector(const struct lb_tensor *t, uint32_t n)
{
	return t && t->layout == LB_LAYOUT_PLAIN && t->rank == 1 && t->dims[0] == n;
}

/* Bytes of [groups][ceil(out/groups/8)][k][8] floats; below 2^63 as dims are below 2^24 and their product 2^28. */
static uint64_t packed_bytes(const struct lb_tensor *weight, uint64_t groups)
{
	uint64_t blocks = (weight->dims[0] / groups + LB_LANES - 1u) / LB_LANES;

	return groups * blocks * LB_LANES * sizeof(float) * weight->dims[1] * weight->dims[2] * weight->dims[3];
}

enum lb_error lb_add_scratch(struct lb_model *model, size_t bytes)
{
	if (bytes > LB_MAX_SCRATCH_BYTES)
		return LB_ERROR_SCRATCH;
	if (bytes > model->scratch_bytes)
		model->scratch_bytes = bytes;
	return LB_OK;
}

static enum lb_error check_conv2d(struct lb_model *model, const struct lb_op *op, const struct lb_tensor *in,
				  const struct lb_tensor *out)
{
	const uint32_t dtype = lb_is_i8(model, op) ? LB_DTYPE_INT8 : LB_DTYPE_FLOAT32;
	const struct lb_tensor *w = weight_at(model, op->weight, dtype);
	const uint32_t *a = op->attr, groups = a[6];
	struct lb_conv2d conv;

	if (in->rank != 3 || out->rank != 3)
		return LB_ERROR_OP_SHAPE;
	if (!within(a[0], 1, LB_MAX_ATTR) || !within(a[1], 1, LB_MAX_ATTR) || !within(a[2], 0, LB_MAX_ATTR) ||
	    !within(a[3], 0, LB_MAX_ATTR) || !within(a[4], 1, LB_MAX_ATTR) || !within(a[5], 1, LB_MAX_ATTR) ||
	    groups == 0 || in->dims[0] % groups || out->dims[0] % groups)
		return LB_ERROR_OP_ATTR;
	if (!w || w->rank != 4 || w->dims[0] != out->dims[0] || w->dims[1] != in->dims[0] / groups ||
	    !within(w->dims[2], 1, LB_MAX_ATTR) || !within(w->dims[3], 1, LB_MAX_ATTR))
		return LB_ERROR_OP_WEIGHTS;
	if (slide(in->dims[1], w->dims[2], a[0], a[2], a[4], 0) != out->dims[1] ||
	    slide(in->dims[2], w->dims[3], a[1], a[3], a[5], 0) != out->dims[2])
		return LB_ERROR_OP_SHAPE;
	if (dtype == LB_DTYPE_INT8)
		return lb_check_op_i8(model, op);
	if (op->multiplier != LB_NONE || !is_vector(weight_at(model, op->bias, dtype), out->dims[0]) ||
	    (w->layout == LB_LAYOUT_PLAIN ? w->dims[1] != 1 : w->bytes != packed_bytes(w, groups)))
		return LB_ERROR_OP_WEIGHTS;
	conv = lb_conv2d_of(op, in, w, out);
	return lb_add_scratch(model, w->layout == LB_LAYOUT_PLAIN ? lb_conv2d_depthwise_scratch_bytes(&conv)
								  : lb_conv2d_scratch_bytes(&conv));
}

static enum lb_error check_linear(struct lb_model *model, const struct lb_op *op, const struct lb_tensor *in,
				  const struct lb_tensor *out)
{
	const uint32_t dtype = lb_is_i8(model, op) ? LB_DTYPE_INT8 : LB_DTYPE_FLOAT32;
	const struct lb_tensor *w = weight_at(model, op->weight, dtype);

	if (in->rank != 1 || out->rank != 1)
		return LB_ERROR_OP_SHAPE;
	if (!w || w->rank != 2 || w->dims[0] != out->dims[0] || w->dims[1] != in->dims[0])
		return LB_ERROR_OP_WEIGHTS;
	if (dtype == LB_DTYPE_INT8)
		return lb_check_op_i8(model, op);
	if (op->multiplier != LB_NONE || w->layout != LB_LAYOUT_PACKED8 || w->bytes != packed_bytes(w, 1) ||
	    !is_vector(weight_at(model, op->bias, dtype), out->dims[0]))
		return LB_ERROR_OP_WEIGHTS;
	return LB_OK;
}

static enum lb_error check_pool(const struct lb_op *op, const struct lb_tensor *in, const struct lb_tensor *out)
{
	const uint32_t *a = op->attr;
	const int is_max = op->kind == LB_OP_MAX_POOL2D;
	uint32_t dilation_h = is_max ? a[6] : 1, dilation_w = is_max ? a[7] : 1, ceil = is_max ? a[8] : a[6];

	if (in->rank != 3 || out->rank != 3 || in->dims[0] != out->dims[0])
		return LB_ERROR_OP_SHAPE;
	for (uint32_t i = 0; i < 4; i++)
		if (!within(a[i], 1, LB_MAX_ATTR))
			return LB_ERROR_OP_ATTR;
	/* PyTorch's own rule: padding is at most half a window. */
	if (a[4] > a[0] / 2 || a[5] > a[1] / 2 || !within(dilation_h, 1, LB_MAX_ATTR) ||
	    !within(dilation_w, 1, LB_MAX_ATTR) || ceil > 1 || (!is_max && (a[7] > 1 || a[8])))
		return LB_ERROR_OP_ATTR;
	if (slide(in->dims[1], a[0], a[2], a[4], dilation_h, (int)ceil) != out->dims[1] ||
	    slide(in->dims[2], a[1], a[3], a[5], dilation_w, (int)ceil) != out->dims[2])
		return LB_ERROR_OP_SHAPE;
	return LB_OK;
}

static enum lb_error check_concat(const struct lb_model *model, const struct lb_op *op, const struct lb_tensor *out)
{
	uint64_t channels = 0;

	for (uint32_t i = 0; i < op->n_inputs; i++) {
		const struct lb_tensor *in = lb_input(model, op, i);

		if (in->rank != out->rank || in->dims[1] != out->dims[1] || in->dims[2] != out->dims[2])
			return LB_ERROR_OP_SHAPE;
		channels += in->dims[0];
	}
	return channels == out->dims[0] ? LB_OK : LB_ERROR_OP_SHAPE;
}

/* Which fields an op uses: a reader that ignored the others would accept two files for one model. */
static enum lb_error check_fields(const struct lb_op *op)
{
	static const struct {
		uint8_t attrs, weights, fuses;
	} uses[] = {
		[LB_OP_CONV2D] = {7, 1, 1},     [LB_OP_LINEAR] = {0, 1, 1},   [LB_OP_BATCH_NORM] = {0, 1, 1},
		[LB_OP_RELU] = {0, 0, 0},       [LB_OP_RELU6] = {0, 0, 0},    [LB_OP_MAX_POOL2D] = {9, 0, 0},
		[LB_OP_AVG_POOL2D] = {8, 0, 0}, [LB_OP_ADD] = {0, 0, 1},      [LB_OP_ADAPTIVE_AVG_POOL2D] = {2, 0, 0},
		[LB_OP_CONCAT] = {0, 0, 0},     [LB_OP_FLATTEN] = {0, 0, 0},  [LB_OP_SOFTMAX] = {0, 0, 0},
		[LB_OP_LEAKY_RELU] = {1, 0, 0}, [LB_OP_QUANTIZE] = {0, 0, 0}, [LB_OP_DEQUANTIZE] = {0, 0, 0},
	};

	if (op->kind < LB_OP_CONV2D || op->kind > LB_OP_DEQUANTIZE)
		return LB_ERROR_OP_KIND;
	if (op->fused && (!uses[op->kind].fuses || (op->fused != LB_OP_RELU && op->fused != LB_OP_RELU6)))
		return LB_ERROR_OP_FUSED;
	if (!uses[op->kind].weights && (op->weight != LB_NONE || op->bias != LB_NONE))
		return LB_ERROR_OP_WEIGHTS;
	if (op->multiplier != LB_NONE && op->kind != LB_OP_CONV2D && op->kind != LB_OP_LINEAR)
		return LB_ERROR_OP_WEIGHTS;
	for (size_t i = uses[op->kind].attrs; i < sizeof(op->attr) / sizeof(op->attr[0]); i++)
		if (op->attr[i])
			return LB_ERROR_RESERVED;
	return LB_OK;
}

/* Whether a kernel may write over its input: one that moves bytes, as int8 FLATTEN does, may not. */
static int is_in_place(uint32_t kind, uint32_t dtype)
{
	switch (kind) {
	case LB_OP_RELU:
	case LB_OP_RELU6:
	case LB_OP_ADD: return 1;
	case LB_OP_BATCH_NORM:
	case LB_OP_FLATTEN:
	case LB_OP_SOFTMAX:
	case LB_OP_LEAKY_RELU: return dtype == LB_DTYPE_FLOAT32;
	default: return 0;
	}
}

static enum lb_error check_tensors(const struct lb_model *model, const struct lb_op *op)
{
	const struct lb_model_header *h = model->header;
	const struct lb_tensor *out;
	const uint32_t kind = op->kind;
	int in_place;

	if (op->first_input > h->n_refs || op->n_inputs > h->n_refs - op->first_input || op->output >= h->n_tensors)
		return LB_ERROR_REF;
	if (kind == LB_OP_CONCAT ? op->n_inputs < 1 : op->n_inputs != (kind == LB_OP_ADD ? 2u : 1u))
		return LB_ERROR_OP_INPUTS;
	out = &model->tensors[op->output];
	if (out->kind != LB_TENSOR_ACTIVATION)
		return LB_ERROR_OP_INPUTS;
	in_place = is_in_place(kind, out->dtype);
	for (uint32_t i = 0; i < op->n_inputs; i++) {
		const struct lb_tensor *in = lb_input(model, op, i);

		if (in->kind != LB_TENSOR_ACTIVATION)
			return LB_ERROR_OP_INPUTS;
		if (in_place && in->offset == out->offset && in->bytes == out->bytes)
			continue;
		if (in->offset < (uint64_t)out->offset + out->bytes && out->offset < (uint64_t)in->offset + in->bytes)
			return LB_ERROR_OP_OVERLAP;
	}
	return LB_OK;
}

enum lb_error lb_check_op(struct lb_model *model, const struct lb_op *op)
{
	const struct lb_tensor *in, *out;
	enum lb_error error = check_fields(op);

	if (error == LB_OK)
		error = check_tensors(model, op);
	if (error)
		return error;
	in = lb_input(model, op, 0);
	out = &model->tensors[op->output];
	switch (op->kind) {
	case LB_OP_CONV2D: return check_conv2d(model, op, in, out);
	case LB_OP_LINEAR: return check_linear(model, op, in, out);
	default: break;
	}
	if (lb_is_i8(model, op))
		error = lb_check_op_i8(model, op);
	else if (op->kind == LB_OP_QUANTIZE || op->kind == LB_OP_DEQUANTIZE)
		error = LB_ERROR_OP_DTYPE;
	if (error)
		return error;
	switch (op->kind) {
	case LB_OP_BATCH_NORM:
		if (!is_vector(weight_at(model, op->weight, LB_DTYPE_FLOAT32), in->dims[0]) ||
		    !is_vector(weight_at(model, op->bias, LB_DTYPE_FLOAT32), in->dims[0]))
			return LB_ERROR_OP_WEIGHTS;
		return same_shape(in, out) ? LB_OK : LB_ERROR_OP_SHAPE;
	case LB_OP_QUANTIZE:
	case LB_OP_DEQUANTIZE:
	case LB_OP_RELU:
	case LB_OP_RELU6: return same_shape(in, out) ? LB_OK : LB_ERROR_OP_SHAPE;
	case LB_OP_LEAKY_RELU:
		if (op->attr[0] > ONE_BITS)
			return LB_ERROR_OP_ATTR;
		return same_shape(in, out) ? LB_OK : LB_ERROR_OP_SHAPE;
	case LB_OP_ADD:
		return same_shape(in, out) && same_shape(lb_input(model, op, 1), out) ? LB_OK : LB_ERROR_OP_SHAPE;
	case LB_OP_MAX_POOL2D:
	case LB_OP_AVG_POOL2D: return check_pool(op, in, out);
	case LB_OP_ADAPTIVE_AVG_POOL2D:
		if (op->attr[0] != lb_rows(out) || op->attr[1] != lb_columns(out))
			return LB_ERROR_OP_ATTR;
		return in->rank == 3 && out->rank == 3 && in->dims[0] == out->dims[0] ? LB_OK : LB_ERROR_OP_SHAPE;
	case LB_OP_CONCAT: return check_concat(model, op, out);
	case LB_OP_FLATTEN: return out->rank == 1 && lb_elements(in) == out->dims[0] ? LB_OK : LB_ERROR_OP_SHAPE;
	case LB_OP_SOFTMAX: return in->rank == 1 && same_shape(in, out) ? LB_OK : LB_ERROR_OP_SHAPE;
	default: return LB_ERROR_OP_KIND;
	}
}
