/*
 * The TA's entry points: any sequence of sessions and commands with any parameters, among them models that are sealed
 * and loaded as they should be, or nearly. Promises: only what a parameter lets be written is written, nothing is left
 * when the sessions are closed, and whatever happened before, a good model loads and runs.
 */
#include <tee_internal_api.h>

#include "fuzz.h"
#include "fuzz_tee.h"
#include "leakboard_ta.h"
#include "lb_sealed_check.h"
#include "model_store.h"
#include "secure_world.h"

#define SESSIONS 3u
#define TEE_LIMIT 262144u
#define MOST_STEPS 64u
#define MOST_BYTES 4096u
#define UNTOUCHED 0xa5

enum step {
	STEP_OPEN,
	STEP_CLOSE,
	STEP_MODEL,  /* the text that will be sealed */
	STEP_HEADER, /* of it, then some bytes changed */
	STEP_BEGIN,
	STEP_CHUNK,
	STEP_OPEN_MODEL,
	STEP_RUN,
	STEP_ANY,
	STEP_FAIL,
	STEP_LOAD, /* all that a good host does */
	STEPS,
};

static struct world {
	void *sessions[SESSIONS];
	uint8_t model[MOST_BYTES];
	uint32_t model_bytes;
	struct lb_sealed_header header;
	uint32_t next;
} world;

static int is_memref(uint32_t type)
{
	return type >= TEE_PARAM_TYPE_MEMREF_INPUT && type <= TEE_PARAM_TYPE_MEMREF_INOUT;
}

/* An invocation, after which what must not have changed is compared with what was there. */
static TEE_Result invoke(uint32_t session, uint32_t command, uint32_t types, TEE_Param params[4])
{
	unsigned char *before[4] = {0};
	size_t sizes[4] = {0};
	TEE_Result result;

	if (!world.sessions[session])
		return TEE_ERROR_BAD_STATE;
	for (uint32_t i = 0; i < 4; i++) {
		if (!is_memref(TEE_PARAM_TYPE_GET(types, i)) || !params[i].memref.buffer)
			continue;
		sizes[i] = params[i].memref.size;
		before[i] = fuzz_block(sizes[i], 0);
		memcpy(before[i], params[i].memref.buffer, sizes[i]);
	}
	result = TA_InvokeCommandEntryPoint(world.sessions[session], command, types, params);
	for (uint32_t i = 0; i < 4; i++) {
		uint32_t type = TEE_PARAM_TYPE_GET(types, i);
		size_t written = 0;

		if (!before[i])
			continue;
		if (type == TEE_PARAM_TYPE_MEMREF_INPUT)
			FUZZ_PROMISE(params[i].memref.size == sizes[i]);
		else if (result == TEE_SUCCESS)
			written = params[i].memref.size;
		FUZZ_PROMISE(written <= sizes[i]);
		FUZZ_PROMISE(!memcmp(before[i] + written, (unsigned char *)params[i].memref.buffer + written,
				     sizes[i] - written));
		free(before[i]);
	}
	return result;
}

static TEE_Result invoke_memory(uint32_t session, uint32_t command, const void *data, size_t bytes, TEE_Param *said)
{
	TEE_Param params[4] = {0};
	TEE_Result result;

	params[0].memref.buffer = fuzz_block(bytes, 0);
	params[0].memref.size = bytes;
	memcpy(params[0].memref.buffer, data, bytes);
	result = invoke(session, command,
			TEE_PARAM_TYPES(TEE_PARAM_TYPE_MEMREF_INPUT, TEE_PARAM_TYPE_VALUE_OUTPUT, 0, 0), params);
	free(params[0].memref.buffer);
	*said = params[1];
	/* A reason is given with SECURITY, and only then. */
	if (command == LEAKBOARD_CMD_BEGIN_MODEL && result != TEE_ERROR_BAD_PARAMETERS)
		FUZZ_PROMISE((result == TEE_ERROR_SECURITY) == (params[1].value.a != 0));
	return result;
}

