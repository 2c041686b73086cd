/*
 * A client that breaks every rule of include/leakboard_ta.h that has to do with training, over the emulated client API.
 * `argv[1]` is a file that is sealed to the environment's device: a model of id 0..15 whose owner allows training, with
 * two segments of `argv[2]` and `argv[3]` input bytes, the first of which gives `argv[4]` bytes and takes the query's
 * image, the second 5 classes. `argv[5]` is the same without the owner's consent. Exits with the number of rules that
 * were not enforced.
 */
#include "client.h"

#define BEGIN_TYPES TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_VALUE_INPUT, TEEC_VALUE_OUTPUT, TEEC_NONE)
#define CROSS_TYPES TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_MEMREF_PARTIAL_INPUT, TEEC_MEMREF_PARTIAL_OUTPUT, TEEC_NONE)
#define STEP_TYPES TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_NONE, TEEC_NONE, TEEC_NONE)
#define EXPORT_TYPES TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_OUTPUT, TEEC_NONE, TEEC_NONE, TEEC_NONE)
#define CLASSES 5u

enum { RATE = 0x3C23D70A, MOMENTUM = 0x3F666666, INFINITE = 0x7F800000, NOT_A_NUMBER = 0x7FC00000, ONE = 0x3F800000 };
enum { MINUS_ONE = (int)0xBF800000 };

static TEEC_Context context;
static TEEC_Session session;
static TEEC_SharedMemory in = {.size = 65536, .flags = TEEC_MEM_INPUT};
static TEEC_SharedMemory out = {.size = 65536, .flags = TEEC_MEM_OUTPUT};
static size_t in_bytes[2], out_bytes;

static TEEC_Result begin_training(uint32_t types, uint32_t rate, uint32_t momentum, uint32_t decay)
{
	TEEC_Operation operation = {.paramTypes = types};

	operation.params[0].value = (TEEC_Value){rate, momentum};
	operation.params[1].value = (TEEC_Value){decay, 0};
	return TEEC_InvokeCommand(&session, LEAKBOARD_CMD_TRAIN_BEGIN, &operation, NULL);
}

static TEEC_Result begin_well(void)
{
	return begin_training(BEGIN_TYPES, RATE, MOMENTUM, 0);
}

static TEEC_Result cross(uint32_t types, uint32_t command, uint32_t a, uint32_t b, size_t in_size, size_t *out_size)
{
	TEEC_Operation operation = {.paramTypes = types};
	TEEC_Result result;

	operation.params[0].value = (TEEC_Value){a, b};
	operation.params[1].memref = (TEEC_RegisteredMemoryReference){.parent = &in, .size = in_size};
	operation.params[2].memref = (TEEC_RegisteredMemoryReference){.parent = &out, .size = *out_size};
	result = TEEC_InvokeCommand(&session, command, &operation, NULL);
	*out_size = operation.params[2].memref.size;
	return result;
}

static TEEC_Result call(uint32_t command, uint32_t a, uint32_t b, size_t in_size, size_t expected)
{
	size_t size = out.size;
	TEEC_Result result = cross(CROSS_TYPES, command, a, b, in_size, &size);

	if (result == TEEC_SUCCESS)
		EXPECT(size, expected);
	return result;
}

static TEEC_Result forward(uint32_t segment)
{
	return call(LEAKBOARD_CMD_TRAIN_FORWARD, segment, 0, in_bytes[segment & 1], out_bytes);
}

static TEEC_Result answer(uint32_t segment, uint32_t label)
{
	return call(LEAKBOARD_CMD_TRAIN_ANSWER, segment, label, in_bytes[segment & 1], in_bytes[1]);
}

static TEEC_Result backward(uint32_t segment)
{
	return call(LEAKBOARD_CMD_TRAIN_BACKWARD, segment, 0, out_bytes, 0);
}

static TEEC_Result step(uint32_t types, uint32_t a, uint32_t b)
{
	TEEC_Operation operation = {.paramTypes = types};

	operation.params[0].value = (TEEC_Value){a, b};
	return TEEC_InvokeCommand(&session, LEAKBOARD_CMD_TRAIN_STEP, &operation, NULL);
}

static void sample(void)
{
	EXPECT(forward(0), TEEC_SUCCESS);
	EXPECT(answer(1, 4), TEEC_SUCCESS);
	EXPECT(backward(0), TEEC_SUCCESS);
}

