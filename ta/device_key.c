#include "device_key.h"

#include "lb_sealed_check.h"
#include "leakboard_ta.h"

#define KEY_BITS 256u
#define HALF (LB_SEALED_KEY_BYTES / 2u)

/* One coordinate, filled with zeros in front: a TEE may leave them out. */
static TEE_Result get_coordinate(TEE_ObjectHandle pair, uint32_t attribute, uint8_t to[HALF])
{
	uint8_t number[HALF];
	size_t bytes = sizeof(number);
	TEE_Result result = TEE_GetObjectBufferAttribute(pair, attribute, number, &bytes);

	if (result || bytes > HALF)
		return TEE_ERROR_CORRUPT_OBJECT;
	TEE_MemFill(to, 0, HALF);
	TEE_MemMove(to + HALF - bytes, number, bytes);
	return TEE_SUCCESS;
}

TEE_Result lb_public_key(TEE_ObjectHandle pair, uint8_t public_key[LB_SEALED_KEY_BYTES])
{
	TEE_ObjectInfo info;
	TEE_Result result = TEE_GetObjectInfo1(pair, &info);

	if (result == TEE_SUCCESS && info.objectType != TEE_TYPE_ECDH_KEYPAIR)
		result = TEE_ERROR_CORRUPT_OBJECT;
	if (result == TEE_SUCCESS)
		result = get_coordinate(pair, TEE_ATTR_ECC_PUBLIC_VALUE_X, public_key);
	if (result == TEE_SUCCESS)
		result = get_coordinate(pair, TEE_ATTR_ECC_PUBLIC_VALUE_Y, public_key + HALF);
	if (result == TEE_SUCCESS && !lb_p256_is_point(public_key))
		result = TEE_ERROR_CORRUPT_OBJECT;
	return result;
}

TEE_Result lb_make_pair(TEE_ObjectHandle *pair)
{
	TEE_Attribute curve;
	TEE_Result result = TEE_AllocateTransientObject(TEE_TYPE_ECDH_KEYPAIR, KEY_BITS, pair);

	if (result)
		return result;
	TEE_InitValueAttribute(&curve, TEE_ATTR_ECC_CURVE, TEE_ECC_CURVE_NIST_P256, 0);
	result = TEE_GenerateKey(*pair, KEY_BITS, &curve, 1);
	if (result == TEE_SUCCESS)
		result = TEE_RestrictObjectUsage1(*pair, TEE_USAGE_DERIVE); /* not even this TA can read it again */
	if (result) {
		TEE_FreeTransientObject(*pair);
		*pair = TEE_HANDLE_NULL;
	}
	return result;
}

static TEE_Result make_stored_pair(TEE_ObjectHandle *pair)
{
	TEE_ObjectHandle made;
	TEE_Result result = lb_make_pair(&made);

	if (result == TEE_SUCCESS)
		result = TEE_CreatePersistentObject(TEE_STORAGE_PRIVATE, LEAKBOARD_DEVICE_KEY_OBJECT,
						    LEAKBOARD_DEVICE_KEY_OBJECT_BYTES, TEE_DATA_FLAG_ACCESS_READ, made,
						    NULL, 0, pair);
	TEE_FreeTransientObject(made);
	return result;
}

TEE_Result lb_device_key_open(TEE_ObjectHandle *pair, uint8_t public_key[LB_SEALED_KEY_BYTES])
{
	TEE_Result result;

	*pair = TEE_HANDLE_NULL;
	result = TEE_OpenPersistentObject(TEE_STORAGE_PRIVATE, LEAKBOARD_DEVICE_KEY_OBJECT,
					  LEAKBOARD_DEVICE_KEY_OBJECT_BYTES, TEE_DATA_FLAG_ACCESS_READ, pair);
	if (result == TEE_ERROR_ITEM_NOT_FOUND)
		result = make_stored_pair(pair);
	if (result == TEE_SUCCESS) {
		result = lb_public_key(*pair, public_key);
		if (result)
			TEE_CloseObject(*pair);
	}
	if (result)
		*pair = TEE_HANDLE_NULL;
	return result;
}

TEE_Result lb_device_id(const uint8_t public_key[LB_SEALED_KEY_BYTES], uint8_t id[32])
{
	TEE_OperationHandle digest = TEE_HANDLE_NULL;
	size_t bytes = 32;
	TEE_Result result = TEE_AllocateOperation(&digest, TEE_ALG_SHA256, TEE_MODE_DIGEST, 0);

	if (result)
		return result;
	result = TEE_DigestDoFinal(digest, public_key, LB_SEALED_KEY_BYTES, id, &bytes);
	TEE_FreeOperation(digest);
	return result;
}
