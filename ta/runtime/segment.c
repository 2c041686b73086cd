#include "geometry.h"

static size_t sum_bytes(const struct lb_model *model, uint32_t first, uint32_t n)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < n; i++)
		bytes += model->tensors[model->refs[first + i]].bytes;
	return bytes;
}

size_t lb_segment_input_bytes(const struct lb_model *model, uint32_t segment)
{
	return sum_bytes(model, model->segments[segment].first_input, model->segments[segment].n_inputs);
}

size_t lb_segment_output_bytes(const struct lb_model *model, uint32_t segment)
{
	return sum_bytes(model, model->segments[segment].first_output, model->segments[segment].n_outputs);
}

static void put(const struct lb_model *model, uint32_t first, uint32_t n, unsigned char *arena,
		const unsigned char *from)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct lb_tensor *t = &model->tensors[model->refs[first + i]];

		__builtin_memcpy(arena + t->offset, from, t->bytes);
		from += t->bytes;
	}
}

static void get(const struct lb_model *model, uint32_t first, uint32_t n, const unsigned char *arena, unsigned char *to)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct lb_tensor *t = &model->tensors[model->refs[first + i]];

		__builtin_memcpy(to, arena + t->offset, t->bytes);
		to += t->bytes;
	}
}

void lb_segment_put_inputs(const struct lb_model *model, uint32_t segment, void *arena, const void *from)
{
	put(model, model->segments[segment].first_input, model->segments[segment].n_inputs, arena, from);
}

void lb_segment_get_inputs(const struct lb_model *model, uint32_t segment, const void *arena, void *to)
{
	get(model, model->segments[segment].first_input, model->segments[segment].n_inputs, arena, to);
}

void lb_segment_put_outputs(const struct lb_model *model, uint32_t segment, void *arena, const void *from)
{
	put(model, model->segments[segment].first_output, model->segments[segment].n_outputs, arena, from);
}

void lb_segment_get_outputs(const struct lb_model *model, uint32_t segment, const void *arena, void *to)
{
	get(model, model->segments[segment].first_output, model->segments[segment].n_outputs, arena, to);
}

static float *activation(const struct lb_tensor *t, unsigned char *arena)
{
	return (float *)(void *)(arena + t->offset);
}

static const float *weight(const struct lb_model *model, uint32_t index)
{
	return (const float *)(const void *)(model->weights + model->tensors[index].offset);
}

static void run_conv2d(const struct lb_model *model, const struct lb_op *op, const struct lb_tensor *in,
		       const struct lb_tensor *out, unsigned char *arena, void *scratch)
{
	const struct lb_tensor *w = &model->tensors[op->weight];
	const struct lb_conv2d conv = lb_conv2d_of(op, in, w, out);

	(w->layout == LB_LAYOUT_PLAIN ? lb_conv2d_depthwise
				      : lb_conv2d)(&conv, activation(in, arena), weight(model, op->weight),
						   weight(model, op->bias), activation(out, arena), scratch);
}

static void run_concat(const struct lb_model *model, const struct lb_op *op, float *out, unsigned char *arena)
{
	size_t at = 0;

	for (uint32_t i = 0; i < op->n_inputs; i++) {
		const struct lb_tensor *in = lb_input(model, op, i);

		lb_concat_part(lb_elements(in), at, activation(in, arena), out);
		at += lb_elements(in);
	}
}

void lb_run_op(const struct lb_model *model, const struct lb_op *op, unsigned char *arena, void *scratch)
{
	const struct lb_tensor *in = lb_input(model, op, 0), *out = &model->tensors[op->output];
	const float *x = activation(in, arena);
	float *y = activation(out, arena);
	struct lb_pool2d pool;

	if (lb_is_i8(model, op)) {
		lb_run_op_i8(model, op, arena, scratch);
		return;
	}
	switch (op->kind) {
	case LB_OP_CONV2D: run_conv2d(model, op, in, out, arena, scratch); break;
	case LB_OP_LINEAR:
		lb_linear(in->dims[0], out->dims[0], lb_fused(op), x, weight(model, op->weight),
			  weight(model, op->bias), y);
		break;
	case LB_OP_BATCH_NORM:
		lb_batch_norm(in->dims[0], (size_t)lb_rows(in) * lb_columns(in), lb_fused(op), x,
			      weight(model, op->weight), weight(model, op->bias), y);
		break;
	case LB_OP_RELU: lb_relu(lb_elements(in), x, y); break;
	case LB_OP_RELU6: lb_relu6(lb_elements(in), x, y); break;
	case LB_OP_LEAKY_RELU: lb_leaky_relu(lb_elements(in), lb_slope(op), x, y); break;
	case LB_OP_MAX_POOL2D:
		pool = lb_pool2d_of(op, in, out);
		lb_max_pool2d(&pool, x, y);
		break;
	case LB_OP_AVG_POOL2D:
		pool = lb_pool2d_of(op, in, out);
		lb_avg_pool2d(&pool, x, y);
		break;
	case LB_OP_ADAPTIVE_AVG_POOL2D:
		lb_adaptive_avg_pool2d(in->dims[0], in->dims[1], in->dims[2], out->dims[1], out->dims[2], x, y);
		break;
	case LB_OP_ADD: lb_add(lb_elements(in), lb_fused(op), x, activation(lb_input(model, op, 1), arena), y); break;
	case LB_OP_CONCAT: run_concat(model, op, y, arena); break;
	case LB_OP_FLATTEN: lb_flatten(lb_elements(in), x, y); break;
	case LB_OP_SOFTMAX: lb_softmax(lb_elements(in), x, y); break;
	default: break; /* lb_model_parse() lets no other kind through */
	}
}

enum lb_error lb_segment_run(const struct lb_model *model, uint32_t segment, void *arena, void *scratch)
{
	struct lb_cursor cursor;
	enum lb_error error = lb_cursor_begin(model, segment, &cursor);

	if (error)
		return error;
	lb_cursor_advance(model, &cursor, arena, scratch);
	return cursor.waiting ? LB_ERROR_SLICE_MISSING : LB_OK;
}