static TEEC_Result take(uint32_t types, uint32_t command, unsigned char *to, size_t *size)
{
	TEEC_Operation operation = {.paramTypes = types};
	TEEC_Result result;

	operation.params[0].tmpref = (TEEC_TempMemoryReference){to, *size};
	result = TEEC_InvokeCommand(&session, command, &operation, NULL);
	*size = operation.params[0].tmpref.size;
	return result;
}

static void misuse_parameter_types(void)
{
	static const uint32_t crossing[] = {LEAKBOARD_CMD_TRAIN_FORWARD, LEAKBOARD_CMD_TRAIN_BACKWARD,
					    LEAKBOARD_CMD_TRAIN_ANSWER};

	for (uint32_t i = 0; i < 256; i++) {
		uint32_t p0 = i & 3, p1 = i >> 2 & 3, p2 = i >> 4 & 3, p3 = i >> 6;
		uint32_t values = TEEC_PARAM_TYPES(p0, p1, p2, p3), memory = TEEC_PARAM_TYPES(p0, p1 | 12, p2 | 12, p3);
		size_t size;

		if (values != BEGIN_TYPES)
			EXPECT(begin_training(values, RATE, 0, 0), TEEC_ERROR_BAD_PARAMETERS);
		if (values != STEP_TYPES)
			EXPECT(step(values, 1, 0), TEEC_ERROR_BAD_PARAMETERS);
		for (size_t c = 0; c < 3; c++) {
			size = out.size;
			/* MEMREF_WHOLE is as good as a part, to the TA. */
			if (p0 != 1 || p1 == 2 || p1 == 3 || p2 == 1 || p2 == 3 || p3)
				EXPECT(cross(memory, crossing[c], 0, 0, in_bytes[0], &size), TEEC_ERROR_BAD_PARAMETERS);
		}
		for (uint32_t c = LEAKBOARD_CMD_TRAIN_END; c <= LEAKBOARD_CMD_EXPORT_CHUNK; c++) {
			TEEC_Operation operation = {.paramTypes = values};

			if (values != TEEC_PARAM_TYPES(TEEC_NONE, TEEC_NONE, TEEC_NONE, TEEC_NONE) ||
			    c != LEAKBOARD_CMD_TRAIN_END)
				EXPECT(TEEC_InvokeCommand(&session, c, &operation, NULL), TEEC_ERROR_BAD_PARAMETERS);
		}
	}
}

