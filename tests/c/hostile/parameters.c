/* Wrong types, sizes and references, in good order otherwise. */
#include "hostile.h"

#define CROSS_TYPES EMU_PARAM_TYPES(EMU_PARAM_VALUE_INPUT, EMU_PARAM_MEMREF_INPUT, EMU_PARAM_MEMREF_OUTPUT, 0)
#define LOAD_TYPES EMU_PARAM_TYPES(EMU_PARAM_MEMREF_INPUT, EMU_PARAM_VALUE_OUTPUT, 0, 0)

static const struct {
	uint32_t command, types;
	uint32_t step; /* every how manieth of all types is tried */
} commands[] = {
	{LEAKBOARD_CMD_NOOP, 0, 1},
	{LEAKBOARD_CMD_OPEN_MODEL,
	 EMU_PARAM_TYPES(EMU_PARAM_VALUE_INPUT, EMU_PARAM_VALUE_INPUT, EMU_PARAM_VALUE_OUTPUT, EMU_PARAM_VALUE_OUTPUT),
	 3},
	{LEAKBOARD_CMD_RUN,
	 EMU_PARAM_TYPES(EMU_PARAM_VALUE_INPUT, EMU_PARAM_MEMREF_INPUT, EMU_PARAM_MEMREF_OUTPUT,
			 EMU_PARAM_VALUE_OUTPUT),
	 1},
	{LEAKBOARD_CMD_STATS, EMU_PARAM_TYPES(EMU_PARAM_VALUE_OUTPUT, EMU_PARAM_VALUE_OUTPUT, 0, 0), 3},
	{LEAKBOARD_CMD_CLOSE_MODEL, 0, 3},
	{LEAKBOARD_CMD_DEVICE_KEY, EMU_PARAM_TYPES(EMU_PARAM_MEMREF_OUTPUT, 0, 0, 0), 3},
	{LEAKBOARD_CMD_BEGIN_MODEL, LOAD_TYPES, 3},
	{LEAKBOARD_CMD_LOAD_CHUNK, LOAD_TYPES, 3},
	{LEAKBOARD_CMD_FEED_SLICES,
	 EMU_PARAM_TYPES(EMU_PARAM_VALUE_INPUT, EMU_PARAM_MEMREF_INPUT, EMU_PARAM_MEMREF_OUTPUT,
			 EMU_PARAM_VALUE_OUTPUT),
	 3},
	{LEAKBOARD_CMD_TRAIN_BEGIN,
	 EMU_PARAM_TYPES(EMU_PARAM_VALUE_INPUT, EMU_PARAM_VALUE_INPUT, EMU_PARAM_VALUE_OUTPUT, 0), 5},
	{LEAKBOARD_CMD_TRAIN_FORWARD, CROSS_TYPES, 5},
	{LEAKBOARD_CMD_TRAIN_BACKWARD, CROSS_TYPES, 5},
	{LEAKBOARD_CMD_TRAIN_ANSWER, CROSS_TYPES, 5},
	{LEAKBOARD_CMD_TRAIN_STEP, EMU_PARAM_TYPES(EMU_PARAM_VALUE_INPUT, 0, 0, 0), 5},
	{LEAKBOARD_CMD_TRAIN_END, 0, 5},
	{LEAKBOARD_CMD_EXPORT_BEGIN, EMU_PARAM_TYPES(EMU_PARAM_MEMREF_OUTPUT, 0, 0, 0), 5},
	{LEAKBOARD_CMD_EXPORT_CHUNK, EMU_PARAM_TYPES(EMU_PARAM_MEMREF_OUTPUT, 0, 0, 0), 5},
};

void break_types(struct client *client)
{
	static const uint32_t unknown[] = {17, 18, 99, 1u << 16, UINT32_MAX};
	const struct emu_param none[4] = {{0}};

	for (size_t c = 0; c < sizeof(commands) / sizeof(commands[0]); c++)
		for (uint32_t i = 0; i < 4096; i += commands[c].step) {
			uint32_t types = EMU_PARAM_TYPES(i & 7, i >> 3 & 7, i >> 6 & 7, i >> 9);
			struct emu_param params[4] = {{0}};

			for (uint32_t p = 0; p < 4; p++)
				if (EMU_PARAM_TYPE_GET(types, p) & 4u) {
					params[p].memory = p % 2 ? client->out.id : client->in.id;
					params[p].size = material.in[0].bytes;
				}
			if (types != commands[c].types)
				EXPECT(call_raw(client, commands[c].command, types, params), TEEC_ERROR_BAD_PARAMETERS);
		}
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
		EXPECT(call_raw(client, unknown[i], 0, none), TEEC_ERROR_NOT_SUPPORTED);
	/* Bits that are no types: as many parameters as nobody has, and kinds that nobody knows. */
	EXPECT_TRUE(call_raw(client, LEAKBOARD_CMD_NOOP, 0x88, none) != TEEC_SUCCESS);
	EXPECT_TRUE(call_raw(client, LEAKBOARD_CMD_STATS, 0xf2, none) != TEEC_SUCCESS);
}

