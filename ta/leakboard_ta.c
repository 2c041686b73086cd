/* The Trusted Application: entry points and commands. What they take and give is in include/leakboard_ta.h. */
#include <tee_internal_api.h>

#include "device_key.h"
#include "leakboard_ta.h"
#include "model_store.h"
#include "slice_opening.h"
#include "training.h"
#include "user_ta_header_defines.h"

struct session {
	struct lb_loading loading;
	struct lb_held_model held;
	struct lb_ta_training training;
	int is_open;
	uint32_t next; /* the segment that may run */
	uint32_t runs;
	int is_waiting; /* a run, for the slice that `cursor` names */
	uint32_t segment;
	struct lb_cursor cursor;
};

#define NO_PARAMETERS                                                                                                  \
	TEE_PARAM_TYPES(TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE)
#define LOAD_PARAMETERS                                                                                                \
	TEE_PARAM_TYPES(TEE_PARAM_TYPE_MEMREF_INPUT, TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_NONE,                 \
			TEE_PARAM_TYPE_NONE)
#define RUN_PARAMETERS                                                                                                 \
	TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_MEMREF_INPUT, TEE_PARAM_TYPE_MEMREF_OUTPUT,         \
			TEE_PARAM_TYPE_VALUE_OUTPUT)

static void close_model(struct session *session)
{
	lb_ta_training_close(&session->training);
	lb_loading_drop(&session->loading);
	lb_held_model_close(&session->held);
	session->is_open = 0;
	session->is_waiting = 0;
	session->next = 0;
	session->runs = 0;
}

static TEE_Result device_key(uint32_t types, TEE_Param params[4])
{
	uint8_t key[LB_SEALED_KEY_BYTES];
	TEE_ObjectHandle pair;
	TEE_Result result;

	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_MEMREF_OUTPUT, TEE_PARAM_TYPE_NONE, TEE_PARAM_TYPE_NONE,
				     TEE_PARAM_TYPE_NONE))
		return TEE_ERROR_BAD_PARAMETERS;
	if (params[0].memref.size < sizeof(key) || !params[0].memref.buffer) {
		params[0].memref.size = sizeof(key);
		return TEE_ERROR_SHORT_BUFFER;
	}
	result = lb_device_key_open(&pair, key);
	if (result)
		return result;
	TEE_CloseObject(pair);
	TEE_MemMove(params[0].memref.buffer, key, sizeof(key));
	params[0].memref.size = sizeof(key);
	return TEE_SUCCESS;
}

static TEE_Result begin_model(struct session *session, uint32_t types, TEE_Param params[4])
{
	enum lb_sealed_error error = LB_SEALED_OK;
	uint32_t opened = 0;
	TEE_Result result;

	if (types != LOAD_PARAMETERS || !params[0].memref.buffer)
		return TEE_ERROR_BAD_PARAMETERS;
	close_model(session);
	result = lb_loading_begin(&session->loading, params[0].memref.buffer, params[0].memref.size, &error, &opened);
	params[1].value.a = (uint32_t)error;
	params[1].value.b = opened;
	return result;
}

static TEE_Result load_chunk(struct session *session, uint32_t types, TEE_Param params[4])
{
	enum lb_sealed_error error = LB_SEALED_OK;
	uint32_t expected = session->loading.next;
	TEE_Result result;

	if (types != LOAD_PARAMETERS || !params[0].memref.buffer)
		return TEE_ERROR_BAD_PARAMETERS;
	if (!session->loading.is_active)
		return TEE_ERROR_BAD_STATE;
	result = lb_loading_add(&session->loading, params[0].memref.buffer, params[0].memref.size, &error);
	params[1].value.a = (uint32_t)error;
	params[1].value.b = expected;
	return result;
}

static TEE_Result open_model(struct session *session, uint32_t types, TEE_Param params[4])
{
	struct lb_fault fault;
	uint32_t id[4];
	TEE_Result result;

	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_VALUE_INPUT,
				     TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_VALUE_OUTPUT))
		return TEE_ERROR_BAD_PARAMETERS;
	if (!session->loading.is_active)
		return TEE_ERROR_BAD_STATE;
	id[0] = params[0].value.a;
	id[1] = params[0].value.b;
	id[2] = params[1].value.a;
	id[3] = params[1].value.b;
	result = lb_held_model_open(&session->held, &session->loading, id, &fault);
	params[2].value.a = params[2].value.b = 0;
	params[3].value.a = fault.sealed ? (uint32_t)fault.sealed : (uint32_t)fault.model;
	params[3].value.b = fault.index;
	if (result)
		return result;
	session->is_open = 1;
	params[2].value.a = session->held.model.header->n_segments;
	params[2].value.b = session->held.model.header->policy;
	params[3].value.a = session->held.model.header->n_slices;
	params[3].value.b = (uint32_t)lb_slice_buffer_bytes(&session->held.model);
	return TEE_SUCCESS;
}

