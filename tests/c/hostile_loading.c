/*
 * A client that breaks the rules of loading a sealed model: order, sizes, types, two sessions at once. `argv[1]` is a
 * file of at least three chunks that is sealed to the environment's device, of a model of id 0..15 and version 0;
 * `argv[2]` the same of a higher version, after which the device opens no other. Exits with the number of rules that were
 * not enforced.
 */
#include "client.h"

#define LOAD_TYPES TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_INPUT, TEEC_VALUE_OUTPUT, TEEC_NONE, TEEC_NONE)

static TEEC_Context context;
static TEEC_Session session;
static struct file model;

/* Bytes of model that the TA holds. */
static uint32_t held(void)
{
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_OUTPUT, TEEC_VALUE_OUTPUT, TEEC_NONE, TEEC_NONE)};

	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_STATS, &operation, NULL), TEEC_SUCCESS);
	return operation.params[0].value.a;
}

static void misuse_types(void)
{
	unsigned char bytes[256] = {0};

	for (uint32_t i = 0; i < 256; i++) {
		uint32_t p0 = i & 3, p1 = i >> 2 & 3, p2 = i >> 4 & 3, p3 = i >> 6;
		uint32_t types = TEEC_PARAM_TYPES(p0 | 4, p1, p2, p3);
		TEEC_Operation operation = {.paramTypes = types};

		if (p0 == 0)
			continue;
		operation.params[0].tmpref = (TEEC_TempMemoryReference){bytes, sizeof(bytes)};
		if (types != LOAD_TYPES) {
			EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_BEGIN_MODEL, &operation, NULL),
			       TEEC_ERROR_BAD_PARAMETERS);
			EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_LOAD_CHUNK, &operation, NULL),
			       TEEC_ERROR_BAD_PARAMETERS);
		}
	}
	EXPECT(give(&session, LEAKBOARD_CMD_BEGIN_MODEL, NULL, 0, NULL), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(give(&session, LEAKBOARD_CMD_LOAD_CHUNK, NULL, 0, NULL), TEEC_ERROR_BAD_PARAMETERS);
}

static void ask_for_the_key(void)
{
	TEEC_Operation operation = {.paramTypes =
					    TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_OUTPUT, TEEC_NONE, TEEC_NONE, TEEC_NONE)};
	unsigned char key[2][LB_SEALED_KEY_BYTES + 1];

	memset(key, 0xAA, sizeof(key));
	operation.params[0].tmpref = (TEEC_TempMemoryReference){key[0], LB_SEALED_KEY_BYTES - 1};
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_DEVICE_KEY, &operation, NULL), TEEC_ERROR_SHORT_BUFFER);
	EXPECT(operation.params[0].tmpref.size, LB_SEALED_KEY_BYTES);
	for (int i = 0; i < 2; i++) {
		operation.params[0].tmpref = (TEEC_TempMemoryReference){key[i], sizeof(key[i])};
		EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_DEVICE_KEY, &operation, NULL), TEEC_SUCCESS);
		EXPECT(operation.params[0].tmpref.size, LB_SEALED_KEY_BYTES);
		EXPECT(key[i][LB_SEALED_KEY_BYTES], 0xAA);
	}
	EXPECT(memcmp(key[0], key[1], sizeof(key[0])), 0);
	EXPECT(lb_p256_is_point(key[0]), 1);
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_DEVICE_KEY, NULL, NULL), TEEC_ERROR_BAD_PARAMETERS);
}

/* Everything before the chunk goes well; then `size` bytes of it come. */
static void refuse_at(uint32_t index, size_t size, uint32_t expected)
{
	unsigned char *bytes = calloc(1, size);
	size_t at = chunk_at(&model, index), there = model.size - at;
	uint32_t why = 0;

	memcpy(bytes, model.bytes + at, size < there ? size : there);
	EXPECT(begin(&session, &model, NULL), TEEC_SUCCESS);
	for (uint32_t i = 0; i < index; i++)
		EXPECT(load_chunk(&session, &model, i, NULL), TEEC_SUCCESS);
	EXPECT(held() > header_of(&model)->model_bytes, 1);
	EXPECT(give(&session, LEAKBOARD_CMD_LOAD_CHUNK, bytes, size, &why), TEEC_ERROR_SECURITY);
	EXPECT(why, expected);
	EXPECT(held(), 0);
	EXPECT(load_chunk(&session, &model, index, NULL), TEEC_ERROR_BAD_STATE); /* no second try */
	EXPECT(open_loaded(&session, 0, NULL), TEEC_ERROR_BAD_STATE);
	free(bytes);
}

