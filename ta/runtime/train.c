#include "lb_train.h"
#include "lb_vector.h"

#include "geometry.h"
#include "train_op.h"

/* Whether a weight of `op` learns; those of a batch norm are frozen. */
static int learns(const struct lb_op *op)
{
	return op->kind == LB_OP_CONV2D || op->kind == LB_OP_LINEAR;
}

/* A table of tensors in which every activation has a place of its own. */
static void place_values(struct lb_train *train, const struct lb_model *model)
{
	struct lb_tensor *tensors = (struct lb_tensor *)(void *)(train->block + train->plan.tensors);
	size_t at = 0;

	for (uint32_t i = 0; i < model->header->n_tensors; i++) {
		tensors[i] = model->tensors[i];
		if (tensors[i].kind != LB_TENSOR_ACTIVATION)
			continue;
		tensors[i].offset = (uint32_t)at; /* below LB_MAX_TRAIN_BYTES, as lb_train_plan() has seen */
		lb_add_aligned(&at, tensors[i].bytes);
	}
	train->model.tensors = tensors;
}

static void want_all(struct lb_train *train, uint32_t first, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		lb_train_flags(train)[train->model.refs[first + i]] |= LB_TRAIN_WANTS;
}

/* A gradient is wanted of all that depends on something that learns, or that must go out. */
static void spread_wants(struct lb_train *train, int gives_gradient)
{
	const struct lb_model *model = &train->model;
	unsigned char *flags = lb_train_flags(train);

	for (uint32_t s = 0; s < model->header->n_segments; s++) {
		const struct lb_segment *segment = &model->segments[s];

		if (model->header->world == LB_WORLD_TEE ? s > 0 || gives_gradient : s == 0 && gives_gradient)
			want_all(train, segment->first_input, segment->n_inputs);
		if (model->header->world == LB_WORLD_REE && segment->world == LB_WORLD_TEE)
			want_all(train, segment->first_output, segment->n_outputs);
		for (uint32_t i = 0; i < segment->n_ops; i++) {
			const struct lb_op *op = &model->ops[segment->first_op + i];

			if (learns(op))
				flags[op->weight] = flags[op->bias] = flags[op->output] = LB_TRAIN_WANTS;
			for (uint32_t j = 0; j < op->n_inputs; j++)
				flags[op->output] |= flags[model->refs[op->first_input + j]] & LB_TRAIN_WANTS;
		}
	}
}

void lb_train_begin(struct lb_train *train, const struct lb_model *model, const struct lb_train_plan *plan,
		    unsigned char *weights, void *block, int gives_gradient)
{
	*train = (struct lb_train){.model = *model, .plan = *plan, .block = block, .weights = weights};
	place_values(train, model);
	spread_wants(train, gives_gradient);
}

void lb_train_new_sample(struct lb_train *train)
{
	unsigned char *flags = lb_train_flags(train);

	for (uint32_t i = 0; i < train->model.header->n_tensors; i++)
		flags[i] &= (unsigned char)~LB_TRAIN_REACHED;
	train->samples++;
}

/* The dropout of op `index`, or NULL. */
static const struct lb_dropout *dropout_of(const struct lb_train *train, uint32_t index)
{
	for (uint32_t i = 0; i < train->n_dropouts; i++)
		if (train->dropouts[i].op == index)
			return &train->dropouts[i];
	return NULL;
}

static void drop_out(struct lb_train *train, uint32_t index, size_t area)
{
	const struct lb_dropout *dropout = dropout_of(train, index);
	const uint32_t tensor = train->model.ops[index].output;

	if (dropout)
		lb_dropout(lb_elements(&train->model.tensors[tensor]), dropout->drop,
			   train->seed + (train->samples << 12) + index, lb_train_floats(train, area, tensor));
}

void lb_train_forward(struct lb_train *train, uint32_t segment)
{
	const struct lb_segment *s = &train->model.segments[segment];
	unsigned char *values = train->block + train->plan.values;

	for (uint32_t i = 0; i < s->n_ops; i++) {
		lb_run_op(&train->model, &train->model.ops[s->first_op + i], values,
			  train->block + train->plan.scratch);
		drop_out(train, s->first_op + i, train->plan.values);
	}
}

void lb_train_set_loss(struct lb_train *train, uint32_t label)
{
	const struct lb_model *model = &train->model;
	const struct lb_segment *last = &model->segments[model->header->n_segments - 1u];
	const struct lb_op *softmax = &model->ops[last->first_op + last->n_ops - 1u];
	const uint32_t logits = model->refs[softmax->first_input];

	lb_cross_entropy_backward(model->header->n_classes, lb_train_floats(train, train->plan.values, softmax->output),
				  label, lb_train_floats(train, train->plan.gradients, logits));
	lb_train_flags(train)[logits] |= LB_TRAIN_REACHED;
}