void break_sizes(struct client *client)
{
	static const size_t too_small[] = {0, 1, 4};
	const size_t in_bytes = material.in[0].bytes, out_bytes = material.out[0].bytes;
	const size_t wrong[] = {0, 1, in_bytes - 1, in_bytes + 1, 2 * in_bytes, client->in.size};
	size_t size;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		size = client->out.size;
		EXPECT(run(client, 0, wrong[i], &size), TEEC_ERROR_BAD_PARAMETERS);
	}
	for (size_t i = 0; i < sizeof(too_small) / sizeof(too_small[0]); i++) {
		size = too_small[i];
		memset(client->out.buffer, 0xa5, 16);
		EXPECT(run(client, 0, in_bytes, &size), TEEC_ERROR_SHORT_BUFFER);
		EXPECT(size, out_bytes);
		EXPECT(*(unsigned char *)client->out.buffer, 0xa5);
	}
	size = out_bytes - 1;
	EXPECT(run(client, 0, in_bytes, &size), TEEC_ERROR_SHORT_BUFFER);
	/* As much memory as the other world takes: refused there for its size, or here for what it holds. */
	for (size_t bytes = 1u << 20; bytes <= 64u << 20; bytes *= 2) {
		TEEC_SharedMemory large = {.size = bytes, .flags = TEEC_MEM_INPUT};
		TEEC_Operation operation = {.paramTypes =
						    TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_MEMREF_WHOLE,
								     TEEC_MEMREF_PARTIAL_OUTPUT, TEEC_VALUE_OUTPUT)};

		if (TEEC_AllocateSharedMemory(client->session.context, &large))
			break;
		operation.params[1].memref.parent = &large;
		operation.params[2].memref = (TEEC_RegisteredMemoryReference){&client->out, client->out.size, 0};
		EXPECT_TRUE(call(client, LEAKBOARD_CMD_RUN, &operation) != TEEC_SUCCESS);
		TEEC_ReleaseSharedMemory(&large);
	}
}

static TEEC_Result run_raw(struct client *client, struct emu_param in, struct emu_param out)
{
	const struct emu_param params[4] = {{0}, in, out, {0}};

	return call_raw(client, LEAKBOARD_CMD_RUN,
			EMU_PARAM_TYPES(EMU_PARAM_VALUE_INPUT, EMU_PARAM_MEMREF_INPUT, EMU_PARAM_MEMREF_OUTPUT,
					EMU_PARAM_VALUE_OUTPUT),
			params);
}

/* What a compromised normal world would send past the client API. */
void break_references(struct client *client)
{
	const uint64_t in_bytes = material.in[0].bytes;
	const struct emu_param in = {.memory = client->in.id, .size = in_bytes};
	const struct emu_param out = {.memory = client->out.id, .size = client->out.size};
	const uint64_t pages = (client->in.size + 4095u) / 4096u * 4096u;
	const uint64_t offsets[] = {pages - 8, pages,          pages + 4096,
				    1u << 30,  UINT64_MAX - 8, UINT64_MAX - in_bytes + 1};
	const uint64_t sizes[] = {pages + 1, 1ull << 32, (1ull << 32) + in_bytes, UINT64_MAX, UINT64_MAX - 4095};
	struct emu_param bad;

	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		bad = in;
		bad.offset = offsets[i];
		EXPECT_TRUE(run_raw(client, bad, out) != TEEC_SUCCESS);
		bad = out;
		bad.offset = offsets[i];
		EXPECT_TRUE(run_raw(client, in, bad) != TEEC_SUCCESS);
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		bad = in;
		bad.size = sizes[i];
		EXPECT_TRUE(run_raw(client, bad, out) != TEEC_SUCCESS);
		bad.memory = 0; /* a null reference of that size */
		EXPECT_TRUE(run_raw(client, bad, out) != TEEC_SUCCESS);
		bad.memory = client->out.id;
		EXPECT_TRUE(run_raw(client, in, bad) != TEEC_SUCCESS);
		bad.memory = 0;
		EXPECT_TRUE(run_raw(client, in, bad) != TEEC_SUCCESS);
	}
	bad = in;
	bad.memory = 4711;
	EXPECT_TRUE(run_raw(client, bad, out) != TEEC_SUCCESS);
	bad.memory = 0;
	EXPECT_TRUE(run_raw(client, bad, out) != TEEC_SUCCESS);
	EXPECT_TRUE(run_raw(client, (struct emu_param){0}, (struct emu_param){0}) != TEEC_SUCCESS);
	EXPECT_TRUE(run_raw(client, in, (struct emu_param){0}) != TEEC_SUCCESS);
	/* The answer over the question, in one block: what was copied in is what is computed on. */
	memcpy(client->out.buffer, material.in[0].data, in_bytes);
	bad = in;
	bad.memory = client->out.id;
	EXPECT(run_raw(client, bad, out), TEEC_SUCCESS);
	EXPECT_TRUE(is_right(0, client->out.buffer));
	EXPECT(run_raw(client, in, out), TEEC_ERROR_BAD_STATE); /* begins anew */
}
