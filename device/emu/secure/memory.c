/*
 * The TEE's memory limit: heap, mapped shared memory, the TA's stack and static data together, as on OP-TEE, where all
 * of them come from the same translation tables and secure RAM.
 */
#include <stdlib.h>
#include <string.h>

#include "secure_world.h"

static uint64_t limit, fixed, now, peak;

void memory_start(uint64_t limit_bytes, uint64_t fixed_bytes)
{
	limit = limit_bytes;
	fixed = now = peak = fixed_bytes;
}

int memory_take(uint64_t bytes)
{
	if (now > limit || bytes > limit - now)
		return 0;
	now += bytes;
	if (now > peak)
		peak = now;
	return 1;
}

void memory_give(uint64_t bytes)
{
	now -= bytes;
}

uint64_t memory_limit(void)
{
	return limit;
}

uint64_t memory_now(void)
{
	return now;
}

uint64_t memory_peak(void)
{
	return peak;
}

uint64_t memory_fixed(void)
{
	return fixed;
}

/* Before each allocation, so that freeing knows how much to give back; keeps malloc's alignment. */
struct heap_header {
	_Alignas(max_align_t) size_t bytes; /* with the header */
};

void *TEE_Malloc(size_t size, uint32_t hint)
{
	struct heap_header *header;
	size_t bytes;

	(void)hint; /* zero filled whatever it says */
	if (size > SIZE_MAX - 2 * sizeof(*header))
		return NULL;
	bytes = (size + sizeof(*header) + 15u) & ~(size_t)15u;
	if (!memory_take(bytes))
		return NULL;
	header = calloc(1, bytes);
	if (!header) {
		memory_give(bytes);
		return NULL;
	}
	header->bytes = bytes;
	return header + 1;
}

void TEE_Free(void *buffer)
{
	struct heap_header *header = buffer;

	if (!buffer)
		return;
	header--;
	memory_give(header->bytes);
	free(header);
}

void *TEE_Realloc(void *buffer, size_t newSize)
{
	void *fresh = TEE_Malloc(newSize, TEE_MALLOC_FILL_ZERO);
	size_t old;

	if (!fresh || !buffer)
		return fresh;
	old = ((struct heap_header *)buffer)[-1].bytes - sizeof(struct heap_header);
	memcpy(fresh, buffer, old < newSize ? old : newSize);
	TEE_Free(buffer);
	return fresh;
}
