#include "training.h"

#include "lb_sealed_check.h"

#define CROSSING_PARAMETERS                                                                                            \
	TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_MEMREF_INPUT, TEE_PARAM_TYPE_MEMREF_OUTPUT,         \
			TEE_PARAM_TYPE_NONE)
#define OUTPUT_PARAMETERS                                                                                              \
	TEE_PARAM_TYPES(TEE_PARAM_TYPE_MEMREF_OUTPUT, TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE)

static void end_training(struct lb_ta_training *training)
{
	struct lb_tuned_export out = training->out;

	lb_block_free(&training->block);
	TEE_MemFill(training, 0, sizeof(*training));
	training->out = out;
}

void lb_ta_training_close(struct lb_ta_training *training)
{
	end_training(training);
	lb_tuned_export_drop(&training->out);
}

static float float_of(uint32_t bits)
{
	float x;

	TEE_MemMove(&x, &bits, sizeof(x));
	return x;
}

/* What the owner says about training; NULL with BAD_FORMAT or ACCESS_DENIED. */
static const struct lb_training *section_of(const struct lb_held_model *held, const struct lb_dropout **dropouts,
					    TEE_Result *result)
{
	const struct lb_training *section;

	*result = TEE_SUCCESS;
	if (lb_training_find(&held->model, &section, dropouts))
		*result = TEE_ERROR_BAD_FORMAT;
	else if (!section)
		*result = TEE_ERROR_ACCESS_DENIED;
	else if (!lb_p256_is_point(section->owner_key))
		*result = TEE_ERROR_BAD_FORMAT;
	return *result ? NULL : section;
}

TEE_Result lb_ta_train_begin(struct lb_ta_training *training, struct lb_held_model *held, uint32_t types,
			     TEE_Param params[4])
{
	const struct lb_training *section;
	const struct lb_dropout *dropouts;
	struct lb_train_plan plan;
	struct lb_sgd sgd;
	uint64_t seed;
	TEE_Result result;

	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_VALUE_INPUT,
				     TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_NONE))
		return TEE_ERROR_BAD_PARAMETERS;
	sgd = (struct lb_sgd){float_of(params[0].value.a), float_of(params[0].value.b), float_of(params[1].value.a)};
	seed = params[1].value.b;
	if (!lb_sgd_is_sound(&sgd))
		return TEE_ERROR_BAD_PARAMETERS;
	if (!held)
		return TEE_ERROR_BAD_STATE;
	lb_ta_training_close(training);
	params[2].value.a = LB_ERROR_TRAINING;
	params[2].value.b = 0;
	section = section_of(held, &dropouts, &result);
	if (!section)
		return result;
	params[2].value.a = (uint32_t)lb_train_plan(&held->model, &plan);
	if (params[2].value.a)
		return TEE_ERROR_BAD_FORMAT;
	result = lb_block_alloc(&training->block, plan.bytes);
	if (result)
		return result;
	lb_train_begin(&training->train, &held->model, &plan,
		       (unsigned char *)held->file.data + held->model.header->weights_off, training->block.data,
		       (int)section->gives_gradient);
	training->train.dropouts = dropouts;
	training->train.n_dropouts = section->n_dropouts;
	training->train.seed = seed << 32;
	training->sgd = sgd;
	training->gives_gradient = (int)section->gives_gradient;
	training->is_active = 1;
	params[2].value.a = (uint32_t)plan.bytes;
	params[2].value.b = section->gives_gradient;
	return TEE_SUCCESS;
}

static void drop_batch(struct lb_ta_training *training)
{
	if (training->is_active)
		lb_train_drop_batch(&training->train);
	training->forward = training->backward = training->samples = 0;
}

static int makes_answer(const struct lb_ta_training *training, uint32_t segment)
{
	const struct lb_model_header *header = training->train.model.header;

	return header->policy && segment + 1u == header->n_segments;
}

static size_t gradient_bytes(const struct lb_ta_training *training, uint32_t segment)
{
	if (segment == 0 && !training->gives_gradient)
		return 0;
	return lb_segment_input_bytes(&training->train.model, segment);
}

