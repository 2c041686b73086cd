/*
 * A client that breaks every rule of include/leakboard_ta.h that has to do with running, over the emulated client API.
 * `argv[1]` is a file that is sealed to the environment's device: a model of id 0..15 with two segments of `argv[2]` and
 * `argv[3]` input bytes and `argv[4]` and 4 output bytes. Exits with the number of rules that were not enforced.
 */
#include "client.h"

#define MODEL_TYPES TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_VALUE_INPUT, TEEC_VALUE_OUTPUT, TEEC_VALUE_OUTPUT)
#define RUN_TYPES                                                                                                      \
	TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_MEMREF_PARTIAL_INPUT, TEEC_MEMREF_PARTIAL_OUTPUT, TEEC_VALUE_OUTPUT)
#define RUN_TEMPORARY                                                                                                  \
	TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_MEMREF_TEMP_INPUT, TEEC_MEMREF_TEMP_OUTPUT, TEEC_VALUE_OUTPUT)

static TEEC_Context context;
static TEEC_Session session;
static TEEC_SharedMemory in = {.size = 65536, .flags = TEEC_MEM_INPUT};
static TEEC_SharedMemory out = {.size = 65536, .flags = TEEC_MEM_OUTPUT};
static size_t in_bytes[2], out_bytes[2];

static struct file model;

static TEEC_Result open_model(uint32_t types, uint8_t first)
{
	TEEC_Operation operation = {.paramTypes = types};

	set_id(&operation, first);
	return TEEC_InvokeCommand(&session, LEAKBOARD_CMD_OPEN_MODEL, &operation, NULL);
}

static TEEC_Result run(uint32_t types, uint32_t segment, uint32_t b, size_t in_size, size_t *out_size)
{
	TEEC_Operation operation = {.paramTypes = types};
	TEEC_Result result;

	operation.params[0].value = (TEEC_Value){segment, b};
	operation.params[1].memref = (TEEC_RegisteredMemoryReference){.parent = &in, .size = in_size};
	operation.params[2].memref = (TEEC_RegisteredMemoryReference){.parent = &out, .size = *out_size};
	result = TEEC_InvokeCommand(&session, LEAKBOARD_CMD_RUN, &operation, NULL);
	*out_size = operation.params[2].memref.size;
	return result;
}

static TEEC_Result run_well(uint32_t segment)
{
	size_t size = out.size;
	TEEC_Result result = run(RUN_TYPES, segment, 0, in_bytes[segment & 1], &size);

	if (result == TEEC_SUCCESS)
		EXPECT(size, out_bytes[segment & 1]);
	return result;
}

static void misuse_parameter_types(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t p0 = i & 3, p1 = i >> 2 & 3, p2 = i >> 4 & 3, p3 = i >> 6;
		uint32_t values = TEEC_PARAM_TYPES(p0, p1, p2, p3), memory = TEEC_PARAM_TYPES(p0, p1 | 12, p2 | 12, p3);
		size_t size = out.size;

		if (values != MODEL_TYPES)
			EXPECT(open_model(values, 0), TEEC_ERROR_BAD_PARAMETERS);
		/* MEMREF_WHOLE of output memory is as good as a part of it. */
		if (memory != RUN_TYPES && (p1 != 1 || p2 != 0))
			EXPECT(run(memory, 0, 0, in_bytes[0], &size), TEEC_ERROR_BAD_PARAMETERS);
	}
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_STATS, NULL, NULL), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_RUN, NULL, NULL), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(TEEC_InvokeCommand(&session, 99, NULL, NULL), TEEC_ERROR_NOT_SUPPORTED);
}

static void misuse_order(void)
{
	EXPECT(run_well(1), TEEC_ERROR_BAD_STATE);
	EXPECT(run_well(2), TEEC_ERROR_BAD_STATE);
	EXPECT(run_well(UINT32_MAX), TEEC_ERROR_BAD_STATE);
	EXPECT(run_well(0), TEEC_SUCCESS);
	EXPECT(run_well(0), TEEC_ERROR_BAD_STATE);
	EXPECT(run_well(1), TEEC_ERROR_BAD_STATE); /* the refusal above began a new query */
	EXPECT(run_well(0), TEEC_SUCCESS);
	EXPECT(run_well(1), TEEC_SUCCESS);
	EXPECT(run_well(0), TEEC_SUCCESS);
	EXPECT(run_well(1), TEEC_SUCCESS);
}

