/*
 * Sealed models as far as they are read without a key: any bytes as a header, any as its chunks. What is accepted must
 * add up: chunks of sizes that make the model, none of them empty, each in its place only.
 */
#include "fuzz.h"

#include "lb_sealed_check.h"

#define MOST_CHUNKS 64u

/* The negative of a point is one, too: x, and the prime of P-256 less y. */
static void check_point(const uint8_t key[LB_SEALED_KEY_BYTES])
{
	static const uint8_t prime[32] = {0xff, 0xff, 0xff, 0xff, 0,    0,    0,    1,    0,    0,    0,
					  0,    0,    0,    0,    0,    0,    0,    0,    0,    0xff, 0xff,
					  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	uint8_t negative[LB_SEALED_KEY_BYTES];
	int borrow = 0, is_zero = 1;

	memcpy(negative, key, sizeof(negative));
	for (int i = 31; i >= 0; i--) {
		int digit = prime[i] - key[32 + i] - borrow;

		is_zero &= key[32 + i] == 0;
		borrow = digit < 0;
		negative[32 + i] = (uint8_t)(digit + 256 * borrow);
	}
	if (!borrow && !is_zero)
		FUZZ_PROMISE(lb_p256_is_point(key) == lb_p256_is_point(negative));
	else if (borrow)
		FUZZ_PROMISE(!lb_p256_is_point(key));
}

static void check_sizes(const struct lb_sealed_header *header)
{
	uint32_t last = header->n_chunks - 1u;

	FUZZ_PROMISE(header->n_chunks > 0);
	FUZZ_PROMISE((uint64_t)last * header->chunk_bytes + lb_sealed_plain_bytes(header, last) == header->model_bytes);
	FUZZ_PROMISE(lb_sealed_plain_bytes(header, last) > 0);
	FUZZ_PROMISE(lb_sealed_plain_bytes(header, header->n_chunks) == 0);
	FUZZ_PROMISE(last == 0 || lb_sealed_plain_bytes(header, 0) == header->chunk_bytes);
	FUZZ_PROMISE(lb_sealed_record_bytes(header, 0) <=
		     sizeof(struct lb_sealed_chunk) + LB_SEALED_MAX_CHUNK_BYTES + LB_SEALED_TAG_BYTES);
}

/* A record: a byte that says how its length strays from the right one, then its struct. The body is not looked at. */
static void check_record(const struct lb_sealed_header *header, uint32_t expected, struct input *input)
{
	const uint8_t stray = take8(input);
	size_t bytes = lb_sealed_record_bytes(header, expected);
	unsigned char *record;
	enum lb_sealed_error error;

	if (stray % 4 == 1)
		bytes = stray / 4u;
	else if (stray % 4 == 2)
		bytes += stray / 4u;
	else if (stray % 4 == 3)
		bytes -= bytes < stray / 4u ? bytes : stray / 4u;
	record = fuzz_block(bytes < sizeof(struct lb_sealed_chunk) ? bytes : sizeof(struct lb_sealed_chunk), 0);
	take(input, record, bytes < sizeof(struct lb_sealed_chunk) ? bytes : sizeof(struct lb_sealed_chunk));
	error = lb_sealed_check_chunk(header, expected, record, bytes);
	FUZZ_PROMISE(strlen(lb_sealed_strerror(error)) > 0);
	if (error == LB_SEALED_OK) {
		FUZZ_PROMISE(expected < header->n_chunks && bytes == lb_sealed_record_bytes(header, expected));
		FUZZ_PROMISE(lb_sealed_check_chunk(header, expected + 1u, record, bytes) != LB_SEALED_OK);
	}
	free(record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lb_sealed_header header;
	struct input input;
	size_t cut;
	uint8_t *bytes;
	enum lb_sealed_error error;

	if (size == 0)
		return 0;
	/* The first byte: 0 gives the header whole, else cut or with more behind it. */
	cut = data[0] < sizeof(header) ? sizeof(header) - data[0] : sizeof(header) + data[0] - sizeof(header);
	input = (struct input){data + 1, size - 1};
	bytes = fuzz_block(cut, 0);
	take(&input, bytes, cut);
	error = lb_sealed_check_header(bytes, cut);
	FUZZ_PROMISE(strlen(lb_sealed_strerror(error)) > 0);
	FUZZ_PROMISE(error != LB_SEALED_OK || cut == sizeof(header));
	if (cut >= sizeof(header)) {
		memcpy(&header, bytes, sizeof(header));
		if (error == LB_SEALED_OK)
			check_sizes(&header);
		/* The record's sizes are asked of any header. */
		for (uint32_t i = 0; i < MOST_CHUNKS && input.left; i++)
			check_record(&header, i, &input);
		if (data[0] == 0 && header.salt[0] == 'P') /* a hundred times as slow as the rest */
			check_point(header.ephemeral_key);
	}
	free(bytes);
	return 0;
}