static void misuse_numbers(void)
{
	static const uint32_t senseless[] = {INFINITE, NOT_A_NUMBER, (uint32_t)MINUS_ONE};

	for (size_t i = 0; i < 3; i++) {
		EXPECT(begin_training(BEGIN_TYPES, senseless[i], 0, 0), TEEC_ERROR_BAD_PARAMETERS);
		EXPECT(begin_training(BEGIN_TYPES, RATE, senseless[i], 0), TEEC_ERROR_BAD_PARAMETERS);
		EXPECT(begin_training(BEGIN_TYPES, RATE, 0, senseless[i]), TEEC_ERROR_BAD_PARAMETERS);
	}
	EXPECT(begin_training(BEGIN_TYPES, RATE, ONE, 0), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(begin_well(), TEEC_SUCCESS);
	EXPECT(forward(0), TEEC_SUCCESS);
	EXPECT(answer(1, CLASSES), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(forward(0), TEEC_SUCCESS);
	EXPECT(answer(1, UINT32_MAX), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(step(STEP_TYPES, 2, 0), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(step(STEP_TYPES, 1, 1), TEEC_ERROR_BAD_PARAMETERS);
}

static void misuse_order(void)
{
	EXPECT(step(STEP_TYPES, 1, 0), TEEC_ERROR_BAD_STATE); /* no sample */
	EXPECT(answer(1, 0), TEEC_ERROR_BAD_STATE);
	EXPECT(backward(0), TEEC_ERROR_BAD_STATE);
	EXPECT(forward(1), TEEC_ERROR_BAD_STATE); /* makes the answer */
	EXPECT(forward(2), TEEC_ERROR_BAD_STATE);
	EXPECT(forward(UINT32_MAX), TEEC_ERROR_BAD_STATE);
	EXPECT(answer(0, 0), TEEC_ERROR_BAD_STATE);
	EXPECT(forward(0), TEEC_SUCCESS);
	EXPECT(backward(0), TEEC_ERROR_BAD_STATE);  /* the answer has not been made */
	EXPECT(answer(1, 0), TEEC_ERROR_BAD_STATE); /* and the sample is gone */
	EXPECT(forward(0), TEEC_SUCCESS);
	EXPECT(forward(0), TEEC_ERROR_BAD_STATE);
	sample();
	EXPECT(backward(0), TEEC_ERROR_BAD_STATE);
	EXPECT(step(STEP_TYPES, 1, 0), TEEC_ERROR_BAD_STATE); /* the refusal has dropped the batch */
	EXPECT(forward(0), TEEC_SUCCESS);
	EXPECT(answer(1, 0), TEEC_SUCCESS);
	EXPECT(step(STEP_TYPES, 1, 0), TEEC_ERROR_BAD_STATE); /* a sample is under way */
	sample();
	sample();
	EXPECT(step(STEP_TYPES, 0, 0), TEEC_SUCCESS);
	EXPECT(step(STEP_TYPES, 0, 0), TEEC_ERROR_BAD_STATE);
	sample();
	EXPECT(step(STEP_TYPES, 1, 0), TEEC_SUCCESS);
}

static void misuse_sizes(void)
{
	const uint32_t command = LEAKBOARD_CMD_TRAIN_FORWARD;
	size_t size = out_bytes - 1;

	EXPECT(call(command, 0, 0, in_bytes[0] - 1, 0), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(call(command, 0, 0, in_bytes[0] + 1, 0), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(call(command, 0, 0, 0, 0), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(call(command, 0, 1, in_bytes[0], 0), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(cross(CROSS_TYPES, command, 0, 0, in_bytes[0], &size), TEEC_ERROR_SHORT_BUFFER);
	EXPECT(size, out_bytes);
	EXPECT(forward(0), TEEC_SUCCESS);
	size = in_bytes[1] - 1;
	EXPECT(cross(CROSS_TYPES, LEAKBOARD_CMD_TRAIN_ANSWER, 1, 0, in_bytes[1], &size), TEEC_ERROR_SHORT_BUFFER);
	EXPECT(size, in_bytes[1]);
	EXPECT(forward(0), TEEC_SUCCESS);
	EXPECT(answer(1, 0), TEEC_SUCCESS);
	EXPECT(call(LEAKBOARD_CMD_TRAIN_BACKWARD, 0, 0, out_bytes + 4, 0), TEEC_ERROR_BAD_PARAMETERS);
	sample();
	/* Nothing comes of the gradient of the image, however much room there is. */
	memset(out.buffer, 0xAA, out.size);
	EXPECT(forward(0), TEEC_SUCCESS);
	EXPECT(answer(1, 0), TEEC_SUCCESS);
	memset(out.buffer, 0xAA, out.size);
	EXPECT(backward(0), TEEC_SUCCESS);
	for (size_t i = 0; i < out.size; i++)
		if (((unsigned char *)out.buffer)[i] != 0xAA) {
			EXPECT(i, out.size);
			break;
		}
}

static void misuse_export(void)
{
	static unsigned char bytes[1 << 20];
	size_t header = sizeof(struct lb_sealed_header), size = header - 1;
	struct lb_sealed_header first, second;

	size = sizeof(bytes);
	EXPECT(take(EXPORT_TYPES, LEAKBOARD_CMD_EXPORT_CHUNK, bytes, &size), TEEC_ERROR_BAD_STATE);
	size = header - 1;
	EXPECT(take(EXPORT_TYPES, LEAKBOARD_CMD_EXPORT_BEGIN, bytes, &size), TEEC_ERROR_SHORT_BUFFER);
	EXPECT(size, header);
	sample(); /* the refusal left the training as it was */
	size = sizeof(bytes);
	EXPECT(take(EXPORT_TYPES, LEAKBOARD_CMD_EXPORT_BEGIN, bytes, &size), TEEC_SUCCESS);
	EXPECT(size, header);
	memcpy(&first, bytes, header);
	EXPECT(forward(0), TEEC_ERROR_BAD_STATE); /* the export has ended it */
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_TRAIN_END, NULL, NULL), TEEC_ERROR_BAD_STATE);
	size = 1;
	EXPECT(take(EXPORT_TYPES, LEAKBOARD_CMD_EXPORT_CHUNK, bytes, &size), TEEC_ERROR_SHORT_BUFFER);
	EXPECT(size, lb_sealed_record_bytes(&first, 0));
	for (uint32_t i = 0; i < first.n_chunks; i++) {
		size = sizeof(bytes);
		EXPECT(take(EXPORT_TYPES, LEAKBOARD_CMD_EXPORT_CHUNK, bytes, &size), TEEC_SUCCESS);
		EXPECT(size, lb_sealed_record_bytes(&first, i));
	}
	size = sizeof(bytes);
	EXPECT(take(EXPORT_TYPES, LEAKBOARD_CMD_EXPORT_CHUNK, bytes, &size), TEEC_ERROR_BAD_STATE);
	/* No key serves twice: not even when nothing has changed. */
	EXPECT(take(EXPORT_TYPES, LEAKBOARD_CMD_EXPORT_BEGIN, bytes, &size), TEEC_SUCCESS);
	memcpy(&second, bytes, header);
	EXPECT(memcmp(first.ephemeral_key, second.ephemeral_key, sizeof(first.ephemeral_key)) != 0, 1);
	EXPECT(memcmp(first.salt, second.salt, sizeof(first.salt)) != 0, 1);
	/* Weights that change meanwhile end an export. */
	EXPECT(begin_well(), TEEC_SUCCESS);
	size = sizeof(bytes);
	EXPECT(take(EXPORT_TYPES, LEAKBOARD_CMD_EXPORT_CHUNK, bytes, &size), TEEC_ERROR_BAD_STATE);
	sample();
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_TRAIN_END, NULL, NULL), TEEC_SUCCESS);
	EXPECT(forward(0), TEEC_ERROR_BAD_STATE);
}

static void without_consent(const struct file *closed)
{
	static unsigned char bytes[1 << 20];
	size_t size = sizeof(bytes);

	EXPECT(load(&session, closed), TEEC_SUCCESS);
	EXPECT(begin_well(), TEEC_ERROR_ACCESS_DENIED);
	EXPECT(forward(0), TEEC_ERROR_BAD_STATE);
	EXPECT(take(EXPORT_TYPES, LEAKBOARD_CMD_EXPORT_BEGIN, bytes, &size), TEEC_ERROR_ACCESS_DENIED);
	EXPECT(take(EXPORT_TYPES, LEAKBOARD_CMD_EXPORT_CHUNK, bytes, &size), TEEC_ERROR_BAD_STATE);
}

int main(int argc, char **argv)
{
	struct file model, closed;

	if (argc != 6)
		return 100;
	model = read_file(argv[1]);
	closed = read_file(argv[5]);
	in_bytes[0] = strtoul(argv[2], NULL, 10);
	in_bytes[1] = strtoul(argv[3], NULL, 10);
	out_bytes = strtoul(argv[4], NULL, 10);
	EXPECT(TEEC_InitializeContext(NULL, &context), TEEC_SUCCESS);
	EXPECT(TEEC_OpenSession(&context, &session, &(TEEC_UUID)LEAKBOARD_TA_UUID, TEEC_LOGIN_PUBLIC, NULL, NULL, NULL),
	       TEEC_SUCCESS);
	EXPECT(TEEC_AllocateSharedMemory(&context, &in), TEEC_SUCCESS);
	EXPECT(TEEC_AllocateSharedMemory(&context, &out), TEEC_SUCCESS);
	if (failures)
		return failures;
	memset(in.buffer, 0, in.size);
	EXPECT(begin_well(), TEEC_ERROR_BAD_STATE); /* no model */
	EXPECT(load(&session, &model), TEEC_SUCCESS);
	EXPECT(forward(0), TEEC_ERROR_BAD_STATE); /* no training */
	EXPECT(step(STEP_TYPES, 1, 0), TEEC_ERROR_BAD_STATE);
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_TRAIN_END, NULL, NULL), TEEC_ERROR_BAD_STATE);
	misuse_parameter_types();
	misuse_numbers();
	misuse_order();
	misuse_sizes();
	misuse_export();
	EXPECT(begin_well(), TEEC_SUCCESS);
	sample();
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_CLOSE_MODEL, NULL, NULL), TEEC_SUCCESS);
	EXPECT(forward(0), TEEC_ERROR_BAD_STATE);
	without_consent(&closed);
	EXPECT(load(&session, &model), TEEC_SUCCESS);
	EXPECT(begin_well(), TEEC_SUCCESS);
	sample(); /* a training that is left open goes with the session */
	TEEC_ReleaseSharedMemory(&in);
	TEEC_ReleaseSharedMemory(&out);
	TEEC_CloseSession(&session);
	TEEC_FinalizeContext(&context);
	free(model.bytes);
	free(closed.bytes);
	return failures;
}
