#include "lb_sealed_check.h"

_Static_assert(sizeof(struct lb_sealed_header) == 192 && sizeof(struct lb_sealed_chunk) == 48, "as the format says");

const char *lb_sealed_strerror(enum lb_sealed_error error)
{
	switch (error) {
	case LB_SEALED_OK: return "no error";
	case LB_SEALED_ERROR_HEADER: return "it has no header of a sealed model, or one that contradicts itself";
	case LB_SEALED_ERROR_FORMAT: return "it has another format version";
	case LB_SEALED_ERROR_WRONG_DEVICE: return "it was sealed to another device";
	case LB_SEALED_ERROR_KEY: return "its ephemeral key is no point of the curve";
	case LB_SEALED_ERROR_OLDER: return "the device has opened a newer version of this model";
	case LB_SEALED_ERROR_CHUNK: return "a chunk is not one, or is too short or too long";
	case LB_SEALED_ERROR_FOREIGN_CHUNK: return "a chunk comes from another model or another sealing";
	case LB_SEALED_ERROR_OLDER_CHUNK: return "a chunk comes from another version of this model";
	case LB_SEALED_ERROR_REORDERED: return "the chunks are out of order";
	case LB_SEALED_ERROR_AUTHENTICATION: return "its tag does not fit: it was changed or forged";
	case LB_SEALED_ERROR_TRUNCATED: return "chunks are missing at its end";
	case LB_SEALED_ERROR_SURPLUS: return "there is more after its last chunk";
	case LB_SEALED_ERROR_MODEL_ID: return "the model inside is another one than was asked for";
	}
	return "unknown error";
}

/* Reads of 4 bytes at any alignment; what the compiler makes of it is one load. */
static uint32_t load(const unsigned char *from)
{
	uint32_t value;

	__builtin_memcpy(&value, from, sizeof(value));
	return value;
}

enum lb_sealed_error lb_sealed_check_header(const void *bytes_of_header, size_t bytes)
{
	struct lb_sealed_header header;
	uint32_t chunks;

	if (bytes < sizeof(uint32_t) || load(bytes_of_header) != LB_SEALED_MAGIC)
		return LB_SEALED_ERROR_HEADER;
	if (bytes >= 2 * sizeof(uint32_t) &&
	    load((const unsigned char *)bytes_of_header + sizeof(uint32_t)) != LB_SEALED_FORMAT)
		return LB_SEALED_ERROR_FORMAT; /* whose header may well have another size */
	if (bytes != sizeof(header))
		return LB_SEALED_ERROR_HEADER;
	__builtin_memcpy(&header, bytes_of_header, sizeof(header));
	if (header.chunk_bytes < LB_SEALED_MIN_CHUNK_BYTES || header.chunk_bytes > LB_SEALED_MAX_CHUNK_BYTES ||
	    header.chunk_bytes % 64u || header.model_bytes == 0)
		return LB_SEALED_ERROR_HEADER;
	chunks = header.model_bytes / header.chunk_bytes + (header.model_bytes % header.chunk_bytes != 0);
	if (header.n_chunks != chunks || header.reserved[0] || header.reserved[1])
		return LB_SEALED_ERROR_HEADER;
	return LB_SEALED_OK;
}

uint32_t lb_sealed_plain_bytes(const struct lb_sealed_header *header, uint32_t index)
{
	uint64_t start = (uint64_t)index * header->chunk_bytes;
	uint64_t rest = start < header->model_bytes ? header->model_bytes - start : 0;

	return (uint32_t)(rest < header->chunk_bytes ? rest : header->chunk_bytes);
}

size_t lb_sealed_record_bytes(const struct lb_sealed_header *header, uint32_t index)
{
	return sizeof(struct lb_sealed_chunk) + lb_sealed_plain_bytes(header, index) + (size_t)LB_SEALED_TAG_BYTES;
}

static int same_id(const uint32_t a[4], const uint32_t b[4])
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

enum lb_sealed_error lb_sealed_check_chunk(const struct lb_sealed_header *header, uint32_t expected, const void *record,
					   size_t bytes)
{
	struct lb_sealed_chunk chunk;

	if (expected >= header->n_chunks)
		return LB_SEALED_ERROR_SURPLUS;
	if (bytes <= sizeof(chunk) + LB_SEALED_TAG_BYTES)
		return LB_SEALED_ERROR_CHUNK;
	__builtin_memcpy(&chunk, record, sizeof(chunk));
	if (chunk.magic != LB_SEALED_CHUNK_MAGIC)
		return LB_SEALED_ERROR_CHUNK;
	if (!same_id(chunk.model_id, header->model_id))
		return LB_SEALED_ERROR_FOREIGN_CHUNK;
	if (chunk.version != header->version)
		return LB_SEALED_ERROR_OLDER_CHUNK;
	if (!same_id(chunk.sealing_id, header->sealing_id))
		return LB_SEALED_ERROR_FOREIGN_CHUNK;
	if (chunk.n_chunks != header->n_chunks)
		return LB_SEALED_ERROR_AUTHENTICATION; /* of this very sealing, and yet not what was sealed */
	if (chunk.index != expected)
		return LB_SEALED_ERROR_REORDERED;
	if (bytes != lb_sealed_record_bytes(header, expected))
		return LB_SEALED_ERROR_CHUNK;
	return LB_SEALED_OK;
}
