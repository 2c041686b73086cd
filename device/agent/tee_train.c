#define _POSIX_C_SOURCE 200809L
#include "tee_train.h"

#include <stdlib.h>
#include <string.h>

#include "agent_protocol.h"
#include "lb_runtime.h"
#include "lb_sealed_check.h"
#include "leakboard_ta.h"

static uint32_t bits_of(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

static int refused_to_begin(struct failure *failure, TEEC_Result result, const TEEC_Value *why)
{
	if (result == TEEC_ERROR_ACCESS_DENIED)
		return fail(failure, LB_AGENT_TRAINING, 0,
			    "the sealed model's owner does not allow training: it has no training section");
	if (result == TEEC_ERROR_BAD_FORMAT)
		return fail(failure, LB_AGENT_TRAINING, why->a, "the sealed model is refused: %s",
			    lb_strerror((enum lb_error)why->a));
	return tee_refused(failure, "train", result);
}

int tee_train_begin(struct tee *tee, struct tee_training *training, const struct lb_sgd *sgd, uint32_t seed,
		    size_t in_bytes, size_t out_bytes, struct failure *failure)
{
	TEEC_Operation operation = {
		.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_VALUE_INPUT, TEEC_VALUE_OUTPUT, TEEC_NONE)};
	TEEC_Result result;

	operation.params[0].value = (TEEC_Value){bits_of(sgd->learning_rate), bits_of(sgd->momentum)};
	operation.params[1].value = (TEEC_Value){bits_of(sgd->weight_decay), seed};
	result = TEEC_InvokeCommand(&tee->session, LEAKBOARD_CMD_TRAIN_BEGIN, &operation, NULL);
	if (result)
		return refused_to_begin(failure, result, &operation.params[2].value);
	training->is_active = 1;
	training->bytes = operation.params[2].value.a;
	training->gives_gradient = (int)operation.params[2].value.b;
	return tee_share(tee, &training->in, TEEC_MEM_INPUT, in_bytes, failure) &&
	       tee_share(tee, &training->out, TEEC_MEM_OUTPUT, out_bytes, failure);
}

int tee_train_run(struct tee *tee, struct tee_training *training, uint32_t command, uint32_t a, uint32_t b,
		  size_t in_bytes, size_t out_bytes, clockid_t clock, uint64_t *ns, struct failure *failure)
{
	TEEC_Operation operation = {.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_MEMREF_PARTIAL_INPUT,
								   TEEC_MEMREF_PARTIAL_OUTPUT, TEEC_NONE)};
	TEEC_Result result;
	uint64_t start;

	operation.params[0].value = (TEEC_Value){a, b};
	operation.params[1].memref = (TEEC_RegisteredMemoryReference){.parent = &training->in, .size = in_bytes};
	/* Even when nothing comes out: not every driver takes a reference to nothing. */
	operation.params[2].memref =
		(TEEC_RegisteredMemoryReference){.parent = &training->out, .size = out_bytes ? out_bytes : 1};
	start = now_ns(clock);
	result = TEEC_InvokeCommand(&tee->session, command, &operation, NULL);
	*ns += now_ns(clock) - start;
	if (result == TEEC_ERROR_BAD_PARAMETERS || result == TEEC_ERROR_SHORT_BUFFER)
		return fail(failure, LB_AGENT_SEALED, 0,
			    "segment %u of the sealed model takes or gives other tensors than the public file says", a);
	if (result)
		return tee_refused(failure, "train a segment", result);
	if (operation.params[2].memref.size != out_bytes)
		return fail(failure, LB_AGENT_SEALED, 0, "segment %u of the sealed model gave %zu bytes, expected %zu",
			    a, operation.params[2].memref.size, out_bytes);
	return 1;
}

int tee_train_step(struct tee *tee, int update, clockid_t clock, uint64_t *ns, struct failure *failure)
{
	TEEC_Operation operation = {.paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_INPUT, TEEC_NONE, TEEC_NONE, TEEC_NONE)};
	TEEC_Result result;
	uint64_t start = now_ns(clock);

	operation.params[0].value.a = (uint32_t)update;
	result = TEEC_InvokeCommand(&tee->session, LEAKBOARD_CMD_TRAIN_STEP, &operation, NULL);
	*ns += now_ns(clock) - start;
	return result ? tee_refused(failure, "end a batch", result) : 1;
}

void tee_train_end(struct tee *tee, struct tee_training *training)
{
	if (!training->is_active)
		return;
	TEEC_ReleaseSharedMemory(&training->in);
	TEEC_ReleaseSharedMemory(&training->out);
	TEEC_InvokeCommand(&tee->session, LEAKBOARD_CMD_TRAIN_END, NULL, NULL); /* an export has ended it before */
	*training = (struct tee_training){0};
}

static TEEC_Result take(struct tee *tee, uint32_t command, void *to, size_t *bytes)
{
	TEEC_Operation operation = {.paramTypes =
					    TEEC_PARAM_TYPES(TEEC_MEMREF_TEMP_OUTPUT, TEEC_NONE, TEEC_NONE, TEEC_NONE)};
	TEEC_Result result;

	operation.params[0].tmpref = (TEEC_TempMemoryReference){to, *bytes};
	result = TEEC_InvokeCommand(&tee->session, command, &operation, NULL);
	*bytes = operation.params[0].tmpref.size;
	return result;
}

int tee_train_export(struct tee *tee, unsigned char **sealed, size_t *bytes, struct failure *failure)
{
	struct lb_sealed_header header;
	size_t got = sizeof(header), room = sizeof(header);
	TEEC_Result result = take(tee, LEAKBOARD_CMD_EXPORT_BEGIN, &header, &got);

	*sealed = NULL;
	*bytes = sizeof(header);
	if (result == TEEC_ERROR_ACCESS_DENIED)
		return refused_to_begin(failure, result, NULL);
	if (result)
		return tee_refused(failure, "seal the tuned model", result);
	if (got != sizeof(header) || lb_sealed_check_header(&header, got))
		return fail(failure, LB_AGENT_TEE, 0, "the TA's tuned model has no header");
	for (uint32_t i = 0; i < header.n_chunks; i++)
		room += lb_sealed_record_bytes(&header, i);
	*sealed = malloc(room);
	if (!*sealed)
		return fail(failure, LB_AGENT_MEMORY, 0, "no memory for a tuned model of %zu bytes", room);
	memcpy(*sealed, &header, sizeof(header));
	while (*bytes < room) {
		got = room - *bytes < LB_SEALED_MAX_CHUNK_BYTES ? room - *bytes : LB_SEALED_MAX_CHUNK_BYTES;
		result = take(tee, LEAKBOARD_CMD_EXPORT_CHUNK, *sealed + *bytes, &got);
		if (result || got == 0 || got > room - *bytes) {
			free(*sealed);
			*sealed = NULL;
			return tee_refused(failure, "seal a chunk of the tuned model", result);
		}
		*bytes += got;
	}
	return 1;
}
