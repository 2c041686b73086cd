#include "sealed_loading.h"

#include "lb_sealed_check.h"
#include "model_version.h"
#include "sealed_key.h"

#define NONCE_BYTES 12u
#define NONCE_ZEROS 8u
#define TAG_BITS (8u * LB_SEALED_TAG_BYTES)

static void free_key(struct lb_loading *loading)
{
	if (loading->decryption)
		TEE_FreeOperation(loading->decryption);
	loading->decryption = TEE_HANDLE_NULL;
}

void lb_loading_drop(struct lb_loading *loading)
{
	free_key(loading);
	lb_block_free(&loading->chunk);
	lb_block_free(&loading->file);
	TEE_MemFill(loading, 0, sizeof(*loading));
}

static TEE_Result check_version(const struct lb_sealed_header *header, enum lb_sealed_error *error, uint32_t *opened)
{
	TEE_Result result = lb_model_version_read(header->model_id, opened);

	if (result == TEE_SUCCESS && header->version < *opened) {
		*error = LB_SEALED_ERROR_OLDER;
		result = TEE_ERROR_SECURITY;
	}
	return result;
}

TEE_Result lb_loading_begin(struct lb_loading *loading, const void *header, size_t bytes, enum lb_sealed_error *error,
			    uint32_t *opened)
{
	uint32_t kept = 0;
	TEE_Result result;

	*loading = (struct lb_loading){.is_active = 1};
	*opened = 0;
	/* A longer one is refused for its length, whatever it begins with. */
	TEE_MemMove(&loading->header, header, bytes < sizeof(loading->header) ? bytes : sizeof(loading->header));
	*error = lb_sealed_check_header(&loading->header, bytes);
	result = *error ? TEE_ERROR_SECURITY : lb_sealed_key_agree(&loading->header, &loading->decryption, error);
	if (result == TEE_SUCCESS)
		result = check_version(&loading->header, error, &kept);
	if (*error == LB_SEALED_ERROR_OLDER)
		*opened = kept;
	if (result == TEE_SUCCESS)
		result = lb_block_alloc(&loading->file, loading->header.model_bytes);
	if (result == TEE_SUCCESS)
		result = lb_block_alloc(&loading->chunk, lb_sealed_record_bytes(&loading->header, 0)); /* the longest */
	if (result)
		lb_loading_drop(loading);
	return result;
}

/* Decrypts the record in loading->chunk, whose struct and length are right, to its place in the file. */
static TEE_Result decrypt(struct lb_loading *loading)
{
	unsigned char *record = loading->chunk.data, *tag;
	uint32_t bytes = lb_sealed_plain_bytes(&loading->header, loading->next);
	unsigned char *to = (unsigned char *)loading->file.data + (size_t)loading->next * loading->header.chunk_bytes;
	uint8_t nonce[NONCE_BYTES] = {0};
	size_t written = bytes;
	TEE_Result result;

	TEE_MemMove(nonce + NONCE_ZEROS, &loading->next, sizeof(loading->next));
	result = TEE_AEInit(loading->decryption, nonce, sizeof(nonce), TAG_BITS,
			    sizeof(loading->header) + sizeof(struct lb_sealed_chunk), bytes);
	if (result)
		return result;
	TEE_AEUpdateAAD(loading->decryption, &loading->header, sizeof(loading->header));
	TEE_AEUpdateAAD(loading->decryption, record, sizeof(struct lb_sealed_chunk));
	record += sizeof(struct lb_sealed_chunk);
	tag = record + bytes;
	result = TEE_AEDecryptFinal(loading->decryption, record, bytes, to, &written, tag, LB_SEALED_TAG_BYTES);
	if (result == TEE_SUCCESS && written != bytes)
		result = TEE_ERROR_GENERIC;
	return result;
}

TEE_Result lb_loading_add(struct lb_loading *loading, const void *record, size_t bytes, enum lb_sealed_error *error)
{
	size_t room = lb_sealed_record_bytes(&loading->header, 0);
	TEE_Result result = TEE_ERROR_SECURITY;

	/* All further reads are of this copy: the normal world cannot change what the tag was computed over. */
	if (loading->chunk.data)
		TEE_MemMove(loading->chunk.data, record, bytes < room ? bytes : room);
	*error = lb_sealed_check_chunk(&loading->header, loading->next, loading->chunk.data, bytes);
	if (*error == LB_SEALED_OK) {
		result = decrypt(loading);
		if (result == TEE_ERROR_MAC_INVALID) {
			*error = LB_SEALED_ERROR_AUTHENTICATION;
			result = TEE_ERROR_SECURITY;
		}
	}
	if (result) {
		lb_loading_drop(loading);
		return result;
	}
	loading->next++;
	if (loading->next == loading->header.n_chunks) {
		free_key(loading);
		lb_block_free(&loading->chunk); /* a chunk after the last is refused without a look at it */
	}
	return TEE_SUCCESS;
}

TEE_Result lb_loading_finish(struct lb_loading *loading, struct lb_block *file, enum lb_sealed_error *error)
{
	uint32_t opened;
	TEE_Result result = TEE_SUCCESS;

	if (loading->next < loading->header.n_chunks) {
		*error = LB_SEALED_ERROR_TRUNCATED;
		result = TEE_ERROR_SECURITY;
	}
	if (result == TEE_SUCCESS)
		result = check_version(&loading->header, error, &opened);
	if (result) {
		lb_loading_drop(loading);
		return result;
	}
	*file = loading->file;
	loading->file = (struct lb_block){0};
	return TEE_SUCCESS;
}

TEE_Result lb_loading_commit(const struct lb_sealed_header *header)
{
	uint32_t kept;
	TEE_Result result = lb_model_version_read(header->model_id, &kept);

	if (result || header->version <= kept)
		return result;
	return lb_model_version_write(header->model_id, header->version);
}
