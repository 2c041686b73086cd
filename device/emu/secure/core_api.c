/* Memory operations, time, random numbers, panic. The heap is in memory.c, objects in storage.c. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "secure_world.h"

void *TEE_MemMove(void *dest, const void *src, size_t size)
{
	return memmove(dest, src, size);
}

/* In time that does not depend on the contents, as the specification wants. */
int32_t TEE_MemCompare(const void *buffer1, const void *buffer2, size_t size)
{
	const volatile unsigned char *a = buffer1, *b = buffer2;
	int32_t result = 0;

	for (size_t i = size; i-- > 0;) {
		int32_t difference = a[i] - b[i], differs = -(difference != 0);

		result = (result & ~differs) | (difference & differs);
	}
	return result;
}

/* The barrier keeps the wiping of memory that is freed next. */
void TEE_MemFill(void *buffer, uint8_t x, size_t size)
{
	memset(buffer, x, size);
	__asm__ volatile("" : : "r"(buffer) : "memory");
}

void TEE_GetSystemTime(TEE_Time *time)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	time->seconds = (uint32_t)now.tv_sec;
	time->millis = (uint32_t)(now.tv_nsec / 1000000);
}

void TEE_GenerateRandom(void *randomBuffer, size_t randomBufferLen)
{
	unsigned char *at = randomBuffer;

	while (randomBufferLen) {
		ssize_t n = getrandom(at, randomBufferLen, 0);

		if (n <= 0)
			TEE_Panic(TEE_ERROR_GENERIC);
		at += n;
		randomBufferLen -= (size_t)n;
	}
}

void TEE_Panic(TEE_Result panicCode)
{
	fprintf(stderr, "secure world: the TA panicked with 0x%08x\n", panicCode);
	_exit(101);
}
