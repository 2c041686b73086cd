/*
 * Both worlds in one process: the emulated client API's way to the secure world is a call, and shared memory a block
 * of exactly its size. The file that answers requests is included, since its answer() is no one else's business.
 */
#include "../../../device/emu/secure/service.c"

#include "fuzz.h"
#include "fuzz_tee.h"
#include "world.h"

#define MEMORIES 16u

static struct {
	uint32_t id;
	unsigned char *at;
	size_t bytes;
} memories[MEMORIES];

TEEC_Result world_start(TEEC_Context *context)
{
	*context = (TEEC_Context){.socket = 0, .next_memory = 1};
	return TEEC_SUCCESS;
}

void world_stop(TEEC_Context *context)
{
	for (size_t i = 0; i < MAX_SESSIONS; i++)
		if (sessions[i].application)
			close_session(&sessions[i]);
	context->socket = -1;
}

TEEC_Result world_call(TEEC_Context *context, const struct emu_request *request, int fd, struct emu_reply *reply)
{
	FUZZ_PROMISE(context->socket == 0);
	memset(reply, 0, sizeof(*reply));
	answer(request, fd, reply);
	return reply->result;
}

TEEC_Result world_map(TEEC_Context *context, size_t bytes, uint32_t *id, void **mapping)
{
	FUZZ_PROMISE(bytes > 0);
	*mapping = NULL;
	if (!memory_take(bytes))
		return TEEC_ERROR_OUT_OF_MEMORY;
	for (uint32_t i = 0; i < MEMORIES; i++) {
		if (memories[i].id)
			continue;
		memories[i].id = *id = context->next_memory++;
		memories[i].bytes = bytes;
		memories[i].at = *mapping = fuzz_block(bytes, 0);
		return TEEC_SUCCESS;
	}
	memory_give(bytes);
	return TEEC_ERROR_OUT_OF_MEMORY;
}

void world_unmap(TEEC_Context *context, size_t bytes, uint32_t id, void *mapping)
{
	(void)context;
	for (uint32_t i = 0; i < MEMORIES; i++) {
		if (memories[i].id != id)
			continue;
		FUZZ_PROMISE(memories[i].at == mapping && memories[i].bytes == bytes);
		free(memories[i].at);
		memory_give(bytes);
		memories[i].id = 0;
	}
}

void *shared_range(uint32_t id, uint64_t offset, uint64_t bytes)
{
	for (uint32_t i = 0; i < MEMORIES; i++)
		if (id && memories[i].id == id && offset <= memories[i].bytes && bytes <= memories[i].bytes - offset)
			return memories[i].at + offset;
	return NULL;
}

/* Requests that this way of calling never makes. */
TEE_Result shared_add(uint32_t id, uint64_t bytes, int fd)
{
	(void)id;
	(void)bytes;
	(void)fd;
	return TEE_ERROR_NOT_SUPPORTED;
}

TEE_Result shared_remove(uint32_t id)
{
	(void)id;
	return TEE_ERROR_NOT_SUPPORTED;
}
