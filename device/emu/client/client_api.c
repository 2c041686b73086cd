/* The GlobalPlatform TEE Client API over world.c. */
#include <stdlib.h>
#include <string.h>

#include "world.h"

TEEC_Result TEEC_InitializeContext(const char *name, TEEC_Context *context)
{
	(void)name; /* there is one TEE */
	return context ? world_start(context) : TEEC_ERROR_BAD_PARAMETERS;
}

void TEEC_FinalizeContext(TEEC_Context *context)
{
	if (context)
		world_stop(context);
}

TEEC_Result TEEC_AllocateSharedMemory(TEEC_Context *context, TEEC_SharedMemory *sharedMem)
{
	TEEC_Result result;

	if (!context || !sharedMem || (sharedMem->flags & ~(TEEC_MEM_INPUT | TEEC_MEM_OUTPUT)) || !sharedMem->flags)
		return TEEC_ERROR_BAD_PARAMETERS;
	sharedMem->mapping_size = sharedMem->size ? sharedMem->size : 1;
	result = world_map(context, sharedMem->mapping_size, &sharedMem->id, &sharedMem->mapping);
	sharedMem->buffer = result ? NULL : sharedMem->mapping;
	sharedMem->context = result ? NULL : context;
	return result;
}

/* Memory of the caller's own cannot be mapped elsewhere: a copy crosses, before and after each call. */
TEEC_Result TEEC_RegisterSharedMemory(TEEC_Context *context, TEEC_SharedMemory *sharedMem)
{
	void *own = sharedMem ? sharedMem->buffer : NULL;
	TEEC_Result result = own ? TEEC_AllocateSharedMemory(context, sharedMem) : TEEC_ERROR_BAD_PARAMETERS;

	if (sharedMem)
		sharedMem->buffer = own;
	return result;
}

void TEEC_ReleaseSharedMemory(TEEC_SharedMemory *sharedMem)
{
	if (!sharedMem || !sharedMem->context)
		return;
	world_unmap(sharedMem->context, sharedMem->mapping_size, sharedMem->id, sharedMem->mapping);
	if (sharedMem->buffer == sharedMem->mapping)
		sharedMem->buffer = NULL;
	sharedMem->context = NULL;
}

/* One memory reference while it crosses. */
struct crossing {
	unsigned char *own; /* the caller's bytes, NULL when both worlds share them */
	unsigned char *shared;
	size_t size;
	uint32_t direction; /* TEEC_MEM_INPUT | TEEC_MEM_OUTPUT */
	size_t *result_size;
	uint32_t temporary; /* id of memory that lives for this call, 0: none */
};

static TEEC_Result cross_temporary(TEEC_Context *context, TEEC_TempMemoryReference *ref, struct crossing *crossing,
				   struct emu_param *param)
{
	void *mapping;
	TEEC_Result result;

	crossing->result_size = &ref->size;
	param->size = ref->buffer ? ref->size : 0;
	if (!param->size)
		return TEEC_SUCCESS; /* a null reference */
	result = world_map(context, ref->size, &crossing->temporary, &mapping);
	if (result) {
		crossing->temporary = 0;
		return result;
	}
	crossing->own = ref->buffer;
	crossing->shared = mapping;
	crossing->size = ref->size;
	param->memory = crossing->temporary;
	return TEEC_SUCCESS;
}

static TEEC_Result cross_registered(TEEC_Context *context, TEEC_RegisteredMemoryReference *ref, int whole,
				    struct crossing *crossing, struct emu_param *param)
{
	const TEEC_SharedMemory *parent = ref->parent;
	size_t offset, size;

	if (!parent || parent->context != context)
		return TEEC_ERROR_BAD_PARAMETERS;
	offset = whole ? 0 : ref->offset;
	size = whole ? parent->size : ref->size;
	if (whole)
		crossing->direction = parent->flags;
	if (offset > parent->size || size > parent->size - offset || (crossing->direction & ~parent->flags))
		return TEEC_ERROR_BAD_PARAMETERS;
	crossing->result_size = &ref->size;
	crossing->shared = (unsigned char *)parent->mapping + offset;
	crossing->size = size;
	if (parent->buffer != parent->mapping)
		crossing->own = (unsigned char *)parent->buffer + offset;
	param->memory = parent->id;
	param->offset = offset;
	param->size = size;
	return TEEC_SUCCESS;
}

