/* Bringing a sealed model to the TA. The host's bytes are no more trusted here than there: only lengths are looked at. */
#define _POSIX_C_SOURCE 200809L
#include "tee.h"

#include <string.h>

#include "agent_protocol.h"
#include "lb_sealed_check.h"
#include "leakboard_ta.h"

/* The longest record that a TA can want of this file, whatever its header says, and room for the header. */
static size_t block_bytes(const struct lb_sealed_header *header, size_t sealed_bytes)
{
	size_t bytes = sealed_bytes < sizeof(*header) ? sizeof(*header) : sealed_bytes;
	size_t record = lb_sealed_record_bytes(header, 0);
	size_t most = sizeof(struct lb_sealed_chunk) + LB_SEALED_MAX_CHUNK_BYTES + LB_SEALED_TAG_BYTES;

	if (record < sizeof(*header))
		record = sizeof(*header);
	if (record > most)
		record = most;
	return bytes < record ? bytes : record;
}

static int refused(struct failure *failure, const struct lb_sealed_header *header, const TEEC_Value *why, int is_chunk)
{
	const char *text = lb_sealed_strerror((enum lb_sealed_error)why->a);

	if (is_chunk)
		return fail(failure, LB_AGENT_REFUSED, why->a, "the TA refuses the sealed model at chunk %u: %s",
			    why->b, text);
	if (why->a == LB_SEALED_ERROR_OLDER)
		return fail(failure, LB_AGENT_REFUSED, why->a, "the TA refuses the sealed model of version %u: %s, %u",
			    header->version, text, why->b);
	return fail(failure, LB_AGENT_REFUSED, why->a, "the TA refuses the sealed model: %s", text);
}

/* Copies `bytes` into the block and gives them to the TA. */
static int give(struct tee *tee, TEEC_SharedMemory *block, uint32_t command, const struct lb_sealed_header *header,
		const unsigned char *from, size_t bytes, struct failure *failure)
{
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_PARTIAL_INPUT, TEEC_VALUE_OUTPUT, TEEC_NONE, TEEC_NONE)};
	TEEC_Result result;

	memcpy(block->buffer, from, bytes);
	operation.params[0].memref = (TEEC_RegisteredMemoryReference){.parent = block, .size = bytes};
	result = TEEC_InvokeCommand(&tee->session, command, &operation, NULL);
	if (result == TEEC_ERROR_SECURITY)
		return refused(failure, header, &operation.params[1].value, command == LEAKBOARD_CMD_LOAD_CHUNK);
	return result ? tee_refused(failure, "load the sealed model", result) : 1;
}

/* Whatever the file lacks or has too much of is given as it is: what that means is the TA's to say. */
static int give_all(struct tee *tee, TEEC_SharedMemory *block, const struct lb_sealed_header *header,
		    const unsigned char *sealed, size_t bytes, struct failure *failure)
{
	size_t at = bytes < sizeof(*header) ? bytes : sizeof(*header);

	if (!give(tee, block, LEAKBOARD_CMD_BEGIN_MODEL, header, sealed, at, failure))
		return 0;
	for (uint32_t index = 0; at < bytes; index++) {
		size_t record = lb_sealed_record_bytes(header, index), rest = bytes - at;

		record = record < rest ? record : rest;
		record = record < block->size ? record : block->size;
		if (!give(tee, block, LEAKBOARD_CMD_LOAD_CHUNK, header, sealed + at, record, failure))
			return 0;
		at += record;
	}
	return 1;
}

int tee_load(struct tee *tee, const unsigned char *sealed, size_t bytes, struct failure *failure)
{
	struct lb_sealed_header header = {0};
	TEEC_Operation operation;
	TEEC_SharedMemory block;
	TEEC_Result result = TEEC_SUCCESS;
	int done;

	memcpy(&header, sealed, bytes < sizeof(header) ? bytes : sizeof(header));
	if (!tee_connect(tee, failure) || !tee_share(tee, &block, TEEC_MEM_INPUT, block_bytes(&header, bytes), failure))
		return 0;
	tee->has_model = 1;
	done = give_all(tee, &block, &header, sealed, bytes, failure);
	if (done)
		result = tee_ask(&tee->session, LEAKBOARD_CMD_STATS, &operation);
	if (done && result == TEEC_SUCCESS)
		tee->loading_bytes = (uint64_t)operation.params[0].value.b + block.size;
	TEEC_ReleaseSharedMemory(&block);
	return result ? tee_refused(failure, "report its memory", result) : done;
}
