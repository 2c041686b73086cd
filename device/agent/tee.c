#define _POSIX_C_SOURCE 200809L
#include "tee.h"

#include <string.h>

#include "agent_protocol.h"
#include "emu_memory_pta.h"
#include "lb_runtime.h"
#include "lb_sealed_check.h"
#include "leakboard_ta.h"

static const TEEC_UUID ta_uuid = LEAKBOARD_TA_UUID;
static const TEEC_UUID memory_pta_uuid = EMU_MEMORY_PTA_UUID;

uint64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int tee_refused(struct failure *failure, const char *what, TEEC_Result result)
{
	switch (result) {
	case TEEC_ERROR_OUT_OF_MEMORY:
		return fail(failure, LB_AGENT_TEE_MEMORY, result,
			    "the secure world is out of memory while it should %s", what);
	case TEEC_ERROR_TARGET_DEAD:
	case TEEC_ERROR_COMMUNICATION:
		return fail(failure, LB_AGENT_TEE_DEAD, result, "the secure world died while it should %s", what);
	default: return fail(failure, LB_AGENT_TEE, result, "the secure world refused to %s (0x%08x)", what, result);
	}
}

int tee_connect(struct tee *tee, struct failure *failure)
{
	TEEC_Result result;

	if (!tee->has_context) {
		result = TEEC_InitializeContext(NULL, &tee->context);
		if (result)
			return tee_refused(failure, "start", result);
		tee->has_context = 1;
	}
	if (tee->is_open)
		return 1;
	result = TEEC_OpenSession(&tee->context, &tee->session, &ta_uuid, TEEC_LOGIN_PUBLIC, NULL, NULL, NULL);
	if (result)
		return tee_refused(failure, "open a session with the TA", result);
	tee->is_open = 1;
	return 1;
}

int tee_device_key(struct tee *tee, uint8_t *key, struct failure *failure)
{
	TEEC_Operation operation = {.paramTypes =
					    TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_OUTPUT, TEEC_NONE, TEEC_NONE, TEEC_NONE)};
	TEEC_Result result;

	if (!tee_connect(tee, failure))
		return 0;
	operation.params[0].tmpref = (TEEC_TempMemoryReference){key, LB_SEALED_KEY_BYTES};
	result = TEEC_InvokeCommand(&tee->session, LEAKBOARD_CMD_DEVICE_KEY, &operation, NULL);
	if (result)
		return tee_refused(failure, "tell its device key", result);
	if (operation.params[0].tmpref.size != LB_SEALED_KEY_BYTES)
		return fail(failure, LB_AGENT_TEE, 0, "the TA's device key has %zu bytes, expected %u",
			    operation.params[0].tmpref.size, LB_SEALED_KEY_BYTES);
	return 1;
}

static int open_model(struct tee *tee, const uint32_t model_id[4], uint32_t segments, struct failure *failure)
{
	TEEC_Operation operation = {.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_VALUE_INPUT,
								   TEEC_VALUE_OUTPUT, TEEC_VALUE_OUTPUT)};
	const TEEC_Value *fault = &operation.params[3].value;
	TEEC_Result result;

	operation.params[0].value = (TEEC_Value){model_id[0], model_id[1]};
	operation.params[1].value = (TEEC_Value){model_id[2], model_id[3]};
	result = TEEC_InvokeCommand(&tee->session, LEAKBOARD_CMD_OPEN_MODEL, &operation, NULL);
	if (result == TEEC_ERROR_SECURITY)
		return fail(failure, LB_AGENT_REFUSED, fault->a, "the TA refuses the sealed model: %s",
			    lb_sealed_strerror((enum lb_sealed_error)fault->a));
	if (result == TEEC_ERROR_BAD_FORMAT)
		return fail(failure, LB_AGENT_SEALED, fault->a, "the sealed model is refused: %s (at %u)",
			    lb_strerror((enum lb_error)fault->a), fault->b);
	if (result)
		return tee_refused(failure, "open the sealed model", result);
	if (operation.params[2].value.a != segments)
		return fail(failure, LB_AGENT_SEALED, 0, "the sealed model has %u segments, the public one expects %u",
			    operation.params[2].value.a, segments);
	tee->policy = operation.params[2].value.b;
	tee->slices = fault->a;
	tee->largest_slice = fault->b;
	return 1;
}

int tee_share(struct tee *tee, TEEC_SharedMemory *memory, uint32_t flags, size_t bytes, struct failure *failure)
{
	TEEC_Result result;

	*memory = (TEEC_SharedMemory){.size = bytes, .flags = flags};
	result = TEEC_AllocateSharedMemory(&tee->context, memory);
	if (result)
		*memory = (TEEC_SharedMemory){0};
	return result ? tee_refused(failure, "map shared memory", result) : 1;
}

int tee_open(struct tee *tee, const uint32_t model_id[4], uint32_t segments, size_t in_bytes, size_t out_bytes,
	     struct failure *failure)
{
	return open_model(tee, model_id, segments, failure) &&
	       tee_share(tee, &tee->in, TEEC_MEM_INPUT, in_bytes, failure) &&
	       tee_share(tee, &tee->out, TEEC_MEM_OUTPUT, out_bytes, failure);
}

/* What RUN and FEED_SLICES have in common: what they take and give. */
static TEEC_Result compute(struct tee *tee, uint32_t command, uint32_t segment, size_t in_bytes, size_t out_bytes,
			   TEEC_Operation *operation, clockid_t clock, uint64_t *ns)
{
	TEEC_Result result;
	uint64_t start;

	*operation = (TEEC_Operation){.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_MEMREF_PARTIAL_INPUT,
								     TEEC_MEMREF_PARTIAL_OUTPUT, TEEC_VALUE_OUTPUT)};
	operation->params[0].value.a = segment;
	operation->params[1].memref = (TEEC_RegisteredMemoryReference){.parent = &tee->in, .size = in_bytes};
	operation->params[2].memref = (TEEC_RegisteredMemoryReference){.parent = &tee->out, .size = out_bytes};
	start = now_ns(clock);
	result = TEEC_InvokeCommand(&tee->session, command, operation, NULL);
	*ns += now_ns(clock) - start;
	return result;
}