static void make_header(uint32_t chunk_bytes)
{
	struct lb_sealed_header *h = &world.header;

	memset(h, 0, sizeof(*h));
	h->magic = LB_SEALED_MAGIC;
	h->format = LB_SEALED_FORMAT;
	if (world.model_bytes >= sizeof(struct lb_model_header))
		memcpy(h->model_id, world.model + offsetof(struct lb_model_header, model_id), sizeof(h->model_id));
	h->version = 1;
	h->model_bytes = world.model_bytes;
	h->chunk_bytes = chunk_bytes;
	h->n_chunks = (world.model_bytes + chunk_bytes - 1u) / chunk_bytes;
	fuzz_tee_device_id(h->device_id);
	fuzz_generator(h->ephemeral_key);
	world.next = 0;
}

static void change(struct input *input, void *data, size_t bytes)
{
	for (uint32_t n = take8(input) % 4u; n > 0 && bytes; n--) {
		uint32_t at = take16(input) % bytes;

		((unsigned char *)data)[at] ^= take8(input);
	}
}

static TEE_Result begin(uint32_t session)
{
	TEE_Param said;

	return invoke_memory(session, LEAKBOARD_CMD_BEGIN_MODEL, &world.header, sizeof(world.header), &said);
}

/* The next chunk as the header describes it; `how`: 0 well, else changed before or after it is sealed, or cut. */
static TEE_Result chunk(struct input *input, uint32_t session, uint32_t how)
{
	const struct lb_sealed_header *h = &world.header;
	uint32_t plain = lb_sealed_plain_bytes(h, world.next), from = world.next * h->chunk_bytes;
	size_t bytes = sizeof(struct lb_sealed_chunk) + (plain < MOST_BYTES ? plain : MOST_BYTES) + LB_SEALED_TAG_BYTES;
	unsigned char *record = fuzz_block(bytes, 0);
	struct lb_sealed_chunk head = {
		.magic = LB_SEALED_CHUNK_MAGIC, .index = world.next, .n_chunks = h->n_chunks, .version = h->version};
	size_t sent = bytes;
	TEE_Result result;
	TEE_Param said;

	memcpy(head.model_id, h->model_id, sizeof(head.model_id));
	memcpy(head.sealing_id, h->sealing_id, sizeof(head.sealing_id));
	memcpy(record, &head, sizeof(head));
	if (from < world.model_bytes && plain <= MOST_BYTES)
		memcpy(record + sizeof(head), world.model + from,
		       plain < world.model_bytes - from ? plain : world.model_bytes - from);
	if (how & 1)
		change(input, record, bytes);
	fuzz_tee_seal(h, world.next, record, bytes);
	if (how & 2)
		change(input, record, bytes);
	if (how & 4)
		sent = take16(input) % (bytes + 1u);
	result = invoke_memory(session, LEAKBOARD_CMD_LOAD_CHUNK, record, sent, &said);
	free(record);
	if (result == TEE_SUCCESS)
		world.next++;
	return result;
}

static TEE_Result open_model(uint32_t session, uint32_t *segments)
{
	const uint32_t *id = world.header.model_id;
	TEE_Param params[4] = {0};
	TEE_Result result;

	params[0].value.a = id[0];
	params[0].value.b = id[1];
	params[1].value.a = id[2];
	params[1].value.b = id[3];
	result = invoke(session, LEAKBOARD_CMD_OPEN_MODEL,
			TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_VALUE_INPUT,
					TEE_PARAM_TYPE_VALUE_OUTPUT, TEE_PARAM_TYPE_VALUE_OUTPUT),
			params);
	*segments = params[2].value.a;
	return result;
}

/* RUN, or FEED_SLICES with as many zeros. */
static TEE_Result run(uint32_t session, uint32_t command, uint32_t segment, size_t in_bytes, size_t *out_bytes)
{
	const int fill = command == LEAKBOARD_CMD_RUN ? 0x3d : 0;
	TEE_Param params[4] = {0};
	TEE_Result result;

	params[0].value.a = segment;
	params[1].memref.buffer = fuzz_block(in_bytes, fill);
	params[1].memref.size = in_bytes;
	params[2].memref.buffer = fuzz_block(*out_bytes, UNTOUCHED);
	params[2].memref.size = *out_bytes;
	result = invoke(session, command,
			TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_MEMREF_INPUT,
					TEE_PARAM_TYPE_MEMREF_OUTPUT, TEE_PARAM_TYPE_VALUE_OUTPUT),
			params);
	free(params[1].memref.buffer);
	free(params[2].memref.buffer);
	*out_bytes = params[2].memref.size;
	return result;
}