static void misuse_order_and_sizes(void)
{
	uint32_t n = header_of(&model)->n_chunks, why = 0;
	size_t record = lb_sealed_record_bytes(header_of(&model), 1);

	EXPECT(load_chunk(&session, &model, 0, NULL), TEEC_ERROR_BAD_STATE);
	EXPECT(open_loaded(&session, 0, NULL), TEEC_ERROR_BAD_STATE);
	refuse_at(1, 1, LB_SEALED_ERROR_CHUNK);
	refuse_at(1, sizeof(struct lb_sealed_chunk), LB_SEALED_ERROR_CHUNK);
	refuse_at(1, record - 1, LB_SEALED_ERROR_CHUNK);
	refuse_at(1, record + 1, LB_SEALED_ERROR_CHUNK);
	refuse_at(1, 1 << 20, LB_SEALED_ERROR_CHUNK);
	refuse_at(n, record, LB_SEALED_ERROR_SURPLUS);
	refuse_at(n, 1, LB_SEALED_ERROR_SURPLUS);

	EXPECT(begin(&session, &model, NULL), TEEC_SUCCESS);
	EXPECT(open_loaded(&session, 0, &why), TEEC_ERROR_SECURITY);
	EXPECT(why, LB_SEALED_ERROR_TRUNCATED);
	EXPECT(held(), 0);

	EXPECT(begin(&session, &model, NULL), TEEC_SUCCESS);
	for (uint32_t i = 0; i < n; i++)
		EXPECT(load_chunk(&session, &model, i, NULL), TEEC_SUCCESS);
	EXPECT(open_loaded(&session, 1, &why), TEEC_ERROR_SECURITY);
	EXPECT(why, LB_SEALED_ERROR_MODEL_ID);
	EXPECT(held(), 0);

	EXPECT(begin(&session, &model, NULL), TEEC_SUCCESS);
	EXPECT(begin(&session, &model, NULL), TEEC_SUCCESS); /* begins anew, and keeps nothing of before */
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_CLOSE_MODEL, NULL, NULL), TEEC_SUCCESS);
	EXPECT(held(), 0);
	for (size_t size = 1; size < 400; size++)
		if (size != sizeof(struct lb_sealed_header)) {
			unsigned char *bytes = calloc(1, size);

			memcpy(bytes, model.bytes, size);
			EXPECT(give(&session, LEAKBOARD_CMD_BEGIN_MODEL, bytes, size, &why), TEEC_ERROR_SECURITY);
			EXPECT(why, LB_SEALED_ERROR_HEADER);
			free(bytes);
		}
	EXPECT(held(), 0);
}

/* Each with a model of its own, loaded in turns. */
static void use_two_sessions(void)
{
	TEEC_Session other;
	uint32_t once;

	EXPECT(load(&session, &model), TEEC_SUCCESS);
	once = held();
	EXPECT(TEEC_OpenSession(&context, &other, &(TEEC_UUID)LEAKBOARD_TA_UUID, TEEC_LOGIN_PUBLIC, NULL, NULL, NULL),
	       TEEC_SUCCESS);
	EXPECT(begin(&session, &model, NULL), TEEC_SUCCESS);
	EXPECT(begin(&other, &model, NULL), TEEC_SUCCESS);
	for (uint32_t i = 0; i < header_of(&model)->n_chunks; i++) {
		EXPECT(load_chunk(&session, &model, i, NULL), TEEC_SUCCESS);
		EXPECT(load_chunk(&other, &model, i, NULL), TEEC_SUCCESS);
	}
	EXPECT(open_loaded(&other, 0, NULL), TEEC_SUCCESS);
	EXPECT(open_loaded(&session, 0, NULL), TEEC_SUCCESS);
	EXPECT(held(), 2 * once);
	TEEC_CloseSession(&other);
	EXPECT(held(), once);
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_CLOSE_MODEL, NULL, NULL), TEEC_SUCCESS);
	EXPECT(held(), 0);
}