void lb_train_backward(struct lb_train *train, uint32_t segment)
{
	const struct lb_segment *s = &train->model.segments[segment];

	for (uint32_t i = s->n_ops; i-- > 0;) {
		const uint32_t index = s->first_op + i;
		const struct lb_op *op = &train->model.ops[index];

		if (lb_train_flags(train)[op->output] != (LB_TRAIN_WANTS | LB_TRAIN_REACHED))
			continue;
		drop_out(train, index, train->plan.gradients);
		lb_op_backward(train, op);
	}
}

void lb_train_put_inputs(struct lb_train *train, uint32_t segment, const void *from)
{
	lb_segment_put_inputs(&train->model, segment, train->block + train->plan.values, from);
}

void lb_train_get_inputs(const struct lb_train *train, uint32_t segment, void *to)
{
	lb_segment_get_inputs(&train->model, segment, train->block + train->plan.values, to);
}

void lb_train_put_outputs(struct lb_train *train, uint32_t segment, const void *from)
{
	lb_segment_put_outputs(&train->model, segment, train->block + train->plan.values, from);
}

void lb_train_get_outputs(const struct lb_train *train, uint32_t segment, void *to)
{
	lb_segment_get_outputs(&train->model, segment, train->block + train->plan.values, to);
}

/* `from` may have any alignment. */
static void add_gradients(struct lb_train *train, uint32_t first, uint32_t n, const unsigned char *from)
{
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t tensor = train->model.refs[first + i];
		const struct lb_tensor *t = &train->model.tensors[tensor];
		unsigned char *flags = lb_train_flags(train);
		float *gradient = lb_train_floats(train, train->plan.gradients, tensor), value;

		if (flags[tensor] & LB_TRAIN_REACHED)
			for (size_t j = 0; j < lb_elements(t); j++) {
				__builtin_memcpy(&value, from + j * sizeof(value), sizeof(value));
				gradient[j] += value;
			}
		else
			__builtin_memcpy(gradient, from, t->bytes);
		flags[tensor] |= LB_TRAIN_REACHED;
		from += t->bytes;
	}
}

static void get_gradients(const struct lb_train *train, uint32_t first, uint32_t n, unsigned char *to)
{
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t tensor = train->model.refs[first + i];
		const size_t bytes = train->model.tensors[tensor].bytes;

		if (lb_train_flags(train)[tensor] & LB_TRAIN_REACHED)
			__builtin_memcpy(to, lb_train_floats(train, train->plan.gradients, tensor), bytes);
		else
			__builtin_memset(to, 0, bytes);
		to += bytes;
	}
}

void lb_train_add_input_gradients(struct lb_train *train, uint32_t segment, const void *from)
{
	const struct lb_segment *s = &train->model.segments[segment];

	add_gradients(train, s->first_input, s->n_inputs, from);
}

void lb_train_get_input_gradients(const struct lb_train *train, uint32_t segment, void *to)
{
	const struct lb_segment *s = &train->model.segments[segment];

	get_gradients(train, s->first_input, s->n_inputs, to);
}

void lb_train_add_output_gradients(struct lb_train *train, uint32_t segment, const void *from)
{
	const struct lb_segment *s = &train->model.segments[segment];

	add_gradients(train, s->first_output, s->n_outputs, from);
}

void lb_train_get_output_gradients(const struct lb_train *train, uint32_t segment, void *to)
{
	const struct lb_segment *s = &train->model.segments[segment];

	get_gradients(train, s->first_output, s->n_outputs, to);
}

void lb_train_step(struct lb_train *train, const struct lb_sgd *sgd, uint32_t samples)
{
	for (uint32_t i = 0; i < train->model.header->n_tensors; i++) {
		const struct lb_tensor *t = &train->model.tensors[i];

		if (t->kind == LB_TENSOR_WEIGHT && lb_train_flags(train)[i] & LB_TRAIN_WANTS)
			lb_sgd_step(t->bytes / sizeof(float), sgd, 1.0f / (float)samples,
				    lb_train_floats(train, train->plan.weight_gradients, i),
				    lb_train_floats(train, train->plan.velocities, i),
				    (float *)(void *)(train->weights + t->offset));
	}
}

void lb_train_drop_batch(struct lb_train *train)
{
	__builtin_memset(train->block + train->plan.weight_gradients, 0, train->model.header->weights_bytes);
}

static int is_within(float x, float end)
{
	return x >= 0.0f && x < end; /* not when it is a NaN */
}

int lb_sgd_is_sound(const struct lb_sgd *sgd)
{
	const float infinity = __builtin_inff();

	return is_within(sgd->learning_rate, infinity) && is_within(sgd->momentum, 1.0f) &&
	       is_within(sgd->weight_decay, infinity);
}