/* What is done to a model that may be trained; which, the four highest bits of STEP_RUN's first size say. */
enum training {
	TRAINING_NONE,
	TRAINING_BEGIN,
	TRAINING_FORWARD,
	TRAINING_BACKWARD,
	TRAINING_ANSWER,
	TRAINING_STEP,
	TRAINING_EXPORT, /* segment 0: begins, else the next chunk */
	TRAINING_END,
};

/* As a good host would do it, but for sizes and order. `segment`: in its upper half the label, or whether to update. */
static void train(uint32_t session, enum training what, uint32_t segment, size_t in_bytes, size_t out_bytes)
{
	static const uint32_t commands[] = {[TRAINING_FORWARD] = LEAKBOARD_CMD_TRAIN_FORWARD,
					    [TRAINING_BACKWARD] = LEAKBOARD_CMD_TRAIN_BACKWARD,
					    [TRAINING_ANSWER] = LEAKBOARD_CMD_TRAIN_ANSWER};
	TEE_Param params[4] = {0};
	void *in = fuzz_block(in_bytes, 0x3d), *out = fuzz_block(out_bytes, UNTOUCHED);

	switch (what) {
	case TRAINING_BEGIN:
		params[0].value.a = params[0].value.b = 0x3dcccccdu; /* 0.1 */
		params[1].value.a = segment & 1 ? 0x3dcccccdu : 0;
		params[1].value.b = segment;
		invoke(session, LEAKBOARD_CMD_TRAIN_BEGIN,
		       TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_VALUE_INPUT,
				       TEE_PARAM_TYPE_VALUE_OUTPUT, 0),
		       params);
		break;
	case TRAINING_FORWARD:
	case TRAINING_BACKWARD:
	case TRAINING_ANSWER:
		params[0].value.a = segment & 15u;
		params[0].value.b = segment >> 4;
		params[1].memref.buffer = in;
		params[1].memref.size = in_bytes;
		params[2].memref.buffer = out;
		params[2].memref.size = out_bytes;
		invoke(session, commands[what],
		       TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_INPUT, TEE_PARAM_TYPE_MEMREF_INPUT,
				       TEE_PARAM_TYPE_MEMREF_OUTPUT, 0),
		       params);
		break;
	case TRAINING_STEP:
		params[0].value.a = segment >> 4;
		invoke(session, LEAKBOARD_CMD_TRAIN_STEP, TEE_PARAM_TYPES(TEE_PARAM_TYPE_VALUE_INPUT, 0, 0, 0), params);
		break;
	case TRAINING_EXPORT:
		params[0].memref.buffer = out;
		params[0].memref.size = out_bytes;
		invoke(session, segment ? LEAKBOARD_CMD_EXPORT_CHUNK : LEAKBOARD_CMD_EXPORT_BEGIN,
		       TEE_PARAM_TYPES(TEE_PARAM_TYPE_MEMREF_OUTPUT, 0, 0, 0), params);
		break;
	case TRAINING_NONE:
	case TRAINING_END: invoke(session, LEAKBOARD_CMD_TRAIN_END, 0, params); break;
	}
	free(in);
	free(out);
}

/* Everything is chosen by the input: types, values, null references, sizes, contents. */
static void anything(struct input *input, uint32_t session)
{
	const uint32_t command = take8(input) % (LEAKBOARD_CMD_EXPORT_CHUNK + 2u), types = take16(input);
	void *blocks[4] = {0};
	TEE_Param params[4] = {0};

	for (uint32_t i = 0; i < 4; i++) {
		uint32_t type = TEE_PARAM_TYPE_GET(types, i), bytes;

		if (!is_memref(type)) {
			params[i].value.a = take32(input);
			params[i].value.b = take32(input);
			continue;
		}
		bytes = take16(input);
		params[i].memref.size = bytes & 0x3fffu;
		if (bytes & 0x8000u)
			continue; /* a null reference of any size */
		params[i].memref.buffer = blocks[i] = fuzz_block(params[i].memref.size, 0);
		take(input, blocks[i], bytes & 0x4000u ? params[i].memref.size : 0);
	}
	invoke(session, command, types, params);
	for (uint32_t i = 0; i < 4; i++)
		free(blocks[i]);
}

