/* Trains what the parser accepted: two samples forward and backward, a step, and the tuned file is as sound as before. */
#include "fuzz.h"

#define GRADIENT 0x3d /* filled with it, floats are about 0.05 */

static void fill(struct lb_train *train, uint32_t segment, size_t bytes,
		 void (*put)(struct lb_train *train, uint32_t segment, const void *from))
{
	void *values = fuzz_block(bytes, GRADIENT);

	put(train, segment, values);
	free(values);
}

static void drain(const struct lb_train *train, uint32_t segment, size_t bytes,
		  void (*get)(const struct lb_train *train, uint32_t segment, void *to))
{
	void *values = fuzz_block(bytes, 0);

	get(train, segment, values);
	free(values);
}

static int is_elsewhere(const struct lb_train *train, uint32_t segment)
{
	const struct lb_model *model = &train->model;

	return model->header->world == LB_WORLD_REE && model->segments[segment].world == LB_WORLD_TEE;
}

/* As agent and TA do it; what the other world says is always the same. */
static void sample(struct lb_train *train, uint32_t label)
{
	const struct lb_model *model = &train->model;
	const uint32_t n = model->header->n_segments;

	lb_train_new_sample(train);
	for (uint32_t s = 0; s < n; s++) {
		size_t in = lb_segment_input_bytes(model, s), out = lb_segment_output_bytes(model, s);

		if (model->header->world == LB_WORLD_TEE || s == 0)
			fill(train, s, in, lb_train_put_inputs);
		drain(train, s, in, lb_train_get_inputs);
		if (is_elsewhere(train, s))
			fill(train, s, out, lb_train_put_outputs);
		else
			lb_train_forward(train, s);
		drain(train, s, out, lb_train_get_outputs);
	}
	if (model->header->policy)
		lb_train_set_loss(train, label);
	for (uint32_t s = n; s-- > 0;) {
		size_t in = lb_segment_input_bytes(model, s), out = lb_segment_output_bytes(model, s);

		if (is_elsewhere(train, s)) {
			drain(train, s, out, lb_train_get_output_gradients);
			fill(train, s, in, lb_train_add_input_gradients);
			continue;
		}
		if (model->header->world == LB_WORLD_TEE && !(model->header->policy && s + 1u == n))
			fill(train, s, out, lb_train_add_output_gradients);
		lb_train_backward(train, s);
		drain(train, s, in, lb_train_get_input_gradients);
	}
}

static void train(const struct lb_model *model, const struct lb_train_plan *plan, const struct lb_dropout *dropouts,
		  uint32_t n_dropouts)
{
	const struct lb_sgd sgd = {0.01f, 0.9f, 0.001f};
	const struct lb_model_header *h = model->header;
	unsigned char *file = fuzz_block(h->file_bytes, 0), *block = fuzz_block(plan->bytes, 0);
	struct lb_model tuned;
	struct lb_train state;

	memcpy(file, h, h->file_bytes);
	FUZZ_PROMISE(lb_model_parse(&tuned, file, h->file_bytes) == LB_OK);
	lb_train_begin(&state, &tuned, plan, file + h->weights_off, block, 1);
	state.dropouts = dropouts;
	state.n_dropouts = n_dropouts;
	sample(&state, 0);
	lb_train_drop_batch(&state);
	sample(&state, h->n_classes - 1u);
	lb_train_step(&state, &sgd, 1);
	/* Tuning changes weights and nothing else. */
	FUZZ_PROMISE(!memcmp(file, h, sizeof(*h)) && lb_model_parse(&tuned, file, h->file_bytes) == LB_OK);
	free(block);
	free(file);
}

void fuzz_train_model(const struct lb_model *model)
{
	const struct lb_training *section;
	const struct lb_dropout *dropouts;
	struct lb_train_plan plan;

	if (lb_training_find(model, &section, &dropouts) || lb_train_plan(model, &plan) ||
	    plan.bytes > FUZZ_MOST_TRAIN_BYTES)
		return;
	train(model, &plan, dropouts, section ? section->n_dropouts : 0);
}