static void misuse_sizes(void)
{
	size_t size = out.size;

	EXPECT(run(RUN_TYPES, 0, 1, in_bytes[0], &size), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(run(RUN_TYPES, 0, 0, in_bytes[0] - 1, &size), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(run(RUN_TYPES, 0, 0, in_bytes[0] + 1, &size), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(run(RUN_TYPES, 0, 0, 0, &size), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(run(RUN_TYPES, 0, 0, in.size + 1, &size), TEEC_ERROR_BAD_PARAMETERS);
	size = out_bytes[0] - 1;
	EXPECT(run(RUN_TYPES, 0, 0, in_bytes[0], &size), TEEC_ERROR_SHORT_BUFFER);
	EXPECT(size, out_bytes[0]);
	size = 0;
	EXPECT(run(RUN_TYPES, 0, 0, in_bytes[0], &size), TEEC_ERROR_SHORT_BUFFER);
}

/* Memory that no one registered: what a compromised normal world would send past the client API. */
static void misuse_memory(void)
{
	TEEC_SharedMemory forged = in;
	TEEC_Operation operation = {.paramTypes = RUN_TYPES};

	forged.size = SIZE_MAX;
	operation.params[1].memref = (TEEC_RegisteredMemoryReference){&forged, in_bytes[0], in.size - 8};
	operation.params[2].memref = (TEEC_RegisteredMemoryReference){&out, out.size, 0};
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_RUN, &operation, NULL), TEEC_ERROR_BAD_PARAMETERS);
	operation.params[1].memref = (TEEC_RegisteredMemoryReference){&forged, in_bytes[0], SIZE_MAX - 8};
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_RUN, &operation, NULL), TEEC_ERROR_BAD_PARAMETERS);
	forged = in;
	forged.id = 4711;
	operation.params[1].memref = (TEEC_RegisteredMemoryReference){&forged, in_bytes[0], 0};
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_RUN, &operation, NULL), TEEC_ERROR_BAD_PARAMETERS);
	forged = in;
	forged.flags = TEEC_MEM_OUTPUT;
	operation.params[1].memref = (TEEC_RegisteredMemoryReference){&forged, in_bytes[0], 0};
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_RUN, &operation, NULL), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(run_well(0), TEEC_SUCCESS);
	EXPECT(run_well(1), TEEC_SUCCESS);
}

/* Temporary, whole and registered references give the same answer as partial ones; nothing is written past it. */
static void use_every_reference(void)
{
	TEEC_Operation operation = {.paramTypes = RUN_TEMPORARY};
	unsigned char *input = calloc(1, in_bytes[0]), *output = malloc(out_bytes[0] + 16), *expected;
	TEEC_SharedMemory own = {.buffer = input, .size = in_bytes[0], .flags = TEEC_MEM_INPUT};

	memset(in.buffer, 0, in_bytes[0]);
	memset(output, 0xAA, out_bytes[0] + 16);
	EXPECT(run_well(0), TEEC_SUCCESS);
	expected = malloc(out_bytes[0]);
	memcpy(expected, out.buffer, out_bytes[0]);
	EXPECT(run_well(1), TEEC_SUCCESS);

	operation.params[1].tmpref = (TEEC_TempMemoryReference){input, in_bytes[0]};
	operation.params[2].tmpref = (TEEC_TempMemoryReference){output, out_bytes[0] + 16};
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_RUN, &operation, NULL), TEEC_SUCCESS);
	EXPECT(operation.params[2].tmpref.size, out_bytes[0]);
	EXPECT(memcmp(output, expected, out_bytes[0]), 0);
	EXPECT(output[out_bytes[0]], 0xAA);
	EXPECT(run_well(1), TEEC_SUCCESS);

	EXPECT(TEEC_RegisterSharedMemory(&context, &own), TEEC_SUCCESS);
	operation.paramTypes =
		TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_MEMREF_WHOLE, TEEC_MEMREF_TEMP_OUTPUT, TEEC_VALUE_OUTPUT);
	operation.params[1].memref = (TEEC_RegisteredMemoryReference){.parent = &own};
	operation.params[2].tmpref = (TEEC_TempMemoryReference){output, out_bytes[0]};
	memset(output, 0, out_bytes[0]);
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_RUN, &operation, NULL), TEEC_SUCCESS);
	EXPECT(memcmp(output, expected, out_bytes[0]), 0);
	EXPECT(run_well(1), TEEC_SUCCESS);
	TEEC_ReleaseSharedMemory(&own);
	free(input);
	free(output);
	free(expected);
}

