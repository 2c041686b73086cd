#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "secure_world.h"

#define MAX_MEMORIES 64u
#define PAGE 4096u

static struct memory {
	uint32_t id; /* 0: free */
	unsigned char *at;
	uint64_t bytes, counted;
} memories[MAX_MEMORIES];

static struct memory *find(uint32_t id)
{
	for (size_t i = 0; i < MAX_MEMORIES; i++)
		if (memories[i].id == id)
			return &memories[i];
	return NULL;
}

/* A file that the other side could shrink would turn reads here into SIGBUS. */
static int is_fixed_size(int fd, uint64_t bytes)
{
	struct stat info;
	int seals = fcntl(fd, F_GET_SEALS);

	return seals != -1 && (seals & F_SEAL_SHRINK) && fstat(fd, &info) == 0 && info.st_size >= 0 &&
	       (uint64_t)info.st_size >= bytes;
}

TEE_Result shared_add(uint32_t id, uint64_t bytes, int fd)
{
	struct memory *memory = find(0);
	TEE_Result result = TEE_ERROR_BAD_PARAMETERS;
	uint64_t pages;
	void *at;

	if (id == 0 || find(id) || bytes == 0 || bytes > SIZE_MAX / 2 || fd < 0 || !is_fixed_size(fd, bytes))
		goto out;
	pages = (bytes + PAGE - 1u) / PAGE * PAGE;
	result = TEE_ERROR_OUT_OF_MEMORY;
	if (!memory || !memory_take(pages))
		goto out;
	at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED) {
		memory_give(pages);
		goto out;
	}
	*memory = (struct memory){.id = id, .at = at, .bytes = bytes, .counted = pages};
	result = TEE_SUCCESS;
out:
	if (fd >= 0)
		close(fd);
	return result;
}

TEE_Result shared_remove(uint32_t id)
{
	struct memory *memory = id ? find(id) : NULL;

	if (!memory)
		return TEE_ERROR_ITEM_NOT_FOUND;
	munmap(memory->at, memory->bytes);
	memory_give(memory->counted);
	*memory = (struct memory){0};
	return TEE_SUCCESS;
}

void *shared_range(uint32_t id, uint64_t offset, uint64_t bytes)
{
	const struct memory *memory = id ? find(id) : NULL;

	if (!memory || offset > memory->bytes || bytes > memory->bytes - offset)
		return NULL;
	return memory->at + offset;
}