/* The outputs, or for the model's answer what its policy lets out of it: nothing else reaches `out`. */
static uint32_t write_outputs(const struct session *session, uint32_t segment, void *out)
{
	const struct lb_model *model = &session->held.model;
	const struct lb_model_header *header = model->header;
	const struct lb_tensor *answer;

	if (!header->policy || segment + 1u < header->n_segments) {
		lb_segment_get_outputs(model, segment, session->held.arena.data, out);
		return 0;
	}
	answer = &model->tensors[model->refs[model->segments[segment].first_output]];
	lb_policy_apply(header->policy, header->policy_arg,
			(const float *)(const void *)((unsigned char *)session->held.arena.data + answer->offset),
			header->n_classes, out);
	return header->policy;
}

static size_t output_bytes(const struct session *session, uint32_t segment)
{
	const struct lb_model_header *header = session->held.model.header;

	if (!header->policy || segment + 1u < header->n_segments)
		return lb_segment_output_bytes(&session->held.model, segment);
	return lb_policy_bytes(header->policy, header->n_classes);
}

/* A run that has computed what it can: it waits for slices, or gives its outputs, `bytes` of them. */
static void give(struct session *session, TEE_Param params[4], size_t bytes)
{
	const struct lb_model *model = &session->held.model;
	const uint32_t segment = session->segment;

	session->is_waiting = session->cursor.waiting != 0;
	params[3].value.a = 0;
	params[3].value.b = session->is_waiting ? lb_cursor_missing(model, &session->cursor) : 0;
	params[2].memref.size = session->is_waiting ? 0 : bytes;
	if (session->is_waiting)
		return;
	params[3].value.a = write_outputs(session, segment, params[2].memref.buffer);
	session->next = segment + 1u == model->header->n_segments ? 0 : segment + 1u;
	session->runs++;
}

static TEE_Result run(struct session *session, uint32_t types, TEE_Param params[4])
{
	const struct lb_model *model = &session->held.model;
	uint32_t segment, expected = session->next;
	size_t need;

	session->next = 0; /* until this run has succeeded */
	session->is_waiting = 0;
	if (types != RUN_PARAMETERS)
		return TEE_ERROR_BAD_PARAMETERS;
	segment = params[0].value.a;
	if (!session->is_open || segment >= model->header->n_segments || segment != expected)
		return TEE_ERROR_BAD_STATE;
	if (params[0].value.b || !params[1].memref.buffer ||
	    params[1].memref.size != lb_segment_input_bytes(model, segment))
		return TEE_ERROR_BAD_PARAMETERS;
	need = output_bytes(session, segment);
	if (params[2].memref.size < need || !params[2].memref.buffer) {
		params[2].memref.size = need;
		return TEE_ERROR_SHORT_BUFFER;
	}

	/* The only read of shared memory: from here on the normal world cannot change what is computed on. */
	lb_segment_put_inputs(model, segment, session->held.arena.data, params[1].memref.buffer);
	if (lb_cursor_begin(model, segment, &session->cursor))
		return TEE_ERROR_GENERIC;
	lb_cursor_advance(model, &session->cursor, session->held.arena.data, session->held.scratch.data);
	session->segment = segment;
	give(session, params, need);
	return TEE_SUCCESS;
}

/* Opens and computes one slice after the other. On an error `why` has its number, and the slice's. */
static TEE_Result take_slices(struct session *session, const unsigned char *sealed, size_t bytes, TEE_Param *why)
{
	const struct lb_model *model = &session->held.model;
	struct lb_cursor *cursor = &session->cursor;

	do {
		const size_t record =
			cursor->waiting ? (size_t)model->slices[cursor->slice].bytes + LB_SLICE_TAG_BYTES : SIZE_MAX;
		enum lb_error error = LB_ERROR_ARGUMENT;

		if (record <= bytes)
			error = lb_slice_feed(model, cursor, session->held.arena.data, session->held.scratch.data,
					      session->held.slice.data, sealed, record);
		why->value.a = (uint32_t)error;
		why->value.b = cursor->slice;
		switch (error) {
		case LB_OK: break;
		case LB_ERROR_ARGUMENT: return TEE_ERROR_BAD_PARAMETERS;
		case LB_ERROR_SLICE: return TEE_ERROR_SECURITY;
		default: return TEE_ERROR_BAD_FORMAT;
		}
		lb_cursor_advance(model, cursor, session->held.arena.data, session->held.scratch.data);
		sealed += record;
		bytes -= record;
	} while (bytes);
	return TEE_SUCCESS;
}