static void open_session(uint32_t session, uint32_t types)
{
	TEE_Param params[4] = {0};

	if (!world.sessions[session] && TA_OpenSessionEntryPoint(types, params, &world.sessions[session]))
		world.sessions[session] = NULL;
}

static void close_session(uint32_t session)
{
	if (world.sessions[session])
		TA_CloseSessionEntryPoint(world.sessions[session]);
	world.sessions[session] = NULL;
}

static TEE_Result load(uint32_t session, uint32_t *segments)
{
	TEE_Result result;

	make_header(LB_SEALED_MIN_CHUNK_BYTES);
	result = begin(session);
	while (result == TEE_SUCCESS && world.next < world.header.n_chunks)
		result = chunk(NULL, session, 0);
	return result ? result : open_model(session, segments);
}

static void step(struct input *input)
{
	const uint8_t what = take8(input);
	const uint32_t session = what / STEPS % SESSIONS;
	uint32_t segments, segment, in_bytes, command;
	size_t out_bytes;

	switch ((enum step)(what % STEPS)) {
	case STEP_OPEN: open_session(session, take8(input) % 8u ? 0 : take16(input)); break;
	case STEP_CLOSE: close_session(session); break;
	case STEP_MODEL:
		world.model_bytes = take16(input) % (MOST_BYTES + 1u);
		take(input, world.model, world.model_bytes);
		make_header(LB_SEALED_MIN_CHUNK_BYTES);
		break;
	case STEP_HEADER:
		make_header(64u * (1u + take8(input)));
		change(input, &world.header, sizeof(world.header));
		break;
	case STEP_BEGIN:
		world.next = 0;
		begin(session);
		break;
	case STEP_CHUNK: chunk(input, session, take8(input)); break;
	case STEP_OPEN_MODEL: open_model(session, &segments); break;
	case STEP_RUN:
		segment = take8(input);
		in_bytes = take16(input);
		out_bytes = take16(input);
		if (in_bytes >> 12 > TRAINING_NONE && in_bytes >> 12 <= TRAINING_END) {
			/* Room for a whole chunk of an export. */
			train(session, (enum training)(in_bytes >> 12), segment, in_bytes % 1024u, out_bytes % 8192u);
			break;
		}
		out_bytes %= 1024u;
		command = in_bytes & 0x8000u ? LEAKBOARD_CMD_FEED_SLICES : LEAKBOARD_CMD_RUN;
		run(session, command, segment, in_bytes % 1024u, &out_bytes);
		break;
	case STEP_ANY: anything(input, session); break;
	case STEP_FAIL: fuzz_tee_fail_after(take8(input) % 64u); break;
	case STEP_LOAD: load(session, &segments); break;
	case STEPS: break;
	}
}

/* After all that: the smallest of models, which must load and answer. Its id is one that the input cannot age. */
static void still_serves(void)
{
	uint32_t segments = 0;
	size_t out_bytes = 64;

	fuzz_tee_reset();
	fuzz_work_begins();
	open_session(0, 0);
	FUZZ_PROMISE(world.sessions[0]);
	world.model_bytes = fuzz_tiny_model(world.model, sizeof(world.model));
	FUZZ_PROMISE(load(0, &segments) == TEE_SUCCESS && segments == 1);
	FUZZ_PROMISE(run(0, LEAKBOARD_CMD_RUN, 0, FUZZ_TINY_IN_BYTES, &out_bytes) == TEE_SUCCESS &&
		     out_bytes == FUZZ_TINY_OUT_BYTES);
	close_session(0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};

	memset(&world, 0, sizeof(world));
	fuzz_tee_reset();
	fuzz_work_begins();
	memory_start(TEE_LIMIT, 0);
	FUZZ_PROMISE(TA_CreateEntryPoint() == TEE_SUCCESS);
	open_session(0, 0);
	for (uint32_t i = 0; i < MOST_STEPS && input.left; i++)
		step(&input);
	for (uint32_t i = 0; i < SESSIONS; i++)
		close_session(i);
	FUZZ_PROMISE(lb_heap_now() == 0 && memory_now() == 0 && fuzz_tee_handles() == 0);
	still_serves();
	TA_DestroyEntryPoint();
	FUZZ_PROMISE(lb_heap_now() == 0 && memory_now() == 0 && fuzz_tee_handles() == 0);
	return 0;
}
