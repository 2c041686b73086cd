/* Training that the owner does not allow, or out of order, or with wrong sizes and references. */
#include "hostile.h"

#define CROSS_TYPES                                                                                                    \
	EMU_PARAM_TYPES(EMU_PARAM_VALUE_INPUT, EMU_PARAM_MEMREF_INPUT, EMU_PARAM_MEMREF_OUTPUT, EMU_PARAM_NONE)
#define EXPORT_TYPES EMU_PARAM_TYPES(EMU_PARAM_MEMREF_OUTPUT, EMU_PARAM_NONE, EMU_PARAM_NONE, EMU_PARAM_NONE)
#define RATE 0x3dcccccdu /* 0.1 */

static TEEC_Result begin_training(struct client *client, uint32_t rate)
{
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_VALUE_INPUT, TEEC_VALUE_OUTPUT, TEEC_NONE)};

	operation.params[0].value = (TEEC_Value){rate, RATE};
	return call(client, LEAKBOARD_CMD_TRAIN_BEGIN, &operation);
}

static TEEC_Result step(struct client *client, uint32_t update)
{
	TEEC_Operation operation = {.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_NONE, TEEC_NONE, TEEC_NONE)};

	operation.params[0].value.a = update;
	return call(client, LEAKBOARD_CMD_TRAIN_STEP, &operation);
}

static TEEC_Result end_training(struct client *client)
{
	TEEC_Operation operation = {.paramTypes = TEEC_PARAM_TYPES(TEEC_NONE, TEEC_NONE, TEEC_NONE, TEEC_NONE)};

	return call(client, LEAKBOARD_CMD_TRAIN_END, &operation);
}

static TEEC_Result cross_raw(struct client *client, uint32_t command, uint32_t segment, uint32_t b, struct emu_param in,
			     struct emu_param out)
{
	const struct emu_param params[4] = {{.a = segment, .b = b}, in, out, {0}};

	return call_raw(client, command, CROSS_TYPES, params);
}

static TEEC_Result cross(struct client *client, uint32_t command, uint32_t segment, uint32_t b, size_t in, size_t out)
{
	return cross_raw(client, command, segment, b, (struct emu_param){.memory = client->in.id, .size = in},
			 (struct emu_param){.memory = client->out.id, .size = out});
}

static TEEC_Result forward(struct client *client)
{
	memcpy(client->in.buffer, material.in[0].data, material.in[0].bytes);
	return cross(client, LEAKBOARD_CMD_TRAIN_FORWARD, 0, 0, material.in[0].bytes, material.out[0].bytes);
}

static TEEC_Result answer(struct client *client, uint32_t label)
{
	const size_t bytes = material.in[1].bytes;

	memcpy(client->in.buffer, material.in[1].data, bytes);
	return cross(client, LEAKBOARD_CMD_TRAIN_ANSWER, 1, label, bytes, bytes);
}

static TEEC_Result backward(struct client *client)
{
	const size_t bytes = material.out[0].bytes;

	return cross(client, LEAKBOARD_CMD_TRAIN_BACKWARD, 0, 0, bytes, 1);
}

static void sample(struct client *client)
{
	EXPECT(forward(client), TEEC_SUCCESS);
	EXPECT_TRUE(is_right(0, client->out.buffer));
	EXPECT(answer(client, 0), TEEC_SUCCESS);
	EXPECT(backward(client), TEEC_SUCCESS);
}

static TEEC_Result export(struct client *client, uint32_t command, size_t room)
{
	const struct emu_param params[4] = {{.memory = client->out.id, .size = room}};

	return call_raw(client, command, EXPORT_TYPES, params);
}

static void without_consent(struct client *client)
{
	EXPECT(begin_training(client, RATE), TEEC_ERROR_ACCESS_DENIED);
	EXPECT(forward(client), TEEC_ERROR_BAD_STATE);
	EXPECT(answer(client, 0), TEEC_ERROR_BAD_STATE);
	EXPECT(backward(client), TEEC_ERROR_BAD_STATE);
	EXPECT(step(client, 1), TEEC_ERROR_BAD_STATE);
	EXPECT(end_training(client), TEEC_ERROR_BAD_STATE);
	EXPECT(export(client, LEAKBOARD_CMD_EXPORT_BEGIN, 4096), TEEC_ERROR_ACCESS_DENIED);
	EXPECT(export(client, LEAKBOARD_CMD_EXPORT_CHUNK, 4096), TEEC_ERROR_BAD_STATE);
}

static void out_of_order(struct client *client)
{
	EXPECT(begin_training(client, 0x7f800000u), TEEC_ERROR_BAD_PARAMETERS); /* infinite */
	EXPECT(forward(client), TEEC_ERROR_BAD_STATE);
	EXPECT(begin_training(client, RATE), TEEC_SUCCESS);
	EXPECT(answer(client, 0), TEEC_ERROR_BAD_STATE);
	EXPECT(backward(client), TEEC_ERROR_BAD_STATE);
	EXPECT(step(client, 1), TEEC_ERROR_BAD_STATE);
	EXPECT(forward(client), TEEC_SUCCESS);
	EXPECT(answer(client, UINT32_MAX), TEEC_ERROR_BAD_PARAMETERS);
	EXPECT(backward(client), TEEC_ERROR_BAD_STATE); /* the sample is gone */
	sample(client);
	EXPECT(forward(client), TEEC_SUCCESS);
	EXPECT(step(client, 1), TEEC_ERROR_BAD_STATE); /* a sample is under way, and with it the batch is gone */
	EXPECT(step(client, 1), TEEC_ERROR_BAD_STATE);
	/* Queries go on meanwhile, and a batch that is forgotten has changed nothing. */
	sample(client);
	expect_right_answers(client);
	EXPECT(step(client, 0), TEEC_SUCCESS);
	expect_right_answers(client);
}