/* Either the outputs came, or slices are missing. */
static int check_given(const TEEC_Operation *operation, uint32_t segment, size_t out_bytes, uint32_t *missing,
		       struct failure *failure)
{
	size_t given = operation->params[2].memref.size;

	*missing = operation->params[3].value.b;
	if (given != (*missing ? 0 : out_bytes))
		return fail(failure, LB_AGENT_SEALED, 0, "segment %u of the sealed model gave %zu bytes, expected %zu",
			    segment, given, out_bytes);
	return 1;
}

int tee_run(struct tee *tee, uint32_t segment, size_t in_bytes, size_t out_bytes, uint32_t *missing, clockid_t clock,
	    uint64_t *ns, struct failure *failure)
{
	TEEC_Operation operation;
	TEEC_Result result = compute(tee, LEAKBOARD_CMD_RUN, segment, in_bytes, out_bytes, &operation, clock, ns);

	if (result == TEEC_ERROR_BAD_PARAMETERS || result == TEEC_ERROR_SHORT_BUFFER)
		return fail(failure, LB_AGENT_SEALED, 0,
			    "segment %u of the sealed model takes or gives other tensors than the public file says",
			    segment);
	if (result)
		return tee_refused(failure, "run a segment", result);
	return check_given(&operation, segment, out_bytes, missing, failure);
}

int tee_feed(struct tee *tee, uint32_t segment, size_t bytes, size_t out_bytes, uint32_t *missing, clockid_t clock,
	     uint64_t *ns, struct failure *failure)
{
	TEEC_Operation operation;
	TEEC_Result result = compute(tee, LEAKBOARD_CMD_FEED_SLICES, segment, bytes, out_bytes, &operation, clock, ns);
	const TEEC_Value *why = &operation.params[3].value;

	switch (result) {
	case TEEC_SUCCESS: return check_given(&operation, segment, out_bytes, missing, failure);
	case TEEC_ERROR_SECURITY:
		return fail(failure, LB_AGENT_SLICES, why->b,
			    "the TA refuses slice %u: it was changed, or is another one, another model's or an older "
			    "sealing's",
			    why->b);
	case TEEC_ERROR_BAD_PARAMETERS:
		return fail(failure, LB_AGENT_SLICES, why->b, "the TA refuses slice %u: it has another size", why->b);
	case TEEC_ERROR_BAD_FORMAT:
		return fail(failure, LB_AGENT_SLICES, why->b, "the TA refuses slice %u: %s", why->b,
			    lb_strerror((enum lb_error)why->a));
	default: return tee_refused(failure, "take slices", result);
	}
}

int tee_noop(struct tee *tee, clockid_t clock, uint64_t *ns, struct failure *failure)
{
	uint64_t start = now_ns(clock);
	TEEC_Result result = TEEC_InvokeCommand(&tee->session, LEAKBOARD_CMD_NOOP, NULL, NULL);

	*ns += now_ns(clock) - start;
	return result ? tee_refused(failure, "do nothing", result) : 1;
}

TEEC_Result tee_ask(TEEC_Session *session, uint32_t command, TEEC_Operation *operation)
{
	*operation = (TEEC_Operation){
		.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_OUTPUT, TEEC_VALUE_OUTPUT, TEEC_NONE, TEEC_NONE)};
	return TEEC_InvokeCommand(session, command, operation, NULL);
}

int tee_memory(struct tee *tee, uint64_t *peak_bytes, uint64_t *limit_bytes, struct failure *failure)
{
	TEEC_Operation operation;
	TEEC_Session session;
	uint64_t running;
	TEEC_Result result =
		TEEC_OpenSession(&tee->context, &session, &memory_pta_uuid, TEEC_LOGIN_PUBLIC, NULL, NULL, NULL);

	if (result == TEEC_SUCCESS) {
		result = tee_ask(&session, EMU_MEMORY_CMD_USAGE, &operation);
		TEEC_CloseSession(&session);
		*limit_bytes = operation.params[0].value.a;
		*peak_bytes = operation.params[1].value.a;
	} else if (result != TEEC_ERROR_TARGET_DEAD) {
		/* A real board: what the TA knows of itself, and what is shared with it. */
		result = tee_ask(&tee->session, LEAKBOARD_CMD_STATS, &operation);
		running = (uint64_t)operation.params[0].value.a + tee->in.size + tee->out.size;
		*limit_bytes = 0;
		*peak_bytes =
			operation.params[1].value.a + (running > tee->loading_bytes ? running : tee->loading_bytes);
	}
	return result ? tee_refused(failure, "report its memory", result) : 1;
}

void tee_drop_model(struct tee *tee)
{
	if (!tee->has_model)
		return;
	TEEC_ReleaseSharedMemory(&tee->in);
	TEEC_ReleaseSharedMemory(&tee->out);
	TEEC_CloseSession(&tee->session);
	*tee = (struct tee){.has_context = tee->has_context, .context = tee->context};
}

void tee_end(struct tee *tee)
{
	tee_drop_model(tee);
	if (tee->is_open)
		TEEC_CloseSession(&tee->session);
	if (tee->has_context)
		TEEC_FinalizeContext(&tee->context);
	memset(tee, 0, sizeof(*tee));
}
