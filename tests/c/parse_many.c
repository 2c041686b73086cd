/*
 * Reads model files from stdin (uint32 size, bytes, again and again), parses each in a buffer of exactly its size and
 * runs those that are accepted. Prints "<enum lb_error> <fault>" a file. Meant for a sanitized build.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lb_runtime.h"

#define MAX_ARENA (64u << 20)

static void *allocate(size_t bytes)
{
	void *memory = NULL;

	if (posix_memalign(&memory, LB_ALIGN, bytes ? bytes : 1))
		exit(2);
	return memory;
}

/* With ones for what is streamed. */
static void run_segment(const struct lb_model *model, uint32_t segment, void *arena, void *scratch)
{
	struct lb_cursor cursor;

	if (lb_cursor_begin(model, segment, &cursor))
		exit(3);
	while (lb_cursor_advance(model, &cursor, arena, scratch), cursor.waiting)
		while (cursor.waiting) {
			size_t bytes = model->slices[cursor.slice].bytes;
			unsigned char *slice = allocate(bytes);

			memset(slice, 1, bytes);
			if (lb_cursor_take(model, &cursor, arena, scratch, slice, bytes))
				exit(3);
			free(slice);
		}
}

static void run(const struct lb_model *model)
{
	size_t arena_bytes = model->header->arena_bytes;
	unsigned char *arena, *scratch;

	if (arena_bytes > MAX_ARENA || model->scratch_bytes > MAX_ARENA)
		return;
	arena = allocate(arena_bytes);
	scratch = allocate(model->scratch_bytes);
	memset(arena, 0x3f, arena_bytes);
	for (uint32_t s = 0; s < model->header->n_segments; s++) {
		unsigned char *in = allocate(lb_segment_input_bytes(model, s));
		unsigned char *out = allocate(lb_segment_output_bytes(model, s));

		memset(in, 0x3e, lb_segment_input_bytes(model, s));
		lb_segment_put_inputs(model, s, arena, in);
		run_segment(model, s, arena, scratch);
		lb_segment_get_outputs(model, s, arena, out);
		free(in);
		free(out);
	}
	free(arena);
	free(scratch);
}

int main(void)
{
	uint32_t bytes;

	while (fread(&bytes, sizeof(bytes), 1, stdin) == 1) {
		struct lb_model model;
		unsigned char *file = allocate(bytes);
		enum lb_error error;

		if (bytes && fread(file, 1, bytes, stdin) != bytes)
			return 2;
		error = lb_model_parse(&model, file, bytes);
		printf("%d %u\n", (int)error, model.fault);
		if (error == LB_OK)
			run(&model);
		free(file);
	}
	return 0;
}