/* As break_references() has it for RUN, of a segment forward and of the one that makes the answer. */
static void bad_references(struct client *client)
{
	for (uint32_t segment = 0; segment < SEGMENTS; segment++) {
		const uint32_t command = segment ? LEAKBOARD_CMD_TRAIN_ANSWER : LEAKBOARD_CMD_TRAIN_FORWARD;
		const uint64_t in_bytes = material.in[segment].bytes;
		const uint64_t pages = (client->in.size + 4095u) / 4096u * 4096u;
		const struct emu_param in = {.memory = client->in.id, .size = in_bytes};
		const struct emu_param out = {.memory = client->out.id, .size = client->out.size};
		const struct emu_param bad[] = {
			{.memory = client->in.id, .offset = pages - 8, .size = in_bytes},
			{.memory = client->in.id, .offset = UINT64_MAX - 8, .size = in_bytes},
			{.memory = client->in.id, .size = UINT64_MAX},
			{.memory = client->in.id, .size = in_bytes - 1},
			{.memory = client->in.id, .size = (1ull << 32) + in_bytes},
			{.memory = 0, .size = in_bytes},
			{.memory = 0, .size = 0},
			{.memory = 4711, .size = in_bytes},
		};

		for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			(void)step(client, 0); /* drops what is under way: not every call gets as far as the TA */
			if (segment)
				EXPECT(forward(client), TEEC_SUCCESS);
			EXPECT_TRUE(cross_raw(client, command, segment, 0, bad[i], out) != TEEC_SUCCESS);
			(void)step(client, 0); /* drops what is under way: not every call gets as far as the TA */
			if (segment)
				EXPECT(forward(client), TEEC_SUCCESS);
			if (bad[i].size < in_bytes || bad[i].memory != client->in.id)
				EXPECT_TRUE(cross_raw(client, command, segment, 0, in,
						      (struct emu_param){.memory = 0, .size = bad[i].size}) !=
					    TEEC_SUCCESS);
		}
	}
	/* The gradient over the tensor, in one block: what was copied in is what is computed on. */
	EXPECT(begin_training(client, RATE), TEEC_SUCCESS);
	EXPECT(forward(client), TEEC_SUCCESS);
	memcpy(client->out.buffer, material.in[1].data, material.in[1].bytes);
	EXPECT(cross_raw(client, LEAKBOARD_CMD_TRAIN_ANSWER, 1, 0,
			 (struct emu_param){.memory = client->out.id, .size = material.in[1].bytes},
			 (struct emu_param){.memory = client->out.id, .size = client->out.size}),
	       TEEC_SUCCESS);
	EXPECT(backward(client), TEEC_SUCCESS);
	EXPECT(step(client, 0), TEEC_SUCCESS);
}

static void bad_exports(struct client *client)
{
	const struct emu_param nowhere[4] = {{.size = 4096}};

	sample(client);
	EXPECT(export(client, LEAKBOARD_CMD_EXPORT_CHUNK, 4096), TEEC_ERROR_BAD_STATE);
	EXPECT(export(client, LEAKBOARD_CMD_EXPORT_BEGIN, 8), TEEC_ERROR_SHORT_BUFFER);
	EXPECT_TRUE(call_raw(client, LEAKBOARD_CMD_EXPORT_BEGIN, EXPORT_TYPES, nowhere) != TEEC_SUCCESS);
	EXPECT(export(client, LEAKBOARD_CMD_EXPORT_BEGIN, client->out.size), TEEC_SUCCESS);
	EXPECT(forward(client), TEEC_ERROR_BAD_STATE); /* the export has ended the training */
	EXPECT(export(client, LEAKBOARD_CMD_EXPORT_CHUNK, 8), TEEC_ERROR_SHORT_BUFFER);
	EXPECT_TRUE(call_raw(client, LEAKBOARD_CMD_EXPORT_CHUNK, EXPORT_TYPES, nowhere) != TEEC_SUCCESS);
	EXPECT(export(client, LEAKBOARD_CMD_EXPORT_CHUNK, client->out.size), TEEC_SUCCESS);
	EXPECT(export(client, LEAKBOARD_CMD_EXPORT_CHUNK, client->out.size), TEEC_ERROR_BAD_STATE);
}

void break_training(struct client *client)
{
	uint32_t before;

	without_consent(client);
	expect_right_answers(client);
	EXPECT(load(client, &material.trainable), TEEC_SUCCESS);
	before = heap_now(client);
	out_of_order(client);
	bad_references(client);
	EXPECT(end_training(client), TEEC_SUCCESS);
	EXPECT(heap_now(client), before);
	EXPECT(begin_training(client, RATE), TEEC_SUCCESS);
	bad_exports(client);
	EXPECT(heap_now(client), before);
	expect_right_answers(client);
	EXPECT(begin_training(client, RATE), TEEC_SUCCESS); /* goes with the model */
	sample(client);
	EXPECT(close_model(client), TEEC_SUCCESS);
	EXPECT(heap_now(client), 0);
	EXPECT(load(client, &material.model), TEEC_SUCCESS);
}
