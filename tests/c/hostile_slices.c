/*
 * A client that breaks every rule of include/leakboard_ta.h that has to do with sealed slices. `argv[1]` is a file that
 * is sealed to the environment's device: a model of id 0..15 with one segment of `argv[3]` input bytes and `argv[4]`
 * output bytes, which takes the sealed slices of file `argv[2]`, three or more. Exits with the number of rules that were
 * not enforced.
 */
#include "client.h"
#include "lb_runtime.h"
#include "lb_slices.h"

#define RUN_TYPES                                                                                                      \
	TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_MEMREF_PARTIAL_INPUT, TEEC_MEMREF_PARTIAL_OUTPUT, TEEC_VALUE_OUTPUT)

static TEEC_Context context;
static TEEC_Session session;
static TEEC_SharedMemory in = {.size = 65536, .flags = TEEC_MEM_INPUT};
static TEEC_SharedMemory out = {.size = 4096, .flags = TEEC_MEM_OUTPUT};
static struct file model, slices;
static size_t in_bytes, out_bytes;
static uint32_t n_slices;
static TEEC_Value said;

static TEEC_Result compute(uint32_t command, uint32_t types, TEEC_Value which, size_t size, size_t *out_size)
{
	TEEC_Operation operation = {.paramTypes = types};
	TEEC_Result result;

	operation.params[0].value = which;
	operation.params[1].memref = (TEEC_RegisteredMemoryReference){.parent = &in, .size = size};
	operation.params[2].memref = (TEEC_RegisteredMemoryReference){.parent = &out, .size = *out_size};
	result = TEEC_InvokeCommand(&session, command, &operation, NULL);
	*out_size = operation.params[2].memref.size;
	said = operation.params[3].value;
	return result;
}

/* Begins a query on zeros: it waits for all slices, and nothing comes out yet. */
static void begin_run(void)
{
	size_t size = out.size;

	memset(in.buffer, 0, in_bytes);
	memset(out.buffer, 0xa5, out.size);
	EXPECT(compute(LEAKBOARD_CMD_RUN, RUN_TYPES, (TEEC_Value){0, 0}, in_bytes, &size), TEEC_SUCCESS);
	EXPECT(size, 0);
	EXPECT(said.a, 0);
	EXPECT(said.b, n_slices);
	EXPECT(*(unsigned char *)out.buffer, 0xa5);
}

static const unsigned char *slice(uint32_t index, size_t *bytes)
{
	const unsigned char *at = slices.bytes + sizeof(struct lb_slices_header) + 4u * n_slices;
	uint32_t plain = 0;

	for (uint32_t i = 0; i <= index; i++) {
		at += i ? plain + LB_SLICE_TAG_BYTES : 0;
		memcpy(&plain, slices.bytes + sizeof(struct lb_slices_header) + 4u * i, 4);
	}
	*bytes = plain + LB_SLICE_TAG_BYTES;
	return at;
}

/* Slices first..first+n-1, and so many bytes more or less. */
static TEEC_Result feed(uint32_t first, uint32_t n, long more, size_t *out_size)
{
	size_t size = 0, bytes;

	for (uint32_t i = 0; i < n; i++, size += bytes) {
		const unsigned char *from = slice(first + i, &bytes);

		memcpy((unsigned char *)in.buffer + size, from, bytes);
	}
	return compute(LEAKBOARD_CMD_FEED_SLICES, RUN_TYPES, (TEEC_Value){0, 0}, (size_t)((long)size + more), out_size);
}

static TEEC_Result feed_well(uint32_t first, uint32_t n)
{
	size_t size = out.size;
	TEEC_Result result = feed(first, n, 0, &size);

	if (result == TEEC_SUCCESS)
		EXPECT(size, first + n == n_slices ? out_bytes : 0);
	if (result == TEEC_SUCCESS)
		EXPECT(said.b, n_slices - first - n);
	return result;
}

/* After a refusal nothing goes on: not the run, and no other segment. */
static void is_over(void)
{
	EXPECT(feed_well(0, 1), TEEC_ERROR_BAD_STATE);
	EXPECT(*(unsigned char *)out.buffer, 0xa5);
}

static void answers(void)
{
	static unsigned char first[4096];
	static int knows;

	begin_run();
	for (uint32_t i = 0; i < n_slices; i++)
		EXPECT(feed_well(i, 1), TEEC_SUCCESS);
	if (knows)
		EXPECT(memcmp(first, out.buffer, out_bytes), 0);
	memcpy(first, out.buffer, out_bytes);
	knows = 1;
	begin_run();
	EXPECT(feed_well(0, n_slices), TEEC_SUCCESS);
	EXPECT(memcmp(first, out.buffer, out_bytes), 0);
	EXPECT(feed_well(0, 1), TEEC_ERROR_BAD_STATE);
}

static void misuse_types(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t p1 = i >> 2 & 3, p2 = i >> 4 & 3, types = TEEC_PARAM_TYPES(i & 3, p1 | 12, p2 | 12, i >> 6);
		/* MEMREF_WHOLE is as good as a part of it. */
		int is_right = (i & 3) == TEEC_VALUE_INPUT && p1 < 2 && p2 % 2 == 0 && i >> 6 == TEEC_VALUE_OUTPUT;
		size_t size = out.size;

		begin_run();
		EXPECT(compute(LEAKBOARD_CMD_FEED_SLICES, types, (TEEC_Value){0, 0}, 16, &size) ==
			       TEEC_ERROR_BAD_PARAMETERS,
		       !is_right || p1 == 1);
		EXPECT(*(unsigned char *)out.buffer, 0xa5);
	}
	begin_run();
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_FEED_SLICES, NULL, NULL), TEEC_ERROR_BAD_PARAMETERS);
	is_over(); /* the types came as far as the TA */
}