/* Checks a call that takes and gives tensors, its order apart. `out_bytes` is written to p2 when there is no room. */
static TEE_Result check_crossing(uint32_t types, TEE_Param params[4], size_t in_bytes, size_t out_bytes)
{
	if (types != CROSSING_PARAMETERS || !params[1].memref.buffer || params[1].memref.size != in_bytes)
		return TEE_ERROR_BAD_PARAMETERS;
	if (params[2].memref.size < out_bytes || (out_bytes && !params[2].memref.buffer)) {
		params[2].memref.size = out_bytes;
		return TEE_ERROR_SHORT_BUFFER;
	}
	return TEE_SUCCESS;
}

/* Whether a call may run `segment` forward now. */
static int is_forward(const struct lb_ta_training *training, uint32_t types, TEE_Param params[4])
{
	return training->is_active && types == CROSSING_PARAMETERS && params[0].value.a == training->forward &&
	       training->forward < training->train.model.header->n_segments;
}

/* As is_forward() and is_backward() say no, or their parameters are wrong: the batch is gone. */
static TEE_Result refuse(struct lb_ta_training *training, uint32_t types, TEE_Result result)
{
	drop_batch(training);
	return types == CROSSING_PARAMETERS ? result : TEE_ERROR_BAD_PARAMETERS;
}

static void start_forward(struct lb_ta_training *training, uint32_t segment, const void *inputs)
{
	if (segment == 0)
		lb_train_new_sample(&training->train);
	/* The only read of shared memory: from here on the normal world cannot change what is computed on. */
	lb_train_put_inputs(&training->train, segment, inputs);
	lb_train_forward(&training->train, segment);
}

static void finish_backward(struct lb_ta_training *training, uint32_t segment, TEE_Param params[4])
{
	const size_t bytes = gradient_bytes(training, segment);

	lb_train_backward(&training->train, segment);
	if (bytes)
		lb_train_get_input_gradients(&training->train, segment, params[2].memref.buffer);
	params[2].memref.size = bytes;
	training->backward = segment;
	if (segment == 0) {
		training->forward = 0;
		training->samples++;
	}
}

TEE_Result lb_ta_train_forward(struct lb_ta_training *training, uint32_t types, TEE_Param params[4])
{
	const struct lb_model *model = &training->train.model;
	uint32_t segment;
	size_t bytes;
	TEE_Result result;

	if (!is_forward(training, types, params) || makes_answer(training, params[0].value.a))
		return refuse(training, types, TEE_ERROR_BAD_STATE);
	segment = params[0].value.a;
	bytes = lb_segment_output_bytes(model, segment);
	result = params[0].value.b ? TEE_ERROR_BAD_PARAMETERS
				   : check_crossing(types, params, lb_segment_input_bytes(model, segment), bytes);
	if (result)
		return refuse(training, types, result);
	start_forward(training, segment, params[1].memref.buffer);
	lb_train_get_outputs(&training->train, segment, params[2].memref.buffer);
	params[2].memref.size = bytes;
	training->forward = training->backward = segment + 1u;
	return TEE_SUCCESS;
}

TEE_Result lb_ta_train_backward(struct lb_ta_training *training, uint32_t types, TEE_Param params[4])
{
	const struct lb_model *model = &training->train.model;
	uint32_t segment;
	TEE_Result result;

	if (types != CROSSING_PARAMETERS || !training->is_active || training->forward != model->header->n_segments ||
	    params[0].value.a + 1u != training->backward)
		return refuse(training, types, TEE_ERROR_BAD_STATE);
	segment = params[0].value.a;
	result = params[0].value.b ? TEE_ERROR_BAD_PARAMETERS
				   : check_crossing(types, params, lb_segment_output_bytes(model, segment),
						    gradient_bytes(training, segment));
	if (result)
		return refuse(training, types, result);
	lb_train_add_output_gradients(&training->train, segment, params[1].memref.buffer);
	finish_backward(training, segment, params);
	return TEE_SUCCESS;
}

