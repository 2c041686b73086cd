#include "sealed_key.h"

#include "device_key.h"
#include "hkdf.h"
#include "lb_sealed_check.h"

#define SECRET_BYTES LB_SEALED_SECRET_BYTES
#define SECRET_BITS 256u
#define HALF (LB_SEALED_KEY_BYTES / 2u)

struct info {
	uint8_t label[LB_SEALED_INFO_BYTES];
	uint8_t model_id[16];
	uint8_t device_key[LB_SEALED_KEY_BYTES];
	uint8_t ephemeral_key[LB_SEALED_KEY_BYTES];
};

TEE_Result lb_agree(TEE_ObjectHandle pair, const uint8_t public_key[LB_SEALED_KEY_BYTES],
		    uint8_t z[LB_SEALED_SECRET_BYTES])
{
	TEE_OperationHandle derivation = TEE_HANDLE_NULL;
	TEE_ObjectHandle secret = TEE_HANDLE_NULL;
	TEE_Attribute point[2];
	uint8_t other[LB_SEALED_KEY_BYTES], number[SECRET_BYTES];
	size_t bytes = sizeof(number);
	TEE_Result result;

	TEE_MemMove(other, public_key, sizeof(other));
	TEE_InitRefAttribute(&point[0], TEE_ATTR_ECC_PUBLIC_VALUE_X, other, HALF);
	TEE_InitRefAttribute(&point[1], TEE_ATTR_ECC_PUBLIC_VALUE_Y, other + HALF, HALF);
	result = TEE_AllocateTransientObject(TEE_TYPE_GENERIC_SECRET, SECRET_BITS, &secret);
	if (result == TEE_SUCCESS)
		result = TEE_AllocateOperation(&derivation, TEE_ALG_ECDH_DERIVE_SHARED_SECRET, TEE_MODE_DERIVE,
					       SECRET_BITS);
	if (result == TEE_SUCCESS)
		result = TEE_SetOperationKey(derivation, pair);
	if (result == TEE_SUCCESS) {
		TEE_DeriveKey(derivation, point, 2, secret);
		result = TEE_GetObjectBufferAttribute(secret, TEE_ATTR_SECRET_VALUE, number, &bytes);
	}
	if (result == TEE_SUCCESS) {
		TEE_MemFill(z, 0, SECRET_BYTES);
		TEE_MemMove(z + SECRET_BYTES - bytes, number, bytes);
	}
	TEE_MemFill(number, 0, sizeof(number));
	if (derivation)
		TEE_FreeOperation(derivation);
	TEE_FreeTransientObject(secret);
	return result;
}

TEE_Result lb_aes_gcm(const uint8_t key[LB_SEALED_SECRET_BYTES], uint32_t mode, TEE_OperationHandle *cipher)
{
	TEE_ObjectHandle object = TEE_HANDLE_NULL;
	uint8_t copy[SECRET_BYTES];
	TEE_Attribute attribute;
	TEE_Result result;

	*cipher = TEE_HANDLE_NULL;
	TEE_MemMove(copy, key, sizeof(copy));
	TEE_InitRefAttribute(&attribute, TEE_ATTR_SECRET_VALUE, copy, sizeof(copy));
	result = TEE_AllocateTransientObject(TEE_TYPE_AES, SECRET_BITS, &object);
	if (result == TEE_SUCCESS)
		result = TEE_PopulateTransientObject(object, &attribute, 1);
	if (result == TEE_SUCCESS)
		result = TEE_AllocateOperation(cipher, TEE_ALG_AES_GCM, mode, SECRET_BITS);
	if (result == TEE_SUCCESS)
		result = TEE_SetOperationKey(*cipher, object);
	TEE_MemFill(copy, 0, sizeof(copy));
	TEE_FreeTransientObject(object);
	if (result && *cipher) {
		TEE_FreeOperation(*cipher);
		*cipher = TEE_HANDLE_NULL;
	}
	return result;
}

static TEE_Result agree_with(TEE_ObjectHandle pair, const uint8_t public_key[LB_SEALED_KEY_BYTES],
			     const struct lb_sealed_header *header, TEE_OperationHandle *decryption)
{
	uint8_t z[SECRET_BYTES], key[SECRET_BYTES];
	struct info info;
	TEE_Result result = lb_agree(pair, header->ephemeral_key, z);

	TEE_MemMove(info.label, LB_SEALED_INFO, sizeof(info.label));
	TEE_MemMove(info.model_id, header->model_id, sizeof(info.model_id));
	TEE_MemMove(info.device_key, public_key, sizeof(info.device_key));
	TEE_MemMove(info.ephemeral_key, header->ephemeral_key, sizeof(info.ephemeral_key));
	if (result == TEE_SUCCESS)
		result = lb_hkdf_sha256((struct lb_bytes){header->salt, sizeof(header->salt)},
					(struct lb_bytes){z, sizeof(z)}, (struct lb_bytes){&info, sizeof(info)}, key,
					sizeof(key));
	if (result == TEE_SUCCESS)
		result = lb_aes_gcm(key, TEE_MODE_DECRYPT, decryption);
	TEE_MemFill(z, 0, sizeof(z));
	TEE_MemFill(key, 0, sizeof(key));
	return result;
}

TEE_Result lb_sealed_key_agree(const struct lb_sealed_header *header, TEE_OperationHandle *decryption,
			       enum lb_sealed_error *error)
{
	uint8_t public_key[LB_SEALED_KEY_BYTES], id[32];
	TEE_ObjectHandle pair;
	TEE_Result result = lb_device_key_open(&pair, public_key);

	*decryption = TEE_HANDLE_NULL;
	*error = LB_SEALED_OK;
	if (result)
		return result;
	result = lb_device_id(public_key, id);
	if (result == TEE_SUCCESS) {
		if (TEE_MemCompare(id, header->device_id, sizeof(id)))
			*error = LB_SEALED_ERROR_WRONG_DEVICE;
		else if (!lb_p256_is_point(header->ephemeral_key))
			*error = LB_SEALED_ERROR_KEY;
		result = *error ? TEE_ERROR_SECURITY : agree_with(pair, public_key, header, decryption);
	}
	TEE_CloseObject(pair);
	return result;
}