static TEE_Result feed_slices(struct session *session, uint32_t types, TEE_Param params[4])
{
	int was_waiting = session->is_waiting;
	TEE_Result result;
	size_t need;

	session->is_waiting = 0; /* until these are taken */
	session->next = 0;
	if (types != RUN_PARAMETERS)
		return TEE_ERROR_BAD_PARAMETERS;
	if (!was_waiting || params[0].value.a != session->segment)
		return TEE_ERROR_BAD_STATE;
	if (params[0].value.b || !params[1].memref.buffer)
		return TEE_ERROR_BAD_PARAMETERS;
	need = output_bytes(session, session->segment);
	if (params[2].memref.size < need || !params[2].memref.buffer) {
		params[2].memref.size = need;
		return TEE_ERROR_SHORT_BUFFER;
	}
	result = take_slices(session, params[1].memref.buffer, params[1].memref.size, &params[3]);
	if (result == TEE_SUCCESS)
		give(session, params, need);
	return result;
}

static TEE_Result stats(const struct session *session, uint32_t types, TEE_Param params[4])
{
	if (types != TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_NONE,
				     TEE_PARAM_TYPE_NONE))
		return TEE_ERROR_BAD_PARAMETERS;
	params[0].value.a = (uint32_t)lb_heap_now();
	params[0].value.b = (uint32_t)lb_heap_peak();
	params[1].value.a = TA_STACK_SIZE;
	params[1].value.b = session->runs;
	return TEE_SUCCESS;
}

TEE_Result TA_CreateEntryPoint(void)
{
	return TEE_SUCCESS;
}

void TA_DestroyEntryPoint(void)
{
}

TEE_Result TA_OpenSessionEntryPoint(uint32_t types, TEE_Param params[4], void **context)
{
	struct session *session;

	(void)params;
	if (types != NO_PARAMETERS)
		return TEE_ERROR_BAD_PARAMETERS;
	session = TEE_Malloc(sizeof(*session), TEE_MALLOC_FILL_ZERO);
	if (!session)
		return TEE_ERROR_OUT_OF_MEMORY;
	*context = session;
	return TEE_SUCCESS;
}

void TA_CloseSessionEntryPoint(void *context)
{
	close_model(context);
	TEE_Free(context);
}

TEE_Result TA_InvokeCommandEntryPoint(void *context, uint32_t command, uint32_t types, TEE_Param params[4])
{
	struct session *session = context;
	struct lb_ta_training *training = &session->training;
	struct lb_held_model *held = session->is_open ? &session->held : NULL;

	switch (command) {
	case LEAKBOARD_CMD_NOOP: return types == NO_PARAMETERS ? TEE_SUCCESS : TEE_ERROR_BAD_PARAMETERS;
	case LEAKBOARD_CMD_OPEN_MODEL: return open_model(session, types, params);
	case LEAKBOARD_CMD_RUN: return run(session, types, params);
	case LEAKBOARD_CMD_STATS: return stats(session, types, params);
	case LEAKBOARD_CMD_CLOSE_MODEL:
		if (types != NO_PARAMETERS)
			return TEE_ERROR_BAD_PARAMETERS;
		if (!session->is_open && !session->loading.is_active)
			return TEE_ERROR_BAD_STATE;
		close_model(session);
		return TEE_SUCCESS;
	case LEAKBOARD_CMD_DEVICE_KEY: return device_key(types, params);
	case LEAKBOARD_CMD_BEGIN_MODEL: return begin_model(session, types, params);
	case LEAKBOARD_CMD_LOAD_CHUNK: return load_chunk(session, types, params);
	case LEAKBOARD_CMD_FEED_SLICES: return feed_slices(session, types, params);
	case LEAKBOARD_CMD_TRAIN_BEGIN: return lb_ta_train_begin(training, held, types, params);
	case LEAKBOARD_CMD_TRAIN_FORWARD: return lb_ta_train_forward(training, types, params);
	case LEAKBOARD_CMD_TRAIN_BACKWARD: return lb_ta_train_backward(training, types, params);
	case LEAKBOARD_CMD_TRAIN_ANSWER: return lb_ta_train_answer(training, types, params);
	case LEAKBOARD_CMD_TRAIN_STEP: return lb_ta_train_step(training, types, params);
	case LEAKBOARD_CMD_TRAIN_END: return lb_ta_train_end(training, types);
	case LEAKBOARD_CMD_EXPORT_BEGIN: return lb_ta_export_begin(training, held, types, params);
	case LEAKBOARD_CMD_EXPORT_CHUNK: return lb_ta_export_chunk(training, held, types, params);
	default: return TEE_ERROR_NOT_SUPPORTED;
	}
}
