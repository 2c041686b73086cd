#include "hkdf.h"

/* Shorter keys are filled with zeros up to the hash's block, as HMAC itself does: TEEs refuse keys below 24 bytes. */
#define BLOCK_BYTES 64u

static TEE_Result start_hmac(struct lb_bytes key, TEE_OperationHandle *hmac)
{
	uint8_t filled[LB_HKDF_MAX_KEY_BYTES] = {0};
	uint32_t bytes = key.bytes < BLOCK_BYTES ? BLOCK_BYTES : (uint32_t)key.bytes;
	TEE_ObjectHandle object = TEE_HANDLE_NULL;
	TEE_Attribute attribute;
	TEE_Result result;

	*hmac = TEE_HANDLE_NULL;
	if (key.bytes)
		TEE_MemMove(filled, key.data, key.bytes);
	TEE_InitRefAttribute(&attribute, TEE_ATTR_SECRET_VALUE, filled, bytes);
	result = TEE_AllocateTransientObject(TEE_TYPE_HMAC_SHA256, 8u * bytes, &object);
	if (result == TEE_SUCCESS)
		result = TEE_PopulateTransientObject(object, &attribute, 1);
	if (result == TEE_SUCCESS)
		result = TEE_AllocateOperation(hmac, TEE_ALG_HMAC_SHA256, TEE_MODE_MAC, 8u * bytes);
	if (result == TEE_SUCCESS)
		result = TEE_SetOperationKey(*hmac, object);
	TEE_FreeTransientObject(object);
	TEE_MemFill(filled, 0, sizeof(filled));
	if (result && *hmac) {
		TEE_FreeOperation(*hmac);
		*hmac = TEE_HANDLE_NULL;
	}
	return result;
}

static TEE_Result extract(struct lb_bytes salt, struct lb_bytes secret, uint8_t prk[LB_SHA256_BYTES])
{
	TEE_OperationHandle hmac;
	TEE_Result result = start_hmac(salt, &hmac);
	size_t bytes = LB_SHA256_BYTES;

	if (result)
		return result;
	TEE_MACInit(hmac, NULL, 0);
	result = TEE_MACComputeFinal(hmac, secret.data, secret.bytes, prk, &bytes);
	TEE_FreeOperation(hmac);
	return result;
}

static TEE_Result expand(const uint8_t prk[LB_SHA256_BYTES], struct lb_bytes info, uint8_t *key, size_t key_bytes)
{
	uint8_t block[LB_SHA256_BYTES], counter = 0;
	TEE_OperationHandle hmac;
	TEE_Result result = start_hmac((struct lb_bytes){prk, LB_SHA256_BYTES}, &hmac);

	while (result == TEE_SUCCESS && key_bytes) {
		size_t take = key_bytes < sizeof(block) ? key_bytes : sizeof(block), bytes = sizeof(block);

		TEE_MACInit(hmac, NULL, 0);
		if (counter++)
			TEE_MACUpdate(hmac, block, sizeof(block));
		if (info.bytes)
			TEE_MACUpdate(hmac, info.data, info.bytes);
		result = TEE_MACComputeFinal(hmac, &counter, 1, block, &bytes);
		TEE_MemMove(key, block, take);
		key += take;
		key_bytes -= take;
	}
	if (hmac)
		TEE_FreeOperation(hmac);
	TEE_MemFill(block, 0, sizeof(block));
	return result;
}

TEE_Result lb_hkdf_sha256(struct lb_bytes salt, struct lb_bytes secret, struct lb_bytes info, uint8_t *key,
			  size_t key_bytes)
{
	uint8_t prk[LB_SHA256_BYTES];
	TEE_Result result;

	if (key_bytes > 255u * LB_SHA256_BYTES || salt.bytes > LB_HKDF_MAX_KEY_BYTES)
		return TEE_ERROR_BAD_PARAMETERS;
	result = extract(salt, secret, prk);
	if (result == TEE_SUCCESS)
		result = expand(prk, info, key, key_bytes);
	if (result)
		TEE_MemFill(key, 0, key_bytes);
	TEE_MemFill(prk, 0, sizeof(prk));
	return result;
}
