#include <tee_internal_api.h>

#include "leakboard_ta.h"
#include "model_store.h"

static size_t heap_now, heap_peak;

size_t lb_heap_now(void)
{
	return heap_now;
}

size_t lb_heap_peak(void)
{
	return heap_peak;
}

static TEE_Result block_alloc(struct lb_block *block, size_t bytes)
{
	uintptr_t misaligned;

	/* TEE_Malloc promises no more than the alignment of a long double. */
	if (__builtin_add_overflow(bytes, (size_t)LB_ALIGN, &block->raw_bytes))
		return TEE_ERROR_OUT_OF_MEMORY;
	block->raw = TEE_Malloc(block->raw_bytes, TEE_MALLOC_FILL_ZERO);
	if (!block->raw)
		return TEE_ERROR_OUT_OF_MEMORY;
	misaligned = (uintptr_t)block->raw % LB_ALIGN;
	block->data = (unsigned char *)block->raw + (misaligned ? LB_ALIGN - misaligned : 0);
	heap_now += block->raw_bytes;
	if (heap_now > heap_peak)
		heap_peak = heap_now;
	return TEE_SUCCESS;
}

static void block_free(struct lb_block *block)
{
	if (block->raw) {
		TEE_MemFill(block->raw, 0, block->raw_bytes);
		TEE_Free(block->raw);
		heap_now -= block->raw_bytes;
	}
	*block = (struct lb_block){0};
}

void lb_held_model_close(struct lb_held_model *held)
{
	block_free(&held->scratch);
	block_free(&held->arena);
	block_free(&held->file);
	TEE_MemFill(held, 0, sizeof(*held));
}

static TEE_Result read_object(TEE_ObjectHandle object, struct lb_block *block, size_t *bytes)
{
	TEE_ObjectInfo info;
	TEE_Result result = TEE_GetObjectInfo1(object, &info);
	size_t done = 0;

	if (result)
		return result;
	*bytes = info.dataSize;
	result = block_alloc(block, *bytes);
	while (result == TEE_SUCCESS && done < *bytes) {
		size_t n = 0;

		result = TEE_ReadObjectData(object, (unsigned char *)block->data + done, *bytes - done, &n);
		if (result == TEE_SUCCESS && n == 0)
			result = TEE_ERROR_CORRUPT_OBJECT; /* shorter than its own description */
		done += n;
	}
	return result;
}

static TEE_Result read_file(struct lb_block *block, const uint32_t model_id[4], size_t *bytes)
{
	unsigned char id[LEAKBOARD_OBJECT_PREFIX_BYTES + LEAKBOARD_MODEL_ID_BYTES];
	TEE_ObjectHandle object = TEE_HANDLE_NULL;
	TEE_Result result;

	TEE_MemMove(id, LEAKBOARD_OBJECT_PREFIX, LEAKBOARD_OBJECT_PREFIX_BYTES);
	TEE_MemMove(id + LEAKBOARD_OBJECT_PREFIX_BYTES, model_id, LEAKBOARD_MODEL_ID_BYTES);
	result = TEE_OpenPersistentObject(TEE_STORAGE_PRIVATE, id, sizeof(id), TEE_DATA_FLAG_ACCESS_READ, &object);
	if (result)
		return result;
	result = read_object(object, block, bytes);
	TEE_CloseObject(object);
	return result;
}

TEE_Result lb_held_model_open(struct lb_held_model *held, const uint32_t model_id[4], enum lb_error *fault,
			      uint32_t *fault_index)
{
	const struct lb_model_header *header;
	size_t bytes = 0;
	TEE_Result result;

	*held = (struct lb_held_model){0};
	*fault = LB_OK;
	*fault_index = 0;
	result = read_file(&held->file, model_id, &bytes);
	if (result)
		goto out;
	*fault = lb_model_parse(&held->model, held->file.data, bytes);
	*fault_index = held->model.fault;
	header = held->model.header;
	if (*fault == LB_OK && header->world != LB_WORLD_TEE)
		*fault = LB_ERROR_WORLD;
	/* The object's name is the caller's word, the header's id is the model's own. */
	if (*fault || TEE_MemCompare(header->model_id, model_id, LEAKBOARD_MODEL_ID_BYTES)) {
		result = TEE_ERROR_BAD_FORMAT;
		goto out;
	}
	result = block_alloc(&held->arena, header->arena_bytes);
	if (result == TEE_SUCCESS)
		result = block_alloc(&held->scratch, held->model.scratch_bytes);
out:
	if (result)
		lb_held_model_close(held);
	return result;
}
