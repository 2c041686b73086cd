/* What clients of the TA in this folder share: expectations, and bringing a sealed file to the TA. */
#ifndef TEST_CLIENT_H
#define TEST_CLIENT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tee_client_api.h>

#include "lb_sealed_check.h"
#include "leakboard_ta.h"

static int failures;

#define EXPECT(actual, wanted)                                                                                         \
	do {                                                                                                           \
		unsigned int got = (unsigned int)(actual), want = (unsigned int)(wanted);                              \
		if (got != want) {                                                                                     \
			fprintf(stderr, "line %d: %s is 0x%x, expected 0x%x\n", __LINE__, #actual, got, want);         \
			failures++;                                                                                    \
		}                                                                                                      \
	} while (0)

struct file {
	unsigned char *bytes;
	size_t size;
};

static inline struct file read_file(const char *path)
{
	struct file file = {.bytes = malloc(1 << 20)};
	FILE *stream = fopen(path, "rb");

	if (!stream || !file.bytes)
		exit(101);
	file.size = fread(file.bytes, 1, 1 << 20, stream);
	fclose(stream);
	return file;
}

static inline const struct lb_sealed_header *header_of(const struct file *file)
{
	return (const struct lb_sealed_header *)(const void *)file->bytes;
}

/* Where chunk `index` begins in a sound file. */
static inline size_t chunk_at(const struct file *file, uint32_t index)
{
	size_t at = sizeof(struct lb_sealed_header);

	for (uint32_t i = 0; i < index; i++)
		at += lb_sealed_record_bytes(header_of(file), i);
	return at;
}

static inline void set_id(TEEC_Operation *operation, uint8_t first)
{
	uint8_t id[16];

	for (uint8_t i = 0; i < 16; i++)
		id[i] = (uint8_t)(i + first);
	memcpy(&operation->params[0].value, id, 8);
	memcpy(&operation->params[1].value, id + 8, 8);
}

/* BEGIN_MODEL or LOAD_CHUNK with so many of the bytes; `why` gets the enum lb_sealed_error. */
static inline TEEC_Result give(TEEC_Session *session, uint32_t command, unsigned char *bytes, size_t size,
			       uint32_t *why)
{
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INPUT, TEEC_VALUE_OUTPUT, TEEC_NONE, TEEC_NONE)};
	TEEC_Result result;

	operation.params[0].tmpref = (TEEC_TempMemoryReference){bytes, size};
	result = TEEC_InvokeCommand(session, command, &operation, NULL);
	if (why)
		*why = operation.params[1].value.a;
	return result;
}

static inline TEEC_Result begin(TEEC_Session *session, const struct file *file, uint32_t *why)
{
	return give(session, LEAKBOARD_CMD_BEGIN_MODEL, file->bytes, sizeof(struct lb_sealed_header), why);
}

static inline TEEC_Result load_chunk(TEEC_Session *session, const struct file *file, uint32_t index, uint32_t *why)
{
	return give(session, LEAKBOARD_CMD_LOAD_CHUNK, file->bytes + chunk_at(file, index),
		    lb_sealed_record_bytes(header_of(file), index), why);
}

/* Opens the model of id first..first+15. */
static inline TEEC_Result open_loaded(TEEC_Session *session, uint8_t first, uint32_t *why)
{
	TEEC_Operation operation = {.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_VALUE_INPUT,
								   TEEC_VALUE_OUTPUT, TEEC_VALUE_OUTPUT)};
	TEEC_Result result;

	set_id(&operation, first);
	result = TEEC_InvokeCommand(session, LEAKBOARD_CMD_OPEN_MODEL, &operation, NULL);
	if (why)
		*why = operation.params[3].value.a;
	return result;
}

/* Everything, in order. */
static inline TEEC_Result load(TEEC_Session *session, const struct file *file)
{
	TEEC_Result result = begin(session, file, NULL);

	for (uint32_t i = 0; result == TEEC_SUCCESS && i < header_of(file)->n_chunks; i++)
		result = load_chunk(session, file, i, NULL);
	return result ? result : open_loaded(session, 0, NULL);
}

#endif
