/* Commands out of order, and loadings that end badly. */
#include "hostile.h"

static TEEC_Result run_segment(struct client *client, uint32_t segment)
{
	size_t bytes = client->out.size, which = segment % SEGMENTS;

	memcpy(client->in.buffer, material.in[which].data, material.in[which].bytes);
	return run(client, segment, material.in[which].bytes, &bytes);
}

void break_order(struct client *client)
{
	EXPECT(run_segment(client, 1), TEEC_ERROR_BAD_STATE);
	EXPECT(run_segment(client, 2), TEEC_ERROR_BAD_STATE);
	EXPECT(run_segment(client, UINT32_MAX), TEEC_ERROR_BAD_STATE);
	EXPECT(run_segment(client, 0), TEEC_SUCCESS);
	EXPECT(run_segment(client, 0), TEEC_ERROR_BAD_STATE);
	EXPECT(run_segment(client, 1), TEEC_ERROR_BAD_STATE); /* the refusal began a new query */
	EXPECT(open_model(client, &material.model), TEEC_ERROR_BAD_STATE);
	expect_right_answers(client);
	EXPECT(close_model(client), TEEC_SUCCESS);
	EXPECT(close_model(client), TEEC_ERROR_BAD_STATE);
	EXPECT(run_segment(client, 0), TEEC_ERROR_BAD_STATE);
	EXPECT(load(client, &material.model), TEEC_SUCCESS);
}

/* Begins, and loads the first `chunks`. */
static void load_some(struct client *client, uint32_t chunks)
{
	struct refusal why;
	size_t bytes;

	EXPECT(begin(client, material.model.data, sizeof(struct lb_sealed_header), &why), TEEC_SUCCESS);
	for (uint32_t i = 0; i < chunks; i++) {
		const unsigned char *record = chunk_of(&material.model, i, &bytes);

		EXPECT(load_chunk(client, record, bytes, &why), TEEC_SUCCESS);
	}
}

/* One byte of a chunk changed, wherever it is. */
static void change_bytes(struct client *client)
{
	static const uint32_t places[] = {0, 4, 8, 12, 16, 47, 48};
	unsigned char *forged = malloc(material.model.bytes);
	struct refusal why;
	size_t bytes;

	for (uint32_t i = 0; i < sizeof(places) / sizeof(places[0]) + 2; i++) {
		const unsigned char *record = chunk_of(&material.model, 0, &bytes);
		size_t at = i < sizeof(places) / sizeof(places[0]) ? places[i] : bytes - 1 - 16 * (i % 2);

		memcpy(forged, record, bytes);
		forged[at] ^= 1;
		load_some(client, 0);
		EXPECT(load_chunk(client, forged, bytes, &why), TEEC_ERROR_SECURITY);
		EXPECT_TRUE(why.error != LB_SEALED_OK);
		EXPECT(load_chunk(client, record, bytes, &why), TEEC_ERROR_BAD_STATE);
	}
	free(forged);
}

/* Every byte of the header counts, too: there it is found at the latest with the first chunk's tag. */
static void change_header(struct client *client)
{
	unsigned char forged[sizeof(struct lb_sealed_header)];
	struct refusal why;
	size_t bytes;
	const unsigned char *record = chunk_of(&material.model, 0, &bytes);

	for (uint32_t at = 1; at < sizeof(forged); at += thoroughness > 1 ? 3u : 23u) {
		TEEC_Result result;

		memcpy(forged, material.model.data, sizeof(forged));
		forged[at] ^= 4;
		result = begin(client, forged, sizeof(forged), &why);
		if (result == TEEC_SUCCESS)
			result = load_chunk(client, record, bytes, &why);
		EXPECT_TRUE(result == TEEC_ERROR_SECURITY || result == TEEC_ERROR_OUT_OF_MEMORY);
		EXPECT_TRUE(result != TEEC_ERROR_SECURITY || why.error != LB_SEALED_OK);
	}
}

void break_loading(struct client *client)
{
	const size_t header_bytes = sizeof(struct lb_sealed_header);
	unsigned char long_header[2 * sizeof(struct lb_sealed_header)] = {0};
	struct refusal why;
	size_t bytes;
	const unsigned char *second = chunk_of(&material.model, 1, &bytes);

	EXPECT_TRUE(bytes > 0);
	EXPECT(load_chunk(client, second, bytes, &why), TEEC_ERROR_BAD_STATE); /* one is open, none is loaded */
	expect_right_answers(client);
	memcpy(long_header, material.model.data, header_bytes);
	EXPECT(begin(client, long_header, sizeof(long_header), &why), TEEC_ERROR_SECURITY);
	EXPECT(why.error, LB_SEALED_ERROR_HEADER);
	EXPECT(begin(client, long_header, header_bytes - 1, &why), TEEC_ERROR_SECURITY);
	EXPECT(why.error, LB_SEALED_ERROR_HEADER);

	load_some(client, 0); /* reordered */
	EXPECT(load_chunk(client, second, bytes, &why), TEEC_ERROR_SECURITY);
	EXPECT(why.error, LB_SEALED_ERROR_REORDERED);
	load_some(client, 1); /* too short, too long */
	EXPECT(load_chunk(client, second, bytes - 1, &why), TEEC_ERROR_SECURITY);
	EXPECT(why.error, LB_SEALED_ERROR_CHUNK);
	load_some(client, 1);
	EXPECT(load_chunk(client, second, bytes + 1, &why), TEEC_ERROR_SECURITY);
	EXPECT(why.error, LB_SEALED_ERROR_CHUNK);
	load_some(client, 1); /* truncated */
	EXPECT(open_model(client, &material.model), TEEC_ERROR_SECURITY);
	EXPECT(open_model(client, &material.model), TEEC_ERROR_BAD_STATE);
	load_some(client, 1); /* interrupted, and begun again */
	load_some(client, 1);
	EXPECT(load_chunk(client, second, bytes, &why), TEEC_SUCCESS);
	load_some(client, 2); /* given up */
	EXPECT(close_model(client), TEEC_SUCCESS);
	change_bytes(client);
	change_header(client);
	EXPECT(load(client, &material.model), TEEC_SUCCESS);
	EXPECT(load_chunk(client, second, bytes, &why), TEEC_ERROR_BAD_STATE);
}
