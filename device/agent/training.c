#define _POSIX_C_SOURCE 200809L
#include "training.h"

#include <stdlib.h>
#include <string.h>

#include "lb_train.h"
#include "leakboard_ta.h"
#include "tee_train.h"

struct training {
	struct lb_train train;
	struct lb_sgd sgd;
	struct lb_dropout dropouts[LB_MAX_DROPOUTS];
	void *block;
	struct tee_training tee;
};

/* One batch on its way. */
struct step {
	struct deployment *deployment;
	struct training *training;
	clockid_t clock;
	uint64_t *invoke_ns;
	struct failure *failure;
};

static const struct lb_segment *segment_of(const struct deployment *deployment, uint32_t s)
{
	return &deployment->model.segments[s];
}

static int is_tee(const struct deployment *deployment, uint32_t s)
{
	return segment_of(deployment, s)->world == LB_WORLD_TEE;
}

static int is_answer(const struct deployment *deployment, uint32_t s)
{
	return s + 1u == deployment->model.header->n_segments;
}

void training_drop(struct deployment *deployment)
{
	struct training *training = deployment->training;

	if (!training)
		return;
	tee_train_end(&deployment->tee, &training->tee);
	free(training->block);
	free(training);
	deployment->training = NULL;
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

static int begin_tee(struct deployment *deployment, const struct lb_train_begin *begin, struct failure *failure)
{
	struct training *training = deployment->training;
	size_t most_in = 0, most_out = 0;
	int first_is_tee = is_tee(deployment, 0);

	for (uint32_t s = 0; s < deployment->model.header->n_segments; s++) {
		size_t in = lb_segment_input_bytes(&deployment->model, s);
		size_t out = is_answer(deployment, s) ? 0 : lb_segment_output_bytes(&deployment->model, s);

		if (!is_tee(deployment, s))
			continue;
		most_in = larger(most_in, larger(in, out));
		most_out = larger(most_out, larger(in, out));
	}
	if (!deployment->switches)
		return 1;
	if (!tee_train_begin(&deployment->tee, &training->tee, &training->sgd, begin->seed, most_in, most_out, failure))
		return 0;
	if (!first_is_tee && !training->tee.gives_gradient)
		return fail(failure, LB_AGENT_TRAINING, 0,
			    "the sealed model gives no gradient to the public layers before it");
	return 1;
}

static int begin_public(struct deployment *deployment, const struct lb_train_begin *begin, const void *dropouts,
			struct failure *failure)
{
	struct training *training = deployment->training;
	const struct lb_model *model = &deployment->model;
	struct lb_train_plan plan;
	enum lb_error error;

	memcpy(training->dropouts, dropouts, begin->n_dropouts * sizeof(struct lb_dropout));
	error = lb_train_plan(model, &plan);
	if (error == LB_OK)
		error = lb_train_check_dropouts(model, training->dropouts, begin->n_dropouts);
	if (error)
		return fail(failure, LB_AGENT_TRAINING, (uint32_t)error, "the public file is refused: %s",
			    lb_strerror(error));
	training->block = aligned_alloc(LB_ALIGN, plan.bytes);
	if (!training->block)
		return fail(failure, LB_AGENT_MEMORY, 0, "no memory for training: %zu bytes", plan.bytes);
	memset(training->block, 0, plan.bytes);
	lb_train_begin(&training->train, model, &plan, deployment->file + model->header->weights_off, training->block,
		       0);
	training->train.dropouts = training->dropouts;
	training->train.n_dropouts = begin->n_dropouts;
	training->train.seed = (uint64_t)begin->seed << 32 | 1u << 31; /* not the TA's */
	return 1;
}

int training_begin(struct deployment *deployment, const struct lb_train_begin *begin, const void *dropouts,
		   struct lb_train_begun *begun, struct failure *failure)
{
	const struct lb_sgd sgd = {begin->learning_rate, begin->momentum, begin->weight_decay};

	training_drop(deployment);
	if (!lb_sgd_is_sound(&sgd))
		return fail(failure, LB_AGENT_PROTOCOL, 0,
			    "learning rate %g, momentum %g, weight decay %g: at least 0, the momentum below 1",
			    (double)sgd.learning_rate, (double)sgd.momentum, (double)sgd.weight_decay);
	deployment->training = calloc(1, sizeof(*deployment->training));
	if (!deployment->training)
		return fail(failure, LB_AGENT_MEMORY, 0, "no memory for training");
	deployment->training->sgd = sgd;
	if (!begin_public(deployment, begin, dropouts, failure) || !begin_tee(deployment, begin, failure)) {
		training_drop(deployment);
		return 0;
	}
	*begun = (struct lb_train_begun){
		.boundary_bytes = (uint32_t)deployment->boundary_bytes,
		.gradient_bytes = deployment->model.header->weights_bytes,
		.ree_bytes = deployment->training->train.plan.bytes,
		.tee_bytes = deployment->training->tee.bytes,
	};
	return 1;
}

static int call(const struct step *step, uint32_t command, uint32_t a, uint32_t b, size_t in, size_t out)
{
	return tee_train_run(&step->deployment->tee, &step->training->tee, command, a, b, in, out, step->clock,
			     step->invoke_ns, step->failure);
}

/*
 * A hidden segment forward; the one that makes the answer goes backward at once. `crossings` (or what it points to NULL):
 * where the next tensors that cross are kept; `record`: the end of where their gradients are.
 */
static int forward_tee(const struct step *step, uint32_t s, uint32_t tee_segment, uint32_t label,
		       unsigned char **crossings, unsigned char **record)
{
	struct training *training = step->training;
	struct lb_train *train = &training->train;
	size_t in = lb_segment_input_bytes(&train->model, s), out, back;

	lb_train_get_inputs(train, s, training->tee.in.buffer);
	if (*crossings) {
		lb_train_get_inputs(train, s, *crossings);
		*crossings += in;
	}
	if (!is_answer(step->deployment, s)) {
		out = lb_segment_output_bytes(&train->model, s);
		if (!call(step, LEAKBOARD_CMD_TRAIN_FORWARD, tee_segment, 0, in, out))
			return 0;
		lb_train_put_outputs(train, s, training->tee.out.buffer);
		if (*crossings) {
			lb_train_get_outputs(train, s, *crossings);
			*crossings += out;
		}
		return 1;
	}
	back = tee_segment || training->tee.gives_gradient ? in : 0;
	if (!call(step, LEAKBOARD_CMD_TRAIN_ANSWER, tee_segment, label, in, back))
		return 0;
	if (back)
		lb_train_add_input_gradients(train, s, training->tee.out.buffer);
	if (*record) {
		*record -= in;
		if (back)
			memcpy(*record, training->tee.out.buffer, in);
	}
	return 1;
}

/* A hidden segment backward, which does not make the answer. */
static int backward_tee(const struct step *step, uint32_t s, uint32_t tee_segment, unsigned char **record)
{
	struct training *training = step->training;
	struct lb_train *train = &training->train;
	size_t in = lb_segment_input_bytes(&train->model, s), out = lb_segment_output_bytes(&train->model, s);
	size_t back = tee_segment || training->tee.gives_gradient ? in : 0;

	lb_train_get_output_gradients(train, s, training->tee.in.buffer);
	if (*record) {
		*record -= out;
		memcpy(*record, training->tee.in.buffer, out);
	}
	if (!call(step, LEAKBOARD_CMD_TRAIN_BACKWARD, tee_segment, 0, out, back))
		return 0;
	if (back)
		lb_train_add_input_gradients(train, s, training->tee.out.buffer);
	if (*record) {
		*record -= in;
		if (back)
			memcpy(*record, training->tee.out.buffer, in);
	}
	return 1;
}

/* `crossings`, `record` (or NULL): where what crosses goes, and its gradients, zeros. The latter is filled from its end. */
static int run_sample(const struct step *step, const unsigned char *image, uint32_t label, unsigned char *crossings,
		      unsigned char *record)
{
	struct deployment *deployment = step->deployment;
	struct lb_train *train = &step->training->train;
	const uint32_t n = deployment->model.header->n_segments;
	uint32_t tee_segment = 0;

	if (record)
		record += deployment->boundary_bytes;
	lb_train_new_sample(train);
	lb_train_put_inputs(train, 0, image);
	for (uint32_t s = 0; s < n; s++) {
		if (!is_tee(deployment, s))
			lb_train_forward(train, s);
		else if (!forward_tee(step, s, tee_segment++, label, &crossings, &record))
			return 0;
	}
	if (!is_tee(deployment, n - 1u))
		lb_train_set_loss(train, label);
	else
		tee_segment--;
	for (uint32_t s = n; s-- > 0;) {
		if (!is_tee(deployment, s))
			lb_train_backward(train, s);
		else if (!is_answer(deployment, s) && !backward_tee(step, s, --tee_segment, &record))
			return 0;
	}
	return 1;
}

static int run_batch(const struct step *step, const struct lb_train_batch *batch, const unsigned char *images,
		     const unsigned char *labels, const struct shown *shown)
{
	const size_t crossing_bytes = step->deployment->boundary_bytes;
	struct lb_train *train = &step->training->train;

	for (uint32_t i = 0; i < batch->n_images; i++) {
		uint32_t label;

		memcpy(&label, labels + i * sizeof(label), sizeof(label));
		if (!run_sample(step, images + i * step->deployment->image_bytes, label,
				shown->crossings ? shown->crossings + i * crossing_bytes : NULL,
				shown->boundary ? shown->boundary + i * crossing_bytes : NULL))
			return 0;
	}
	if (shown->gradients)
		memcpy(shown->gradients, train->block + train->plan.weight_gradients,
		       train->model.header->weights_bytes);
	if (batch->update)
		lb_train_step(train, &step->training->sgd, batch->n_images);
	else
		lb_train_drop_batch(train);
	if (!step->training->tee.is_active)
		return 1;
	return tee_train_step(&step->deployment->tee, batch->update != 0, step->clock, step->invoke_ns, step->failure);
}

int training_batch(struct deployment *deployment, const struct lb_train_batch *batch, const unsigned char *images,
		   const unsigned char *labels, const struct shown *shown, struct lb_trained *trained,
		   struct failure *failure)
{
	const clockid_t clock = batch->clock == LB_CLOCK_PROCESS_CPU ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
	const struct step step = {deployment, deployment->training, clock, &trained->invoke_ns, failure};
	struct failure ignored = {0};
	uint64_t start, none = 0;

	*trained = (struct lb_trained){0};
	if (!deployment->training)
		return fail(failure, LB_AGENT_STATE, 0, "TRAIN_BATCH without TRAIN_BEGIN");
	for (uint32_t i = 0; i < batch->n_images; i++) {
		uint32_t label;

		memcpy(&label, labels + i * sizeof(label), sizeof(label));
		if (label >= deployment->model.header->n_classes)
			return fail(failure, LB_AGENT_PROTOCOL, 0, "label %u of a model with %u classes", label,
				    deployment->model.header->n_classes);
	}
	start = now_ns(clock);
	if (!run_batch(&step, batch, images, labels, shown)) {
		lb_train_drop_batch(&deployment->training->train);
		if (deployment->training->tee.is_active)
			tee_train_step(&deployment->tee, 0, clock, &none, &ignored);
		return 0;
	}
	trained->total_ns = now_ns(clock) - start;
	return 1;
}

int training_export(struct deployment *deployment, unsigned char **sealed, size_t *bytes, struct failure *failure)
{
	training_drop(deployment);
	*sealed = NULL;
	*bytes = 0;
	return !deployment->switches || tee_train_export(&deployment->tee, sealed, bytes, failure);
}
