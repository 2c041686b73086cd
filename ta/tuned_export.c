#include "tuned_export.h"

#include "device_key.h"
#include "hkdf.h"
#include "lb_sealed_check.h"
#include "sealed_key.h"

#define NONCE_BYTES 12u
#define NONCE_ZEROS 8u
#define TAG_BITS (8u * LB_SEALED_TAG_BYTES)

struct info {
	uint8_t label[LB_SEALED_INFO_BYTES];
	uint8_t model_id[16];
	uint8_t owner_key[LB_SEALED_KEY_BYTES];
	uint8_t ephemeral_key[LB_SEALED_KEY_BYTES];
	uint8_t device_key[LB_SEALED_KEY_BYTES];
};

void lb_tuned_export_drop(struct lb_tuned_export *out)
{
	if (out->cipher)
		TEE_FreeOperation(out->cipher);
	lb_block_free(&out->record);
	TEE_MemFill(out, 0, sizeof(*out));
}

/* With a pair that is made here and gone afterwards. */
static TEE_Result agree(struct lb_sealed_header *header, const uint8_t owner_key[LB_SEALED_KEY_BYTES],
			uint8_t z[LB_SEALED_SECRET_BYTES])
{
	TEE_ObjectHandle ephemeral = TEE_HANDLE_NULL;
	TEE_Result result = lb_make_pair(&ephemeral);

	if (result == TEE_SUCCESS)
		result = lb_public_key(ephemeral, header->ephemeral_key);
	if (result == TEE_SUCCESS)
		result = lb_agree(ephemeral, owner_key, z);
	TEE_FreeTransientObject(ephemeral);
	return result;
}

static TEE_Result make_key(struct lb_tuned_export *out, const struct lb_held_model *held,
			   const uint8_t owner_key[LB_SEALED_KEY_BYTES])
{
	struct lb_sealed_header *header = &out->header;
	uint8_t z[2][LB_SEALED_SECRET_BYTES], key[LB_SEALED_SECRET_BYTES];
	struct info info;
	TEE_Result result = agree(header, owner_key, z[0]);

	TEE_MemMove(info.label, LB_TUNED_INFO, sizeof(info.label));
	TEE_MemMove(info.model_id, header->model_id, sizeof(info.model_id));
	TEE_MemMove(info.owner_key, owner_key, sizeof(info.owner_key));
	TEE_MemMove(z[1], held->owner_secret, sizeof(z[1]));
	TEE_MemMove(info.device_key, held->device_key, sizeof(info.device_key));
	TEE_MemMove(info.ephemeral_key, header->ephemeral_key, sizeof(info.ephemeral_key));
	if (result == TEE_SUCCESS)
		result = lb_hkdf_sha256((struct lb_bytes){header->salt, sizeof(header->salt)},
					(struct lb_bytes){z, sizeof(z)}, (struct lb_bytes){&info, sizeof(info)}, key,
					sizeof(key));
	if (result == TEE_SUCCESS)
		result = lb_aes_gcm(key, TEE_MODE_ENCRYPT, &out->cipher);
	TEE_MemFill(z, 0, sizeof(z));
	TEE_MemFill(key, 0, sizeof(key));
	return result;
}

TEE_Result lb_tuned_export_begin(struct lb_tuned_export *out, const struct lb_held_model *held,
				 const uint8_t owner_key[LB_SEALED_KEY_BYTES])
{
	const struct lb_model_header *model = held->model.header;
	struct lb_sealed_header *header = &out->header;
	TEE_Result result;

	*out = (struct lb_tuned_export){
		.header = {.magic = LB_SEALED_MAGIC,
			   .format = LB_SEALED_FORMAT,
			   .model_bytes = model->file_bytes,
			   .chunk_bytes = LB_SEALED_CHUNK_BYTES,
			   .n_chunks = (model->file_bytes - 1u) / LB_SEALED_CHUNK_BYTES + 1u},
	};
	TEE_MemMove(header->model_id, model->model_id, sizeof(header->model_id));
	TEE_GenerateRandom(header->sealing_id, sizeof(header->sealing_id));
	TEE_GenerateRandom(header->salt, sizeof(header->salt));
	result = lb_device_id(owner_key, header->device_id);
	if (result == TEE_SUCCESS)
		result = lb_block_alloc(&out->record, lb_sealed_record_bytes(header, 0));
	if (result == TEE_SUCCESS)
		result = make_key(out, held, owner_key);
	if (result)
		lb_tuned_export_drop(out);
	return result;
}

TEE_Result lb_tuned_export_next(struct lb_tuned_export *out, const unsigned char *file)
{
	const uint32_t bytes = lb_sealed_plain_bytes(&out->header, out->next);
	struct lb_sealed_chunk chunk = {
		.magic = LB_SEALED_CHUNK_MAGIC,
		.index = out->next,
		.n_chunks = out->header.n_chunks,
	};
	unsigned char *record = out->record.data;
	uint8_t nonce[NONCE_BYTES] = {0};
	size_t written = bytes, tag_bytes = LB_SEALED_TAG_BYTES;
	TEE_Result result;

	TEE_MemMove(chunk.model_id, out->header.model_id, sizeof(chunk.model_id));
	TEE_MemMove(chunk.sealing_id, out->header.sealing_id, sizeof(chunk.sealing_id));
	TEE_MemMove(nonce + NONCE_ZEROS, &out->next, sizeof(out->next));
	result = TEE_AEInit(out->cipher, nonce, sizeof(nonce), TAG_BITS, sizeof(out->header) + sizeof(chunk), bytes);
	if (result)
		return result;
	TEE_AEUpdateAAD(out->cipher, &out->header, sizeof(out->header));
	TEE_AEUpdateAAD(out->cipher, &chunk, sizeof(chunk));
	TEE_MemMove(record, &chunk, sizeof(chunk));
	record += sizeof(chunk);
	result = TEE_AEEncryptFinal(out->cipher, file + (size_t)out->next * out->header.chunk_bytes, bytes, record,
				    &written, record + bytes, &tag_bytes);
	if (result == TEE_SUCCESS && (written != bytes || tag_bytes != LB_SEALED_TAG_BYTES))
		result = TEE_ERROR_GENERIC;
	out->next++;
	return result;
}