static void exhaust(void)
{
	TEEC_SharedMemory large = {.size = 1u << 30, .flags = TEEC_MEM_INPUT};
	TEEC_SharedMemory empty = {.size = 16, .flags = 0};
	TEEC_Session sessions[40];
	uint32_t opened = 0;

	EXPECT(TEEC_AllocateSharedMemory(&context, &large), TEEC_ERROR_OUT_OF_MEMORY);
	EXPECT(TEEC_AllocateSharedMemory(&context, &empty), TEEC_ERROR_BAD_PARAMETERS);
	while (opened < 40 && TEEC_OpenSession(&context, &sessions[opened], &(TEEC_UUID)LEAKBOARD_TA_UUID,
					       TEEC_LOGIN_PUBLIC, NULL, NULL, NULL) == TEEC_SUCCESS)
		opened++;
	EXPECT(opened < 40, 1);
	while (opened)
		TEEC_CloseSession(&sessions[--opened]);
	EXPECT(run_well(0), TEEC_SUCCESS);
	EXPECT(run_well(1), TEEC_SUCCESS);
}

static void close_and_reopen(void)
{
	TEEC_UUID nobody = {.timeLow = 1};
	TEEC_Session other;
	size_t size = out.size;

	EXPECT(TEEC_OpenSession(&context, &other, &nobody, TEEC_LOGIN_PUBLIC, NULL, NULL, NULL),
	       TEEC_ERROR_ITEM_NOT_FOUND);
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_CLOSE_MODEL, NULL, NULL), TEEC_SUCCESS);
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_CLOSE_MODEL, NULL, NULL), TEEC_ERROR_BAD_STATE);
	EXPECT(run(RUN_TYPES, 0, 0, in_bytes[0], &size), TEEC_ERROR_BAD_STATE);
	EXPECT(open_model(MODEL_TYPES, 0), TEEC_ERROR_BAD_STATE);
	EXPECT(load(&session, &model), TEEC_SUCCESS);
	EXPECT(run_well(0), TEEC_SUCCESS);
	EXPECT(open_model(MODEL_TYPES, 0), TEEC_ERROR_BAD_STATE); /* nothing new was loaded */
	EXPECT(run_well(1), TEEC_SUCCESS);
	EXPECT(run_well(0), TEEC_SUCCESS);
	EXPECT(load(&session, &model), TEEC_SUCCESS); /* begins anew */
	EXPECT(run_well(1), TEEC_ERROR_BAD_STATE);
	EXPECT(run_well(0), TEEC_SUCCESS);
}

int main(int argc, char **argv)
{
	size_t size = out.size;

	if (argc != 5)
		return 100;
	model = read_file(argv[1]);
	in_bytes[0] = strtoul(argv[2], NULL, 10);
	in_bytes[1] = strtoul(argv[3], NULL, 10);
	out_bytes[0] = strtoul(argv[4], NULL, 10);
	out_bytes[1] = 4;
	EXPECT(TEEC_InitializeContext(NULL, &context), TEEC_SUCCESS);
	EXPECT(TEEC_OpenSession(&context, &session, &(TEEC_UUID)LEAKBOARD_TA_UUID, TEEC_LOGIN_PUBLIC, NULL, NULL, NULL),
	       TEEC_SUCCESS);
	EXPECT(TEEC_AllocateSharedMemory(&context, &in), TEEC_SUCCESS);
	EXPECT(TEEC_AllocateSharedMemory(&context, &out), TEEC_SUCCESS);
	if (failures)
		return failures;
	memset(in.buffer, 0, in.size);
	EXPECT(run(RUN_TYPES, 0, 0, in_bytes[0], &size), TEEC_ERROR_BAD_STATE);
	EXPECT(open_model(MODEL_TYPES, 0), TEEC_ERROR_BAD_STATE);
	EXPECT(load(&session, &model), TEEC_SUCCESS);
	misuse_parameter_types();
	misuse_order();
	misuse_sizes();
	misuse_memory();
	use_every_reference();
	exhaust();
	close_and_reopen();
	TEEC_ReleaseSharedMemory(&in);
	TEEC_ReleaseSharedMemory(&out);
	TEEC_CloseSession(&session);
	TEEC_FinalizeContext(&context);
	free(model.bytes);
	return failures;
}
