/* What the fuzz targets share: failing loudly, taking bytes from the input, the cost of a model, a mutator. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lb_runtime.h"
#include "lb_train.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

/* A promise of the code under test; a broken one ends the run as a sanitizer's report does. */
#define FUZZ_PROMISE(condition)                                                                                        \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #condition);                \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* Bytes not yet used; what is taken beyond the end is zero. */
struct input {
	const uint8_t *at;
	size_t left;
};

static inline void take(struct input *input, void *to, size_t bytes)
{
	size_t n = bytes < input->left ? bytes : input->left;

	memset(to, 0, bytes);
	if (n)
		memcpy(to, input->at, n);
	input->at += n;
	input->left -= n;
}

static inline uint8_t take8(struct input *input)
{
	uint8_t value;

	take(input, &value, sizeof(value));
	return value;
}

static inline uint16_t take16(struct input *input)
{
	uint16_t value;

	take(input, &value, sizeof(value));
	return value;
}

static inline uint32_t take32(struct input *input)
{
	uint32_t value;

	take(input, &value, sizeof(value));
	return value;
}

/* Exactly `bytes`, so that a byte too far is seen; aligned to LB_ALIGN, filled, never NULL. */
void *fuzz_block(size_t bytes, int fill);

/* About how many operations a segment takes. Kernels may run only where this is below FUZZ_MOST_WORK. */
#define FUZZ_MOST_WORK 200000u
uint64_t fuzz_work(const struct lb_model *model, uint32_t segment);

/*
 * In place of lb_segment_run() and lb_cursor_advance() where the code under test runs models: do nothing, or go to the
 * segment's end, where it would take too long.
 */
void fuzz_work_begins(void);
enum lb_error fuzz_segment_run(const struct lb_model *model, uint32_t segment, void *arena, void *scratch);
void fuzz_cursor_advance(const struct lb_model *model, struct lb_cursor *cursor, void *arena, void *scratch);

/* In place of lb_train_plan() and its like, likewise: too much memory is refused, and too much work is not done. */
#define FUZZ_MOST_TRAIN_BYTES 1048576u
enum lb_error fuzz_train_plan(const struct lb_model *model, struct lb_train_plan *plan);
void fuzz_train_forward(struct lb_train *train, uint32_t segment);
void fuzz_train_backward(struct lb_train *train, uint32_t segment);

/* Runs every segment of an accepted file unless that takes too much memory or time. */
void fuzz_run_model(const struct lb_model *model);

/* Trains it by two samples, if it can be trained, and runs it again. */
void fuzz_train_model(const struct lb_model *model);

/* A TEE's model file of one softmax over two values, probabilities out; returns its bytes. */
#define FUZZ_TINY_IN_BYTES 8u
#define FUZZ_TINY_OUT_BYTES 8u
uint32_t fuzz_tiny_model(uint8_t *file, size_t room);

/* Changes one 32-bit word of a struct to a value that formats care about. */
void fuzz_mutate_word(uint8_t *data, size_t size, unsigned int seed);

/* The mutator of a model file: its words, with the size in the header put right. */
size_t fuzz_mutate_model(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

#endif