TEE_Result lb_ta_train_answer(struct lb_ta_training *training, uint32_t types, TEE_Param params[4])
{
	const struct lb_model *model = &training->train.model;
	uint32_t segment;
	TEE_Result result;

	if (!is_forward(training, types, params) || !makes_answer(training, params[0].value.a))
		return refuse(training, types, TEE_ERROR_BAD_STATE);
	segment = params[0].value.a;
	result = params[0].value.b >= model->header->n_classes
			 ? TEE_ERROR_BAD_PARAMETERS
			 : check_crossing(types, params, lb_segment_input_bytes(model, segment),
					  gradient_bytes(training, segment));
	if (result)
		return refuse(training, types, result);
	start_forward(training, segment, params[1].memref.buffer);
	lb_train_set_loss(&training->train, params[0].value.b);
	training->forward = segment + 1u;
	finish_backward(training, segment, params);
	return TEE_SUCCESS;
}

TEE_Result lb_ta_train_step(struct lb_ta_training *training, uint32_t types, TEE_Param params[4])
{
	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE,
				     TEE_PARAM_TYPE_NONE) ||
	    params[0].value.a > 1u || params[0].value.b)
		return TEE_ERROR_BAD_PARAMETERS;
	if (!training->is_active || training->forward || training->samples == 0) {
		drop_batch(training);
		return TEE_ERROR_BAD_STATE;
	}
	if (params[0].value.a)
		lb_train_step(&training->train, &training->sgd, training->samples);
	drop_batch(training);
	return TEE_SUCCESS;
}

TEE_Result lb_ta_train_end(struct lb_ta_training *training, uint32_t types)
{
	if (types !=
	    TEE_PARAM_TYPES(TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE))
		return TEE_ERROR_BAD_PARAMETERS;
	if (!training->is_active)
		return TEE_ERROR_BAD_STATE;
	end_training(training);
	return TEE_SUCCESS;
}

/* Whether p0 has room for `bytes`, which it says when it does not. */
static TEE_Result check_room(TEE_Param *out, size_t bytes)
{
	if (out->memref.size >= bytes && out->memref.buffer)
		return TEE_SUCCESS;
	out->memref.size = bytes;
	return TEE_ERROR_SHORT_BUFFER;
}

TEE_Result lb_ta_export_begin(struct lb_ta_training *training, const struct lb_held_model *held, uint32_t types,
			      TEE_Param params[4])
{
	const struct lb_training *section;
	const struct lb_dropout *dropouts;
	TEE_Result result;

	if (types != OUTPUT_PARAMETERS)
		return TEE_ERROR_BAD_PARAMETERS;
	if (!held)
		return TEE_ERROR_BAD_STATE;
	result = check_room(&params[0], sizeof(struct lb_sealed_header));
	if (result)
		return result;
	lb_ta_training_close(training);
	section = section_of(held, &dropouts, &result);
	if (section)
		result = lb_tuned_export_begin(&training->out, held, section->owner_key);
	if (result)
		return result;
	TEE_MemMove(params[0].memref.buffer, &training->out.header, sizeof(training->out.header));
	params[0].memref.size = sizeof(training->out.header);
	return TEE_SUCCESS;
}

TEE_Result lb_ta_export_chunk(struct lb_ta_training *training, const struct lb_held_model *held, uint32_t types,
			      TEE_Param params[4])
{
	struct lb_tuned_export *out = &training->out;
	size_t bytes;
	TEE_Result result;

	if (types != OUTPUT_PARAMETERS)
		return TEE_ERROR_BAD_PARAMETERS;
	if (!held || !out->cipher)
		return TEE_ERROR_BAD_STATE;
	bytes = lb_sealed_record_bytes(&out->header, out->next);
	result = check_room(&params[0], bytes);
	if (result)
		return result;
	result = lb_tuned_export_next(out, held->file.data);
	if (result == TEE_SUCCESS) {
		TEE_MemMove(params[0].memref.buffer, out->record.data, bytes);
		params[0].memref.size = bytes;
	}
	if (result || out->next == out->header.n_chunks)
		lb_tuned_export_drop(out);
	return result;
}
