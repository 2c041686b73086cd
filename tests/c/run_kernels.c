/*
 * Runs kernels on cases from stdin, for tests and benchmarks: stdin has cases one after the other, a `struct header`
 * and its arrays; stdout gets for each the median and the least CPU time of a round in nanoseconds (uint64) and the outputs. Ends
 * with 0, or with a message and 1 where a case makes no sense or a kernel writes past its output or scratch.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lb_kernels.h"

enum kind { CONV2D, DEPTHWISE, LINEAR, BATCH_NORM, RELU, ADD, MAX_POOL2D, AVG_POOL2D, ADAPTIVE_AVG_POOL2D, SOFTMAX };

#define ATTRIBUTES 16u
#define GUARD 16u /* floats behind what a kernel may write */
#define GUARD_VALUE 7.5f
#define MAX_FLOATS (1u << 26)
#define MAX_ROUNDS 101u

/* attr: the fields of lb_conv2d or lb_pool2d, or the sizes and the activation as the kernel takes them. */
struct header {
	uint32_t kind, rounds;
	uint32_t attr[ATTRIBUTES];
	uint32_t in, weight, bias, out; /* floats of each array; all but `out` follow */
};

struct arrays {
	float *in, *weight, *bias, *out, *scratch;
};

static void die(const char *what)
{
	fprintf(stderr, "run_kernels: %s\n", what);
	exit(1);
}

/* 64-byte aligned, at least one float, so that no pointer is NULL. */
static float *allocate(size_t floats)
{
	float *made = aligned_alloc(64, (floats * sizeof(float) + 64u) & ~(size_t)63u);

	if (!made)
		die("out of memory");
	return made;
}

static float *read_floats(size_t n)
{
	float *made;

	if (n > MAX_FLOATS)
		die("an array is too long");
	made = allocate(n);
	if (fread(made, sizeof(float), n, stdin) != n)
		die("stdin ends within a case");
	return made;
}

static float *guarded(size_t n)
{
	float *made = allocate(n + GUARD);

	for (size_t i = 0; i < n + GUARD; i++)
		made[i] = GUARD_VALUE;
	return made;
}

static void check_guard(const float *array, size_t n, const char *what)
{
	for (size_t i = n; i < n + GUARD; i++)
		if (array[i] < GUARD_VALUE || array[i] > GUARD_VALUE)
			die(what);
}

static void conv_of(const struct header *header, struct lb_conv2d *conv)
{
	_Static_assert(sizeof(*conv) == sizeof(header->attr), "attributes are the struct's fields");
	memcpy(conv, header->attr, sizeof(*conv));
}

static struct lb_pool2d pool_of(const struct header *header)
{
	struct lb_pool2d pool;

	_Static_assert(sizeof(pool) <= sizeof(header->attr), "attributes are the struct's fields");
	memcpy(&pool, header->attr, sizeof(pool));
	return pool;
}

static size_t scratch_floats(const struct header *header)
{
	struct lb_conv2d conv;
	size_t bytes = 0;

	conv_of(header, &conv);
	if (header->kind == CONV2D)
		bytes = lb_conv2d_scratch_bytes(&conv);
	else if (header->kind == DEPTHWISE)
		bytes = lb_conv2d_depthwise_scratch_bytes(&conv);
	if (bytes / sizeof(float) > MAX_FLOATS)
		die("a case wants too much scratch");
	return bytes / sizeof(float);
}

static void run(const struct header *header, const struct arrays *a)
{
	const uint32_t *attr = header->attr;
	struct lb_conv2d conv;
	struct lb_pool2d pool = pool_of(header);

	conv_of(header, &conv);
	switch ((enum kind)header->kind) {
	case CONV2D: lb_conv2d(&conv, a->in, a->weight, a->bias, a->out, a->scratch); break;
	case DEPTHWISE: lb_conv2d_depthwise(&conv, a->in, a->weight, a->bias, a->out, a->scratch); break;
	case LINEAR: lb_linear(attr[0], attr[1], (enum lb_activation)attr[2], a->in, a->weight, a->bias, a->out); break;
	case BATCH_NORM:
		lb_batch_norm(attr[0], attr[1], (enum lb_activation)attr[2], a->in, a->weight, a->bias, a->out);
		break;
	case RELU: lb_relu(attr[0], a->in, a->out); break;
	case ADD: lb_add(attr[0], (enum lb_activation)attr[1], a->in, a->weight, a->out); break;
	case MAX_POOL2D: lb_max_pool2d(&pool, a->in, a->out); break;
	case AVG_POOL2D: lb_avg_pool2d(&pool, a->in, a->out); break;
	case ADAPTIVE_AVG_POOL2D:
		lb_adaptive_avg_pool2d(attr[0], attr[1], attr[2], attr[3], attr[4], a->in, a->out);
		break;
	case SOFTMAX: lb_softmax(attr[0], a->in, a->out); break;
	default: die("a case is of no known kind");
	}
}

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The median and the least of a round's times. */
static void time_rounds(const struct header *header, const struct arrays *arrays, uint64_t *found)
{
	uint64_t ns[MAX_ROUNDS];

	for (uint32_t round = 0; round < header->rounds; round++) {
		uint64_t start = cpu_ns();

		run(header, arrays);
		ns[round] = cpu_ns() - start;
	}
	qsort(ns, header->rounds, sizeof(ns[0]), compare);
	found[0] = ns[header->rounds / 2u];
	found[1] = ns[0];
}

int main(void)
{
	struct header header;

	while (fread(&header, sizeof(header), 1, stdin) == 1) {
		struct arrays arrays;
		size_t scratch = scratch_floats(&header);
		uint64_t ns[2];

		if (header.rounds == 0 || header.rounds > MAX_ROUNDS || header.out > MAX_FLOATS)
			die("a case has too many outputs, or no rounds, or too many");
		arrays.in = read_floats(header.in);
		arrays.weight = read_floats(header.weight);
		arrays.bias = read_floats(header.bias);
		arrays.out = guarded(header.out);
		arrays.scratch = guarded(scratch);
		time_rounds(&header, &arrays, ns);
		check_guard(arrays.out, header.out, "a kernel has written past its output");
		check_guard(arrays.scratch, scratch, "a kernel has written past its scratch");
		if (fwrite(ns, sizeof(ns), 1, stdout) != 1 ||
		    fwrite(arrays.out, sizeof(float), header.out, stdout) != header.out)
			die("cannot write the results");
		free(arrays.in);
		free(arrays.weight);
		free(arrays.bias);
		free(arrays.out);
		free(arrays.scratch);
	}
	return 0;
}