/* A header is believed only so far that memory is put aside for what it promises; too much of that is refused. */
static void run_out_of_memory(void)
{
	struct lb_sealed_header promise = *header_of(&model);
	struct file large = {(unsigned char *)&promise, sizeof(promise)};
	TEEC_Session other;
	uint32_t once;

	promise.chunk_bytes = LB_SEALED_CHUNK_BYTES;
	promise.n_chunks = 128;
	promise.model_bytes = promise.n_chunks * promise.chunk_bytes; /* 8 MiB: once, but not twice */
	EXPECT(TEEC_OpenSession(&context, &other, &(TEEC_UUID)LEAKBOARD_TA_UUID, TEEC_LOGIN_PUBLIC, NULL, NULL, NULL),
	       TEEC_SUCCESS);
	EXPECT(load(&session, &model), TEEC_SUCCESS);
	once = held();
	EXPECT(begin(&other, &large, NULL), TEEC_SUCCESS);
	EXPECT(begin(&session, &large, NULL), TEEC_ERROR_OUT_OF_MEMORY);
	EXPECT(held() > promise.model_bytes, 1); /* the other's */
	EXPECT(TEEC_InvokeCommand(&session, LEAKBOARD_CMD_CLOSE_MODEL, NULL, NULL), TEEC_ERROR_BAD_STATE);
	EXPECT(load(&session, &model), TEEC_SUCCESS);
	TEEC_CloseSession(&other);
	EXPECT(held(), once);
	promise.n_chunks = UINT32_MAX / promise.chunk_bytes;
	promise.model_bytes = promise.n_chunks * promise.chunk_bytes;
	EXPECT(begin(&session, &large, NULL), TEEC_ERROR_OUT_OF_MEMORY);
	EXPECT(held(), 0);
}

/* The older one had begun before the newer one was opened. */
static void overtake(struct file *newer)
{
	TEEC_Session other;
	uint32_t why = 0;

	EXPECT(TEEC_OpenSession(&context, &other, &(TEEC_UUID)LEAKBOARD_TA_UUID, TEEC_LOGIN_PUBLIC, NULL, NULL, NULL),
	       TEEC_SUCCESS);
	EXPECT(begin(&session, &model, NULL), TEEC_SUCCESS);
	for (uint32_t i = 0; i < header_of(&model)->n_chunks; i++)
		EXPECT(load_chunk(&session, &model, i, NULL), TEEC_SUCCESS);
	EXPECT(load(&other, newer), TEEC_SUCCESS);
	TEEC_CloseSession(&other);
	EXPECT(open_loaded(&session, 0, &why), TEEC_ERROR_SECURITY);
	EXPECT(why, LB_SEALED_ERROR_OLDER);
	EXPECT(held(), 0);
	EXPECT(begin(&session, &model, &why), TEEC_ERROR_SECURITY);
	EXPECT(why, LB_SEALED_ERROR_OLDER);
	EXPECT(load(&session, newer), TEEC_SUCCESS);
}

int main(int argc, char **argv)
{
	struct file newer;

	if (argc != 3)
		return 100;
	model = read_file(argv[1]);
	newer = read_file(argv[2]);
	EXPECT(TEEC_InitializeContext(NULL, &context), TEEC_SUCCESS);
	EXPECT(TEEC_OpenSession(&context, &session, &(TEEC_UUID)LEAKBOARD_TA_UUID, TEEC_LOGIN_PUBLIC, NULL, NULL, NULL),
	       TEEC_SUCCESS);
	if (failures)
		return failures;
	misuse_types();
	ask_for_the_key();
	misuse_order_and_sizes();
	use_two_sessions();
	run_out_of_memory();
	overtake(&newer);
	TEEC_CloseSession(&session);
	TEEC_FinalizeContext(&context);
	free(model.bytes);
	free(newer.bytes);
	return failures;
}
