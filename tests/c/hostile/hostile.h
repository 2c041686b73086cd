/*
 * A normal world that breaks every rule: of include/leakboard_ta.h, of the client API, and of good manners. The same
 * program runs against OP-TEE (driver/world.c) and against the emulated secure world (emu/client/world.c).
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tee_client_api.h>

#include "leakboard_ta.h"
#include "lb_sealed.h"
#include "../../../device/emu/client/world.h"

#define SEGMENTS 2

extern int failures;

/* 1 is thorough enough for every day: OP-TEE's key agreement is slow. */
extern int thoroughness;

#define EXPECT(actual, wanted)                                                                                         \
	do {                                                                                                           \
		unsigned int got = (unsigned int)(actual), want = (unsigned int)(wanted);                              \
		if (got != want) {                                                                                     \
			fprintf(stderr, "%s:%d: %s is 0x%x, expected 0x%x\n", __FILE__, __LINE__, #actual, got, want); \
			failures++;                                                                                    \
		}                                                                                                      \
	} while (0)

#define EXPECT_TRUE(condition) EXPECT((condition) != 0, 1)

struct file {
	unsigned char *data;
	size_t bytes;
};

/*
 * What the environment provides: a sealed model of two segments, one input and the right answer of each; the same with
 * leave to train it; a large one.
 */
struct material {
	struct file model, in[SEGMENTS], out[SEGMENTS], trainable, large;
};

extern struct material material;

/* A session with a block of shared memory for what goes in and one for what comes out. */
struct client {
	TEEC_Context context;
	TEEC_Session session;
	TEEC_SharedMemory in, out;
};

#define SHARED_BYTES 262144u

/* 0: it could not be opened. `context`: another client's, or NULL for one of its own. */
TEEC_Result client_open(struct client *client);
TEEC_Result client_open_beside(struct client *client, TEEC_Context *context);
void client_close(struct client *client);
void client_close_beside(struct client *client);

/* Any call; a dead TA ends the program at once. */
TEEC_Result call(struct client *client, uint32_t command, TEEC_Operation *operation);

/* One that the client API would not let through: types, ids, offsets and sizes as they are. */
TEEC_Result call_raw(struct client *client, uint32_t command, uint32_t types, const struct emu_param params[4]);

struct refusal {
	uint32_t error, index;
};

TEEC_Result begin(struct client *client, const void *header, size_t bytes, struct refusal *why);
TEEC_Result load_chunk(struct client *client, const void *record, size_t bytes, struct refusal *why);
TEEC_Result open_model(struct client *client, const struct file *sealed);
TEEC_Result close_model(struct client *client);

/* Where chunk `index` lies in a sealed file; 0 bytes after the last. */
const unsigned char *chunk_of(const struct file *sealed, uint32_t index, size_t *bytes);

/* Header, all chunks, open. */
TEEC_Result load(struct client *client, const struct file *sealed);

/* A segment on what lies in client->in. */
TEEC_Result run(struct client *client, uint32_t segment, size_t in_bytes, size_t *out_bytes);

/* The model is loaded and in order: both segments give the right answers. */
void expect_right_answers(struct client *client);
int is_right(uint32_t segment, const void *answer);

uint32_t heap_now(struct client *client);

/* The groups. Each finds the model loaded and must leave it so. */
void break_types(struct client *client);
void break_sizes(struct client *client);
void break_references(struct client *client);
void break_order(struct client *client);
void break_loading(struct client *client);
void break_training(struct client *client);
void exhaust(struct client *client);
void open_and_close(struct client *client);
void change_during_calls(struct client *client);

#endif
