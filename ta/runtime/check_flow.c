/*
 * Data flow: every tensor that is read was written earlier in the same query and not overwritten since. Without this
 * a file could make the secure world answer with what an earlier query left in the arena.
 */
#include "geometry.h"

struct flow {
	const struct lb_model *model;
	uint8_t written[LB_MAX_TENSORS / 8];
};

static int is_written(const struct flow *flow, uint32_t tensor)
{
	return flow->written[tensor / 8] >> tensor % 8 & 1;
}

/* Marks `tensor` written, and all that share bytes with it lost. */
static void write_tensor(struct flow *flow, uint32_t tensor)
{
	const struct lb_tensor *t = &flow->model->tensors[tensor];

	for (uint32_t i = 0; i < flow->model->header->n_tensors; i++) {
		const struct lb_tensor *other = &flow->model->tensors[i];

		if (other->kind == LB_TENSOR_ACTIVATION && other->offset < (uint64_t)t->offset + t->bytes &&
		    t->offset < (uint64_t)other->offset + other->bytes)
			flow->written[i / 8] = (uint8_t)(flow->written[i / 8] & ~(1u << i % 8));
	}
	flow->written[tensor / 8] = (uint8_t)(flow->written[tensor / 8] | 1u << tensor % 8);
}

static int all_written(const struct flow *flow, uint32_t first, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (!is_written(flow, flow->model->refs[first + i]))
			return 0;
	return 1;
}

static void write_all(struct flow *flow, uint32_t first, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		write_tensor(flow, flow->model->refs[first + i]);
}

enum lb_error lb_check_flow(struct lb_model *model)
{
	const struct lb_model_header *h = model->header;
	struct flow flow = {.model = model};

	for (uint32_t s = 0; s < h->n_segments; s++) {
		const struct lb_segment *segment = &model->segments[s];

		/* The secure world is handed every input anew and keeps nothing between two calls. */
		if (h->world == LB_WORLD_TEE)
			__builtin_memset(flow.written, 0, sizeof(flow.written));
		if (h->world == LB_WORLD_TEE || s == 0)
			write_all(&flow, segment->first_input, segment->n_inputs);
		model->fault = s;
		if (!all_written(&flow, segment->first_input, segment->n_inputs))
			return LB_ERROR_UNWRITTEN;
		if (h->world == LB_WORLD_REE && segment->world == LB_WORLD_TEE) {
			write_all(&flow, segment->first_output, segment->n_outputs);
			continue;
		}
		for (uint32_t i = 0; i < segment->n_ops; i++) {
			const struct lb_op *op = &model->ops[segment->first_op + i];

			model->fault = segment->first_op + i;
			if (!all_written(&flow, op->first_input, op->n_inputs))
				return LB_ERROR_UNWRITTEN;
			write_tensor(&flow, op->output);
		}
		model->fault = s;
		if (!all_written(&flow, segment->first_output, segment->n_outputs))
			return LB_ERROR_UNWRITTEN;
	}
	model->fault = 0;
	return LB_OK;
}
