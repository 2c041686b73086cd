/* Shared memory that another thread changes while the TA reads it. */
#define _POSIX_C_SOURCE 200809L
#include "hostile.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define ROUNDS (40 * thoroughness)
#define FEW 6 /* of what takes a key agreement */

/* One word, which any copy takes whole, goes to and fro between two values. */
struct flipper {
	_Atomic uint32_t *word;
	uint32_t one, other;
	atomic_int stop;
};

/*
 * A processor that never rests starves the others of a machine that emulates them in turns, so there are pauses: of
 * changing length, shorter than a call, so that the changes fall anywhere in it.
 */
static void *flip(void *argument)
{
	static uint32_t flippers; /* one after the other: each begins elsewhere, where a board repeats itself exactly */
	struct flipper *flipper = argument;
	uint32_t turn = 5 * flippers++;

	while (!atomic_load(&flipper->stop)) {
		const struct timespec pause = {.tv_nsec = 2000 + turn % 17 * 3000};

		atomic_store(flipper->word, turn++ % 2 ? flipper->one : flipper->other);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static void start(struct flipper *flipper, pthread_t *thread, void *word, uint32_t other)
{
	flipper->word = word;
	flipper->one = atomic_load(flipper->word);
	flipper->other = other;
	atomic_store(&flipper->stop, 0);
	if (pthread_create(thread, NULL, flip, flipper))
		exit(97);
}

static void stop(struct flipper *flipper, pthread_t thread)
{
	atomic_store(&flipper->stop, 1);
	pthread_join(thread, NULL);
}

static TEEC_Result run_first(struct client *client, void *answer)
{
	size_t bytes = client->out.size;
	TEEC_Result result = run(client, 0, material.in[0].bytes, &bytes);

	if (result == TEEC_SUCCESS)
		memcpy(answer, client->out.buffer, material.out[0].bytes);
	return result;
}

/* The answer is the one of either input, never of half of each. */
static void change_input(struct client *client)
{
	const size_t bytes = material.out[0].bytes, middle = material.in[0].bytes / 2 / 4 * 4;
	unsigned char *one = malloc(bytes), *other = malloc(bytes), *answer = malloc(bytes);
	unsigned char *word = (unsigned char *)client->in.buffer + middle;
	const float large = 100.0f;
	struct flipper flipper;
	uint32_t bits, ones = 0, others = 0;
	pthread_t thread;

	memcpy(&bits, &large, sizeof(bits));
	memcpy(client->in.buffer, material.in[0].data, material.in[0].bytes);
	EXPECT(run_first(client, one), TEEC_SUCCESS);
	memcpy(word, &bits, sizeof(bits));
	run_first(client, other); /* out of order: begins anew */
	EXPECT(run_first(client, other), TEEC_SUCCESS);
	EXPECT_TRUE(memcmp(one, other, bytes) != 0);
	memcpy(client->in.buffer, material.in[0].data, material.in[0].bytes);
	start(&flipper, &thread, word, bits);
	for (int i = 0; i < ROUNDS; i++) {
		if (run_first(client, answer) == TEEC_ERROR_BAD_STATE) /* after segment 0 comes 1, or all over again */
			EXPECT(run_first(client, answer), TEEC_SUCCESS);
		if (!memcmp(answer, one, bytes))
			ones++;
		else if (!memcmp(answer, other, bytes))
			others++;
	}
	stop(&flipper, thread);
	printf("  input changed during %d calls: %u answers of the one, %u of the other\n", ROUNDS, ones, others);
	fflush(stdout);
	EXPECT(ones + others, ROUNDS);
	free(one);
	free(other);
	free(answer);
}

/* A chunk is taken whole or refused: if it is taken, the model is right. `at`: the word that changes. */
static void change_chunk(struct client *client, size_t at)
{
	uint32_t taken = 0, refused = 0;
	size_t bytes;
	const unsigned char *record = chunk_of(&material.model, 0, &bytes);

	for (int i = 0; i < FEW * thoroughness; i++) {
		TEEC_Operation operation = {.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_PARTIAL_INPUT, TEEC_VALUE_OUTPUT,
									   TEEC_NONE, TEEC_NONE)};
		struct flipper flipper;
		struct refusal why;
		pthread_t thread;
		TEEC_Result result;
		uint32_t word;

		EXPECT(begin(client, material.model.data, sizeof(struct lb_sealed_header), &why), TEEC_SUCCESS);
		memcpy(client->in.buffer, record, bytes);
		memcpy(&word, record + at, sizeof(word));
		operation.params[0].memref = (TEEC_RegisteredMemoryReference){.parent = &client->in, .size = bytes};
		start(&flipper, &thread, (unsigned char *)client->in.buffer + at, word ^ 0x10001u);
		result = call(client, LEAKBOARD_CMD_LOAD_CHUNK, &operation);
		stop(&flipper, thread);
		if (result == TEEC_ERROR_SECURITY) {
			refused++;
			continue;
		}
		EXPECT(result, TEEC_SUCCESS);
		taken++;
		for (uint32_t c = 1; result == TEEC_SUCCESS; c++) {
			const unsigned char *next = chunk_of(&material.model, c, &bytes);

			if (!bytes)
				break;
			result = load_chunk(client, next, bytes, &why);
		}
		record = chunk_of(&material.model, 0, &bytes);
		EXPECT(open_model(client, &material.model), TEEC_SUCCESS);
		expect_right_answers(client);
	}
	printf("  chunk changed at byte %zu: %u taken, %u refused\n", at, taken, refused);
	fflush(stdout);
}

/* The header's size of the model, right and as large as it gets. */
static void change_header(struct client *client)
{
	const size_t at = offsetof(struct lb_sealed_header, model_bytes);
	uint32_t begun = 0;

	for (int i = 0; i < FEW * thoroughness; i++) {
		TEEC_Operation operation = {.paramTypes = TEEC_PARAM_TYPES(TEEC_MEMREF_PARTIAL_INPUT, TEEC_VALUE_OUTPUT,
									   TEEC_NONE, TEEC_NONE)};
		struct flipper flipper;
		pthread_t thread;
		TEEC_Result result;

		memcpy(client->in.buffer, material.model.data, sizeof(struct lb_sealed_header));
		operation.params[0].memref = (TEEC_RegisteredMemoryReference){.parent = &client->in,
									      .size = sizeof(struct lb_sealed_header)};
		start(&flipper, &thread, (unsigned char *)client->in.buffer + at, UINT32_MAX);
		result = call(client, LEAKBOARD_CMD_BEGIN_MODEL, &operation);
		stop(&flipper, thread);
		EXPECT_TRUE(result == TEEC_SUCCESS || result == TEEC_ERROR_SECURITY);
		begun += result == TEEC_SUCCESS;
	}
	printf("  header changed: %u of %d begun\n", begun, FEW * thoroughness);
}

void change_during_calls(struct client *client)
{
	size_t bytes;

	chunk_of(&material.model, 0, &bytes);
	change_input(client);
	change_chunk(client, offsetof(struct lb_sealed_chunk, index));
	change_chunk(client, (bytes / 2) / 4 * 4);
	change_chunk(client, (bytes - LB_SEALED_TAG_BYTES) / 4 * 4);
	change_header(client);
	EXPECT(load(client, &material.model), TEEC_SUCCESS);
}
