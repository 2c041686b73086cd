/* More sessions and models than there is room for, sessions that end in the middle, and many of them. */
#include "hostile.h"

#define MANY 40
#define CYCLES 200

static void many_sessions(struct client *client)
{
	static const TEEC_UUID ta = LEAKBOARD_TA_UUID, nobody = {.timeLow = 1};
	TEEC_Session sessions[MANY];
	uint32_t opened = 0;

	EXPECT(TEEC_OpenSession(client->session.context, &sessions[0], &nobody, TEEC_LOGIN_PUBLIC, NULL, NULL, NULL),
	       TEEC_ERROR_ITEM_NOT_FOUND);
	while (opened < MANY && TEEC_OpenSession(client->session.context, &sessions[opened], &ta, TEEC_LOGIN_PUBLIC,
						 NULL, NULL, NULL) == TEEC_SUCCESS)
		opened++;
	EXPECT_TRUE(opened >= 4);
	while (opened)
		TEEC_CloseSession(&sessions[--opened]);
}

/* Two large models fit beside the small one, loaded or half loaded; a third does not, and harms none of them. */
static void many_models(struct client *client)
{
	struct client others[3];
	struct refusal why;
	uint32_t before = heap_now(client);

	for (int i = 0; i < 3; i++)
		EXPECT(client_open_beside(&others[i], client->session.context), TEEC_SUCCESS);
	EXPECT(load(&others[0], &material.large), TEEC_SUCCESS);
	EXPECT(begin(&others[1], material.large.data, sizeof(struct lb_sealed_header), &why), TEEC_SUCCESS);
	EXPECT(begin(&others[2], material.large.data, sizeof(struct lb_sealed_header), &why), TEEC_ERROR_OUT_OF_MEMORY);
	expect_right_answers(client);
	EXPECT(close_model(&others[0]), TEEC_SUCCESS);
	EXPECT(begin(&others[2], material.large.data, sizeof(struct lb_sealed_header), &why), TEEC_SUCCESS);
	for (int i = 0; i < 3; i++)
		client_close_beside(&others[i]);
	EXPECT(heap_now(client), before);
	/* The small model twice: two sessions that do not see each other. */
	EXPECT(client_open_beside(&others[0], client->session.context), TEEC_SUCCESS);
	EXPECT(load(&others[0], &material.model), TEEC_SUCCESS);
	for (int i = 0; i < 3; i++) {
		size_t bytes = client->out.size;

		memcpy(client->in.buffer, material.in[0].data, material.in[0].bytes);
		EXPECT(run(client, 0, material.in[0].bytes, &bytes), TEEC_SUCCESS);
		expect_right_answers(&others[0]);
		bytes = client->out.size;
		memcpy(client->in.buffer, material.in[1].data, material.in[1].bytes);
		EXPECT(run(client, 1, material.in[1].bytes, &bytes), TEEC_SUCCESS);
		EXPECT_TRUE(is_right(1, client->out.buffer));
	}
	client_close_beside(&others[0]);
}

void exhaust(struct client *client)
{
	many_sessions(client);
	many_models(client);
}

void open_and_close(struct client *client)
{
	const uint32_t before = heap_now(client);

	for (int i = 0; i < CYCLES * thoroughness; i++) {
		struct client other;
		struct refusal why;
		size_t bytes;
		const unsigned char *record = chunk_of(&material.model, 0, &bytes);

		EXPECT(client_open_beside(&other, client->session.context), TEEC_SUCCESS);
		if (i % 50 == 0) {
			EXPECT(load(&other, &material.model), TEEC_SUCCESS);
			expect_right_answers(&other);
		} else if (i % 20 == 1) { /* in the middle of loading */
			EXPECT(begin(&other, material.model.data, sizeof(struct lb_sealed_header), &why), TEEC_SUCCESS);
			EXPECT(load_chunk(&other, record, bytes, &why), TEEC_SUCCESS);
		}
		client_close_beside(&other);
		if (failures)
			break;
	}
	EXPECT(heap_now(client), before);
}
