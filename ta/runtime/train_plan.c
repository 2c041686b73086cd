/* Whether a model can be trained, and how much memory that takes. */
#include "geometry.h"
#include "lb_train.h"
#include "lb_vector.h"
#include "train_op.h"

struct seen {
	uint8_t written[LB_MAX_TENSORS / 8], read[LB_MAX_TENSORS / 8];
};

static int mark(uint8_t *bits, uint32_t tensor)
{
	const int before = bits[tensor / 8] >> tensor % 8 & 1;

	bits[tensor / 8] = (uint8_t)(bits[tensor / 8] | 1u << tensor % 8);
	return before;
}

/* Marks all tensors of a range of refs; whether one of them was marked before. */
static int mark_all(const struct lb_model *model, uint8_t *bits, uint32_t first, uint32_t n)
{
	int before = 0;

	for (uint32_t i = 0; i < n; i++)
		before |= mark(bits, model->refs[first + i]);
	return before;
}

/* Every tensor is written once. `spare_bytes`: of the largest that is read twice. */
static enum lb_error check_writes(const struct lb_model *model, size_t *spare_bytes)
{
	struct seen seen = {0};
	const struct lb_model_header *h = model->header;
	int again = 0;

	*spare_bytes = 0;
	for (uint32_t s = 0; s < h->n_segments; s++) {
		const struct lb_segment *segment = &model->segments[s];

		if (h->world == LB_WORLD_TEE || s == 0)
			again |= mark_all(model, seen.written, segment->first_input, segment->n_inputs);
		if (h->world == LB_WORLD_REE && segment->world == LB_WORLD_TEE)
			again |= mark_all(model, seen.written, segment->first_output, segment->n_outputs);
		for (uint32_t i = 0; i < segment->n_ops; i++) {
			const struct lb_op *op = &model->ops[segment->first_op + i];

			for (uint32_t j = 0; j < op->n_inputs; j++) {
				const struct lb_tensor *in = lb_input(model, op, j);
				const uint32_t tensor = model->refs[op->first_input + j];

				if (mark(seen.read, tensor) && in->bytes > *spare_bytes)
					*spare_bytes = in->bytes;
			}
			again |= mark(seen.written, op->output);
		}
		/* What leaves a segment gets a gradient from outside before its readers inside are heard. */
		for (uint32_t i = 0; i < segment->n_outputs; i++) {
			const uint32_t tensor = model->refs[segment->first_output + i];

			if (mark(seen.read, tensor) && model->tensors[tensor].bytes > *spare_bytes)
				*spare_bytes = model->tensors[tensor].bytes;
		}
	}
	return again ? LB_ERROR_TRAINING : LB_OK;
}

/* The answer comes out of a softmax, which nothing else reads: its gradient is taken together with the loss's. */
static enum lb_error check_answer(const struct lb_model *model)
{
	const struct lb_model_header *h = model->header;
	const struct lb_segment *last = &model->segments[h->n_segments - 1u];
	const struct lb_op *end;

	if (!h->policy)
		return LB_OK;
	if (last->n_ops == 0)
		return LB_ERROR_TRAINING;
	end = &model->ops[last->first_op + last->n_ops - 1u];
	if (end->kind != LB_OP_SOFTMAX || end->output != model->refs[last->first_output])
		return LB_ERROR_TRAINING;
	return LB_OK;
}

/* Steps of gradient descent are floats'; an int8 weight, or one that comes in slices, has no place to learn in. */
static enum lb_error check_floats(const struct lb_model *model)
{
	for (uint32_t i = 0; i < model->header->n_tensors; i++)
		if (model->tensors[i].dtype != LB_DTYPE_FLOAT32)
			return LB_ERROR_TRAINING;
	return LB_OK;
}

static int add(size_t *at, size_t *bytes, size_t n)
{
	*at = *bytes;
	return n <= LB_MAX_TRAIN_BYTES && lb_add_aligned(bytes, n) && *bytes <= LB_MAX_TRAIN_BYTES;
}

enum lb_error lb_train_plan(const struct lb_model *model, struct lb_train_plan *plan)
{
	const struct lb_model_header *h = model->header;
	size_t values = 0, spare, scratch = model->scratch_bytes;
	enum lb_error error = check_floats(model);