static void misuse_sizes(void)
{
	static const long more[] = {-1, 1, 15, 16};
	size_t size = out.size;

	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
		begin_run();
		size = out.size;
		EXPECT(feed(0, 1, more[i], &size), TEEC_ERROR_BAD_PARAMETERS);
		is_over();
		begin_run();
		size = out.size;
		EXPECT(feed(0, n_slices, more[i], &size), TEEC_ERROR_BAD_PARAMETERS);
		is_over();
	}
	begin_run();
	size = out.size;
	EXPECT(feed(0, 0, 0, &size), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(said.a, LB_ERROR_ARGUMENT);
	EXPECT(said.b, 0);
	is_over();
	begin_run();
	size = out_bytes - 1;
	EXPECT(feed(0, 1, 0, &size), TEEC_ERROR_SHORT_BUFFER);
	EXPECT(size, out_bytes);
	is_over();
	begin_run();
	size = out.size;
	EXPECT(compute(LEAKBOARD_CMD_FEED_SLICES, RUN_TYPES, (TEEC_Value){0, 1}, 80, &size), TEEC_ERROR_BAD_PARAMETERS);
	is_over();
}

static void misuse_order(void)
{
	size_t size = out.size, bytes;

	EXPECT(feed_well(0, 1), TEEC_ERROR_BAD_STATE);
	for (uint32_t segment = 1; segment; segment *= 2) {
		begin_run();
		size = out.size;
		EXPECT(compute(LEAKBOARD_CMD_FEED_SLICES, RUN_TYPES, (TEEC_Value){segment, 0}, 80, &size),
		       TEEC_ERROR_BAD_STATE);
		is_over();
	}
	for (uint32_t given = 1; given < n_slices; given++) {
		TEEC_Result result;

		begin_run();
		result = feed_well(given, 1); /* in place of the first, which may be longer */
		EXPECT(result == TEEC_ERROR_SECURITY || result == TEEC_ERROR_BAD_PARAMETERS, 1);
		EXPECT(said.b, 0);
		is_over();
		begin_run();
		EXPECT(feed_well(0, given), TEEC_SUCCESS);
		result = feed_well(0, 1); /* again */
		EXPECT(result == TEEC_ERROR_SECURITY || result == TEEC_ERROR_BAD_PARAMETERS, 1);
		EXPECT(said.b, given);
		is_over();
	}
	begin_run(); /* a RUN drops what was begun */
	EXPECT(feed_well(0, 1), TEEC_SUCCESS);
	begin_run();
	EXPECT(feed_well(1, 1) != TEEC_SUCCESS, 1);
	begin_run(); /* so does another model */
	EXPECT(load(&session, &model), TEEC_SUCCESS);
	is_over();
	for (uint32_t bit = 0; bit < 8; bit++) {
		unsigned char *changed = (unsigned char *)(uintptr_t)slice(bit % n_slices, &bytes);

		changed += bit % 2 ? bytes - 1 - bit : bit * 7;
		begin_run();
		*changed ^= (unsigned char)(1u << bit);
		EXPECT(feed_well(0, n_slices), TEEC_ERROR_SECURITY);
		EXPECT(said.b, bit % n_slices);
		*changed ^= (unsigned char)(1u << bit);
		is_over();
	}
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 100;
	model = read_file(argv[1]);
	slices = read_file(argv[2]);
	in_bytes = strtoul(argv[3], NULL, 10);
	out_bytes = strtoul(argv[4], NULL, 10);
	n_slices = ((const struct lb_slices_header *)(const void *)slices.bytes)->n_slices;
	EXPECT(n_slices >= 3, 1);
	EXPECT(TEEC_InitializeContext(NULL, &context), TEEC_SUCCESS);
	EXPECT(TEEC_OpenSession(&context, &session, &(TEEC_UUID)LEAKBOARD_TA_UUID, TEEC_LOGIN_PUBLIC, NULL, NULL, NULL),
	       TEEC_SUCCESS);
	EXPECT(TEEC_AllocateSharedMemory(&context, &in), TEEC_SUCCESS);
	EXPECT(TEEC_AllocateSharedMemory(&context, &out), TEEC_SUCCESS);
	if (failures)
		return failures;
	memset(out.buffer, 0xa5, out.size);
	is_over();
	EXPECT(load(&session, &model), TEEC_SUCCESS);
	is_over();
	answers();
	misuse_types();
	misuse_sizes();
	misuse_order();
	answers();
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_CLOSE_MODEL, NULL, NULL), TEEC_SUCCESS);
	memset(out.buffer, 0xa5, out.size);
	is_over();
	TEEC_ReleaseSharedMemory(&in);
	TEEC_ReleaseSharedMemory(&out);
	TEEC_CloseSession(&session);
	TEEC_FinalizeContext(&context);
	free(model.bytes);
	free(slices.bytes);
	return failures;
}