static TEEC_Result cross_out(TEEC_Context *context, TEEC_Operation *operation, struct emu_request *request,
			     struct crossing crossings[4])
{
	for (uint32_t i = 0; i < 4; i++) {
		uint32_t type = TEEC_PARAM_TYPE_GET(operation->paramTypes, i), sent = type;
		struct crossing *crossing = &crossings[i];
		TEEC_Parameter *from = &operation->params[i];
		TEEC_Result result = TEEC_SUCCESS;

		switch (type) {
		case TEEC_NONE: break;
		case TEEC_VALUE_INPUT:
		case TEEC_VALUE_INOUT:
			request->params[i].a = from->value.a;
			request->params[i].b = from->value.b;
			break;
		case TEEC_VALUE_OUTPUT: break;
		case TEEC_MEMREF_TEMP_INPUT:
		case TEEC_MEMREF_TEMP_OUTPUT:
		case TEEC_MEMREF_TEMP_INOUT:
			crossing->direction = type & 3u;
			result = cross_temporary(context, &from->tmpref, crossing, &request->params[i]);
			break;
		case TEEC_MEMREF_WHOLE:
		case TEEC_MEMREF_PARTIAL_INPUT:
		case TEEC_MEMREF_PARTIAL_OUTPUT:
		case TEEC_MEMREF_PARTIAL_INOUT:
			crossing->direction = type & 3u;
			result = cross_registered(context, &from->memref, type == TEEC_MEMREF_WHOLE, crossing,
						  &request->params[i]);
			sent = 4u | crossing->direction;
			break;
		default: result = TEEC_ERROR_BAD_PARAMETERS;
		}
		if (result)
			return result;
		if (crossing->own && (crossing->direction & TEEC_MEM_INPUT))
			memcpy(crossing->shared, crossing->own, crossing->size);
		request->param_types |= sent << 4 * i;
	}
	return TEEC_SUCCESS;
}

static void cross_back(TEEC_Operation *operation, const struct emu_reply *reply, const struct crossing crossings[4])
{
	for (uint32_t i = 0; i < 4; i++) {
		uint32_t type = TEEC_PARAM_TYPE_GET(operation->paramTypes, i);
		const struct crossing *crossing = &crossings[i];
		const struct emu_param *from = &reply->params[i];

		if (type == TEEC_VALUE_OUTPUT || type == TEEC_VALUE_INOUT) {
			operation->params[i].value.a = from->a;
			operation->params[i].value.b = from->b;
		}
		if (!(crossing->direction & TEEC_MEM_OUTPUT))
			continue;
		*crossing->result_size = from->size;
		if (crossing->own)
			memcpy(crossing->own, crossing->shared,
			       from->size < crossing->size ? from->size : crossing->size);
	}
}

static TEEC_Result perform(TEEC_Context *context, struct emu_request *request, TEEC_Operation *operation,
			   uint32_t *session, uint32_t *returnOrigin)
{
	struct crossing crossings[4] = {{0}};
	struct emu_reply reply = {.origin = TEEC_ORIGIN_API};
	TEEC_Result result = TEEC_SUCCESS;

	if (operation)
		result = cross_out(context, operation, request, crossings);
	if (result == TEEC_SUCCESS) {
		result = world_call(context, request, -1, &reply);
		if (operation && result != TEEC_ERROR_TARGET_DEAD)
			cross_back(operation, &reply, crossings);
	}
	for (uint32_t i = 0; i < 4; i++)
		if (crossings[i].temporary)
			world_unmap(context, crossings[i].size, crossings[i].temporary, crossings[i].shared);
	if (session)
		*session = reply.session;
	if (returnOrigin)
		*returnOrigin = reply.origin;
	return result;
}

TEEC_Result TEEC_OpenSession(TEEC_Context *context, TEEC_Session *session, const TEEC_UUID *destination,
			     uint32_t connectionMethod, const void *connectionData, TEEC_Operation *operation,
			     uint32_t *returnOrigin)
{
	struct emu_request request = {.call = EMU_CALL_OPEN_SESSION};

	if (returnOrigin)
		*returnOrigin = TEEC_ORIGIN_API;
	if (!context || !session || !destination || connectionMethod != TEEC_LOGIN_PUBLIC || connectionData)
		return TEEC_ERROR_BAD_PARAMETERS;
	request.uuid = *destination;
	session->context = context;
	return perform(context, &request, operation, &session->id, returnOrigin);
}

void TEEC_CloseSession(TEEC_Session *session)
{
	struct emu_request request = {.call = EMU_CALL_CLOSE_SESSION};
	struct emu_reply reply;

	if (!session || !session->context)
		return;
	request.session = session->id;
	world_call(session->context, &request, -1, &reply);
	session->context = NULL;
}

TEEC_Result TEEC_InvokeCommand(TEEC_Session *session, uint32_t commandID, TEEC_Operation *operation,
			       uint32_t *returnOrigin)
{
	struct emu_request request = {.call = EMU_CALL_INVOKE, .command = commandID};

	if (returnOrigin)
		*returnOrigin = TEEC_ORIGIN_API;
	if (!session || !session->context)
		return TEEC_ERROR_BAD_PARAMETERS;
	request.session = session->id;
	return perform(session->context, &request, operation, NULL, returnOrigin);
}

void TEEC_RequestCancellation(TEEC_Operation *operation)
{
	(void)operation; /* nothing here blocks */
}
