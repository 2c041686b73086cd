/* Ops on int8: from tensors and attributes to the kernels' arguments. */
#include "geometry.h"

static int8_t *bytes_at(const struct lb_tensor *t, unsigned char *arena)
{
	return (int8_t *)(arena + t->offset);
}

static float *floats_at(const struct lb_tensor *t, unsigned char *arena)
{
	return (float *)(void *)(arena + t->offset);
}

static const void *weight(const struct lb_model *model, uint32_t index)
{
	return model->weights + model->tensors[index].offset;
}

void lb_limits(const struct lb_op *op, const struct lb_tensor *out, int32_t *low, int32_t *high)
{
	const uint32_t kind = op->fused ? op->fused : op->kind;

	*low = kind == LB_OP_RELU || kind == LB_OP_RELU6 ? 0 : INT8_MIN;
	*high = INT8_MAX;
	if (kind == LB_OP_RELU6 && 6.0f / out->scale < (float)INT8_MAX) {
		int8_t six;

		lb_quantize(1, 1, 1.0f, &(float){6.0f / out->scale}, &six);
		*high = six;
	}
}

static void run_linear(const struct lb_model *model, const struct lb_op *op, uint32_t first, uint32_t count,
		       const int8_t *matrix, unsigned char *arena, void *scratch)
{
	const struct lb_tensor *in = lb_input(model, op, 0), *out = &model->tensors[op->output];
	const int32_t *bias = weight(model, op->bias);
	const float *multiplier = weight(model, op->multiplier);
	struct lb_linear_i8 slice = {in->dims[0], out->dims[0], first, count, 0, 0};

	if (out->dtype == LB_DTYPE_FLOAT32) {
		lb_linear_i8_f32(&slice, bytes_at(in, arena), matrix, bias, multiplier, floats_at(out, arena), scratch);
		return;
	}
	lb_limits(op, out, &slice.low, &slice.high);
	lb_linear_i8(&slice, bytes_at(in, arena), matrix, bias, multiplier, bytes_at(out, arena), scratch);
}

void lb_run_slice(const struct lb_model *model, const struct lb_op *op, uint32_t first, uint32_t count,
		  const int8_t *filter, unsigned char *arena, void *scratch)
{
	const struct lb_tensor *in = lb_input(model, op, 0), *out = &model->tensors[op->output];
	const struct lb_tensor *w = &model->tensors[op->weight];
	const int32_t *bias = weight(model, op->bias);
	const float *multiplier = weight(model, op->multiplier);
	struct lb_conv2d_i8 slice;

	if (op->kind == LB_OP_LINEAR) {
		run_linear(model, op, first, count, filter, arena, scratch);
		return;
	}
	slice = (struct lb_conv2d_i8){.conv = lb_conv2d_of(op, in, w, out), .first = first, .count = count};
	lb_limits(op, out, &slice.low, &slice.high);
	if (w->layout == LB_LAYOUT_CHANNELS_LAST)
		lb_conv2d_depthwise_i8(&slice, bytes_at(in, arena), filter, bias, multiplier, bytes_at(out, arena));
	else
		lb_conv2d_i8(&slice, bytes_at(in, arena), filter, bias, multiplier, bytes_at(out, arena), scratch);
}

static void run_concat(const struct lb_model *model, const struct lb_op *op, const struct lb_tensor *out,
		       unsigned char *arena)
{
	const size_t plane = (size_t)lb_rows(out) * lb_columns(out);
	size_t at = 0;

	for (uint32_t i = 0; i < op->n_inputs; i++) {
		const struct lb_tensor *in = lb_input(model, op, i);

		lb_concat_part_i8(plane, in->dims[0], at, out->dims[0], in->scale / out->scale, bytes_at(in, arena),
				  bytes_at(out, arena));
		at += in->dims[0];
	}
}

static void run_add(const struct lb_model *model, const struct lb_op *op, const struct lb_tensor *out,
		    unsigned char *arena)
{
	const struct lb_tensor *a = lb_input(model, op, 0), *b = lb_input(model, op, 1);
	int32_t low, high;

	lb_limits(op, out, &low, &high);
	lb_add_i8(lb_elements(out), low, high, a->scale / out->scale, bytes_at(a, arena), b->scale / out->scale,
		  bytes_at(b, arena), bytes_at(out, arena));
}

void lb_run_op_i8(const struct lb_model *model, const struct lb_op *op, unsigned char *arena, void *scratch)
{
	const struct lb_tensor *in = lb_input(model, op, 0), *out = &model->tensors[op->output];
	const size_t plane = (size_t)lb_rows(in) * lb_columns(in);
	const int8_t *x = bytes_at(in, arena);
	int8_t *y = bytes_at(out, arena);
	struct lb_pool2d pool;
	int32_t low, high;

	switch (op->kind) {
	case LB_OP_QUANTIZE: lb_quantize(in->dims[0], plane, 1.0f / out->scale, floats_at(in, arena), y); break;
	case LB_OP_DEQUANTIZE: lb_dequantize(in->dims[0], plane, in->scale, x, floats_at(out, arena)); break;
	case LB_OP_CONV2D:
	case LB_OP_LINEAR: lb_run_slice(model, op, 0, out->dims[0], weight(model, op->weight), arena, scratch); break;
	case LB_OP_RELU:
	case LB_OP_RELU6:
		lb_limits(op, out, &low, &high);
		lb_clamp_i8(lb_elements(in), low, high, x, y);
		break;
	case LB_OP_MAX_POOL2D:
		pool = lb_pool2d_of(op, in, out);
		lb_max_pool2d_i8(&pool, x, y);
		break;
	case LB_OP_AVG_POOL2D:
		pool = lb_pool2d_of(op, in, out);
		lb_avg_pool2d_i8(&pool, x, y);
		break;
	case LB_OP_ADAPTIVE_AVG_POOL2D:
		lb_adaptive_avg_pool2d_i8(in->dims[0], in->dims[1], in->dims[2], out->dims[1], out->dims[2], x, y);
		break;
	case LB_OP_ADD: run_add(model, op, out, arena); break;
	case LB_OP_CONCAT: run_concat(model, op, out, arena); break;
	case LB_OP_FLATTEN: lb_flatten_i8(in->dims[0], plane, x, y); break;
	default: break; /* lb_model_parse() lets no other kind through */
	}
}
