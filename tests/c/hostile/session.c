/* Well-behaved calls, of which the hostile ones are made. */
#include "hostile.h"

#include "lb_sealed_check.h"

TEEC_Result client_open_beside(struct client *client, TEEC_Context *context)
{
	static const TEEC_UUID ta = LEAKBOARD_TA_UUID;
	TEEC_Result result;

	client->in = (TEEC_SharedMemory){.size = SHARED_BYTES, .flags = TEEC_MEM_INPUT};
	client->out = (TEEC_SharedMemory){.size = SHARED_BYTES, .flags = TEEC_MEM_OUTPUT};
	result = TEEC_OpenSession(context, &client->session, &ta, TEEC_LOGIN_PUBLIC, NULL, NULL, NULL);
	if (result)
		return result;
	result = TEEC_AllocateSharedMemory(context, &client->in);
	if (result == TEEC_SUCCESS)
		result = TEEC_AllocateSharedMemory(context, &client->out);
	if (result)
		client_close_beside(client);
	return result;
}

TEEC_Result client_open(struct client *client)
{
	TEEC_Result result;

	memset(client, 0, sizeof(*client));
	result = TEEC_InitializeContext(NULL, &client->context);
	if (result)
		return result;
	result = client_open_beside(client, &client->context);
	if (result)
		TEEC_FinalizeContext(&client->context);
	return result;
}

void client_close_beside(struct client *client)
{
	TEEC_ReleaseSharedMemory(&client->in);
	TEEC_ReleaseSharedMemory(&client->out);
	TEEC_CloseSession(&client->session);
}

void client_close(struct client *client)
{
	client_close_beside(client);
	TEEC_FinalizeContext(&client->context);
}

static TEEC_Result alive(TEEC_Result result, uint32_t command)
{
	if (result == TEEC_ERROR_TARGET_DEAD) {
		fprintf(stderr, "the TA is dead after command %u\n", command);
		exit(99);
	}
	return result;
}

TEEC_Result call(struct client *client, uint32_t command, TEEC_Operation *operation)
{
	return alive(TEEC_InvokeCommand(&client->session, command, operation, NULL), command);
}

TEEC_Result call_raw(struct client *client, uint32_t command, uint32_t types, const struct emu_param params[4])
{
	struct emu_request request = {
		.call = EMU_CALL_INVOKE, .session = client->session.id, .command = command, .param_types = types};
	struct emu_reply reply;

	memcpy(request.params, params, sizeof(request.params));
	return alive(world_call(client->session.context, &request, -1, &reply), command);
}

static TEEC_Result give(struct client *client, uint32_t command, const void *data, size_t bytes, struct refusal *why)
{
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_PARTIAL_INPUT, TEEC_VALUE_OUTPUT, TEEC_NONE, TEEC_NONE)};
	TEEC_Result result;

	if (bytes > client->in.size)
		exit(98);
	memcpy(client->in.buffer, data, bytes);
	operation.params[0].memref = (TEEC_RegisteredMemoryReference){.parent = &client->in, .size = bytes};
	result = call(client, command, &operation);
	*why = (struct refusal){operation.params[1].value.a, operation.params[1].value.b};
	return result;
}

TEEC_Result begin(struct client *client, const void *header, size_t bytes, struct refusal *why)
{
	return give(client, LEAKBOARD_CMD_BEGIN_MODEL, header, bytes, why);
}

TEEC_Result load_chunk(struct client *client, const void *record, size_t bytes, struct refusal *why)
{
	return give(client, LEAKBOARD_CMD_LOAD_CHUNK, record, bytes, why);
}

const unsigned char *chunk_of(const struct file *sealed, uint32_t index, size_t *bytes)
{
	struct lb_sealed_header header;
	size_t at = sizeof(header);

	memcpy(&header, sealed->data, sizeof(header));
	for (uint32_t i = 0; i < index; i++)
		at += lb_sealed_record_bytes(&header, i);
	*bytes = index < header.n_chunks ? lb_sealed_record_bytes(&header, index) : 0;
	return sealed->data + at;
}

TEEC_Result open_model(struct client *client, const struct file *sealed)
{
	TEEC_Operation operation = {.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_VALUE_INPUT,
								   TEEC_VALUE_OUTPUT, TEEC_VALUE_OUTPUT)};
	struct lb_sealed_header header;

	memcpy(&header, sealed->data, sizeof(header));
	operation.params[0].value = (TEEC_Value){header.model_id[0], header.model_id[1]};
	operation.params[1].value = (TEEC_Value){header.model_id[2], header.model_id[3]};
	return call(client, LEAKBOARD_CMD_OPEN_MODEL, &operation);
}

TEEC_Result close_model(struct client *client)
{
	return call(client, LEAKBOARD_CMD_CLOSE_MODEL, NULL);
}

TEEC_Result load(struct client *client, const struct file *sealed)
{
	struct refusal why;
	TEEC_Result result = begin(client, sealed->data, sizeof(struct lb_sealed_header), &why);
	const unsigned char *record;
	size_t bytes;

	for (uint32_t i = 0; result == TEEC_SUCCESS; i++) {
		record = chunk_of(sealed, i, &bytes);
		if (!bytes)
			return open_model(client, sealed);
		result = load_chunk(client, record, bytes, &why);
	}
	return result;
}

TEEC_Result run(struct client *client, uint32_t segment, size_t in_bytes, size_t *out_bytes)
{
	TEEC_Operation operation = {.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_MEMREF_PARTIAL_INPUT,
								   TEEC_MEMREF_PARTIAL_OUTPUT, TEEC_VALUE_OUTPUT)};
	TEEC_Result result;

	operation.params[0].value.a = segment;
	operation.params[1].memref = (TEEC_RegisteredMemoryReference){.parent = &client->in, .size = in_bytes};
	operation.params[2].memref = (TEEC_RegisteredMemoryReference){.parent = &client->out, .size = *out_bytes};
	result = call(client, LEAKBOARD_CMD_RUN, &operation);
	*out_bytes = operation.params[2].memref.size;
	return result;
}

/* The last answer is the index of a class; the others are floats, which two compilers may round differently. */
int is_right(uint32_t segment, const void *answer)
{
	const struct file *right = &material.out[segment];

	if (segment + 1 == SEGMENTS)
		return !memcmp(answer, right->data, right->bytes);
	for (size_t i = 0; i < right->bytes / sizeof(float); i++) {
		float is, should, difference;

		memcpy(&is, (const unsigned char *)answer + i * sizeof(is), sizeof(is));
		memcpy(&should, right->data + i * sizeof(should), sizeof(should));
		difference = is > should ? is - should : should - is;
		if (!(difference <= 1e-4f))
			return 0;
	}
	return 1;
}

void expect_right_answers(struct client *client)
{
	for (uint32_t s = 0; s < SEGMENTS; s++) {
		size_t bytes = client->out.size;

		memset(client->out.buffer, 0xa5, material.out[s].bytes);
		memcpy(client->in.buffer, material.in[s].data, material.in[s].bytes);
		EXPECT(run(client, s, material.in[s].bytes, &bytes), TEEC_SUCCESS);
		EXPECT(bytes, material.out[s].bytes);
		EXPECT_TRUE(is_right(s, client->out.buffer));
	}
}

uint32_t heap_now(struct client *client)
{
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_OUTPUT, TEEC_VALUE_OUTPUT, TEEC_NONE, TEEC_NONE)};

	EXPECT(call(client, LEAKBOARD_CMD_STATS, &operation), TEEC_SUCCESS);
	return operation.params[0].value.a;
}