	*plan = (struct lb_train_plan){0};
	if (error == LB_OK)
		error = check_writes(model, &spare);
	if (error == LB_OK)
		error = check_answer(model);
	if (error)
		return error;
	for (uint32_t i = 0; i < h->n_tensors; i++)
		if (model->tensors[i].kind == LB_TENSOR_ACTIVATION &&
		    (!lb_add_aligned(&values, model->tensors[i].bytes) || values > LB_MAX_TRAIN_BYTES))
			return LB_ERROR_SCRATCH;
	for (uint32_t i = 0; i < h->n_ops; i++) {
		size_t bytes = lb_op_backward_scratch_bytes(model, &model->ops[i]);

		if (bytes > LB_MAX_SCRATCH_BYTES)
			return LB_ERROR_SCRATCH;
		scratch = bytes > scratch ? bytes : scratch;
	}
	if (!add(&plan->tensors, &plan->bytes, h->n_tensors * sizeof(struct lb_tensor)) ||
	    !add(&plan->flags, &plan->bytes, h->n_tensors) || !add(&plan->values, &plan->bytes, values) ||
	    !add(&plan->gradients, &plan->bytes, values) ||
	    !add(&plan->weight_gradients, &plan->bytes, h->weights_bytes) ||
	    !add(&plan->velocities, &plan->bytes, h->weights_bytes) || !add(&plan->spare, &plan->bytes, spare) ||
	    !add(&plan->scratch, &plan->bytes, scratch))
		return LB_ERROR_SCRATCH;
	return LB_OK;
}

static uint64_t end_of(uint64_t at, uint64_t off, uint64_t n, uint64_t size)
{
	return off + n * size > at ? off + n * size : at;
}

enum lb_error lb_training_find(const struct lb_model *model, const struct lb_training **training,
			       const struct lb_dropout **dropouts)
{
	const struct lb_model_header *h = model->header;
	const unsigned char *file = (const unsigned char *)h, *rest;
	const struct lb_training *found;
	uint64_t at = sizeof(*h), bytes;

	*training = NULL;
	*dropouts = NULL;
	at = end_of(at, h->tensors_off, h->n_tensors, sizeof(struct lb_tensor));
	at = end_of(at, h->ops_off, h->n_ops, sizeof(struct lb_op));
	at = end_of(at, h->segments_off, h->n_segments, sizeof(struct lb_segment));
	at = end_of(at, h->refs_off, h->n_refs, sizeof(uint32_t));
	at = end_of(at, h->weights_off, h->weights_bytes, 1);
	at = end_of(at, h->slices_off, h->n_slices, sizeof(struct lb_slice));
	at = end_of(at, h->slice_key_off, h->n_slices ? LB_SLICE_KEY_BYTES : 0, 1);
	at = (at + LB_ALIGN - 1u) / LB_ALIGN * LB_ALIGN;
	if (at >= h->file_bytes)
		return LB_OK;
	if (h->file_bytes - at < sizeof(*found))
		return LB_ERROR_TRAINING;
	found = (const void *)(file + at);
	if (found->magic != LB_TRAINING_MAGIC || found->format != LB_TRAINING_FORMAT || found->gives_gradient > 1 ||
	    found->n_dropouts > LB_MAX_DROPOUTS)
		return LB_ERROR_TRAINING;
	for (size_t i = 0; i < sizeof(found->reserved) / sizeof(found->reserved[0]); i++)
		if (found->reserved[i])
			return LB_ERROR_TRAINING;
	bytes = sizeof(*found) + found->n_dropouts * sizeof(struct lb_dropout);
	if (h->file_bytes - at != (bytes + LB_ALIGN - 1u) / LB_ALIGN * LB_ALIGN)
		return LB_ERROR_TRAINING;
	rest = file + at + bytes;
	for (; rest < file + h->file_bytes; rest++)
		if (*rest)
			return LB_ERROR_TRAINING;
	*training = found;
	*dropouts = (const void *)(file + at + sizeof(*found));
	return lb_train_check_dropouts(model, *dropouts, found->n_dropouts);
}

enum lb_error lb_train_check_dropouts(const struct lb_model *model, const struct lb_dropout *dropouts, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct lb_op *op;

		if (dropouts[i].op >= model->header->n_ops || (i && dropouts[i].op <= dropouts[i - 1u].op))
			return LB_ERROR_TRAINING;
		op = &model->ops[dropouts[i].op];
		/* Where RELU6 has cut off can no longer be seen after a dropout; a softmax is the loss's. */
		if (op->kind == LB_OP_RELU6 || op->fused == LB_OP_RELU6 || op->kind == LB_OP_SOFTMAX)
			return LB_ERROR_TRAINING;
	}
	return LB_OK;
}
