#include "secure_heap.h"

#include "lb_model.h"

static size_t heap_now, heap_peak;

size_t lb_heap_now(void)
{
	return heap_now;
}

size_t lb_heap_peak(void)
{
	return heap_peak;
}

TEE_Result lb_block_alloc(struct lb_block *block, size_t bytes)
{
	uintptr_t misaligned;
	size_t raw_bytes;
	void *raw;

	*block = (struct lb_block){0};
	/* TEE_Malloc promises no more than the alignment of a long double. */
	if (__builtin_add_overflow(bytes, (size_t)LB_ALIGN, &raw_bytes))
		return TEE_ERROR_OUT_OF_MEMORY;
	raw = TEE_Malloc(raw_bytes, TEE_MALLOC_FILL_ZERO);
	if (!raw)
		return TEE_ERROR_OUT_OF_MEMORY;
	misaligned = (uintptr_t)raw % LB_ALIGN;
	*block = (struct lb_block){
		.data = (unsigned char *)raw + (misaligned ? LB_ALIGN - misaligned : 0),
		.raw = raw,
		.raw_bytes = raw_bytes,
	};
	heap_now += raw_bytes;
	if (heap_now > heap_peak)
		heap_peak = heap_now;
	return TEE_SUCCESS;
}

void lb_block_free(struct lb_block *block)
{
	if (block->raw) {
		TEE_MemFill(block->raw, 0, block->raw_bytes);
		TEE_Free(block->raw);
		heap_now -= block->raw_bytes;
	}
	*block = (struct lb_block){0};
}
