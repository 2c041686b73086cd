/*
 * The TEE's keys and operations for fuzzing. A tag is a checksum without a key and a text its own cipher, so that the
 * harness can seal whatever the fuzzer thinks of; what lies behind the tag would never be reached otherwise. Where
 * OP-TEE panics at a misuse of the API, so does this, loudly. Storage is in fuzz_storage.c.
 */
#include <tee_internal_api.h>

#include "fuzz.h"
#include "fuzz_store.h"
#include "fuzz_tee.h"
#include "lb_sealed_check.h"
#include "slice_cipher.h"

struct emu_operation {
	uint32_t algorithm, mode, key_bits;
	uint64_t state;
	size_t aad_left, text_bytes;
	int has_key, is_active;
};

static uint32_t handles, fail_countdown;

/* A point of P-256: the generator. */
static const uint8_t device_key[LB_SEALED_KEY_BYTES] = {
	0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2,
	0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96,
	0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16,
	0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5};

void fuzz_tee_reset(void)
{
	fuzz_store_reset();
	fail_countdown = 0;
}

void fuzz_tee_fail_after(uint32_t calls)
{
	fail_countdown = calls;
}

uint32_t fuzz_tee_handles(void)
{
	return handles;
}

int fuzz_tee_fails(void)
{
	return fail_countdown && --fail_countdown == 0;
}

void *fuzz_handle(size_t bytes)
{
	void *handle = calloc(1, bytes);

	if (!handle)
		abort();
	handles++;
	return handle;
}

void fuzz_handle_free(void *handle)
{
	free(handle);
	handles--;
}

static uint64_t hash(uint64_t state, const void *data, size_t bytes)
{
	const uint8_t *at = data;
	uint64_t word;

	state = (state ^ bytes) * 0x9e3779b97f4a7c15u;
	for (; bytes >= sizeof(word); at += sizeof(word), bytes -= sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		state = (state ^ word ^ state >> 29) * 0x9e3779b97f4a7c15u;
	}
	while (bytes--)
		state = (state ^ *at++) * 0x9e3779b97f4a7c15u;
	return state;
}

static void spread(uint64_t state, uint8_t *to, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		to[i] = (uint8_t)(hash(state, &i, sizeof(i)) >> 32);
}

void fuzz_tee_device_id(uint8_t id[32])
{
	spread(hash(1, device_key, sizeof(device_key)), id, 32);
}

void fuzz_generator(uint8_t key[LB_SEALED_KEY_BYTES])
{
	memcpy(key, device_key, sizeof(device_key));
}

void fuzz_tee_seal(const struct lb_sealed_header *header, uint32_t index, unsigned char *record, size_t bytes)
{
	uint8_t nonce[12] = {0};
	uint64_t state;

	memcpy(nonce + 8, &index, sizeof(index));
	state = hash(2, nonce, sizeof(nonce));
	state = hash(state, header, sizeof(*header));
	state = hash(state, record, sizeof(struct lb_sealed_chunk));
	state = hash(state, record + sizeof(struct lb_sealed_chunk),
		     bytes - sizeof(struct lb_sealed_chunk) - LB_SEALED_TAG_BYTES);
	spread(state, record + bytes - LB_SEALED_TAG_BYTES, LB_SEALED_TAG_BYTES);
}

int fuzz_is_point(const uint8_t key[LB_SEALED_KEY_BYTES])
{
	static uint8_t last[LB_SEALED_KEY_BYTES];
	static int was_point = -1;

	if (was_point < 0 || memcmp(last, key, sizeof(last)))
		was_point = lb_p256_is_point(key);
	memcpy(last, key, sizeof(last));
	return was_point;
}

void TEE_Panic(TEE_Result panicCode)
{
	fprintf(stderr, "the TA panicked with 0x%08x\n", panicCode);
	abort();
}

TEE_Result TEE_AllocateTransientObject(uint32_t objectType, uint32_t maxObjectSize, TEE_ObjectHandle *object)
{
	FUZZ_PROMISE(maxObjectSize % 8 == 0 && maxObjectSize > 0);
	*object = TEE_HANDLE_NULL;
	if (fuzz_tee_fails())
		return TEE_ERROR_OUT_OF_MEMORY;
	*object = fuzz_handle(sizeof(**object));
	(*object)->type = objectType;
	(*object)->room = maxObjectSize / 8u;
	return TEE_SUCCESS;
}

void TEE_FreeTransientObject(TEE_ObjectHandle object)
{
	FUZZ_PROMISE(!object || !object->is_persistent);
	if (object)
		fuzz_handle_free(object);
}

void TEE_InitRefAttribute(TEE_Attribute *attr, uint32_t attributeID, void *buffer, size_t length)
{
	attr->attributeID = attributeID;
	attr->content.ref.buffer = buffer;
	attr->content.ref.length = length;
}

void TEE_InitValueAttribute(TEE_Attribute *attr, uint32_t attributeID, uint32_t a, uint32_t b)
{
	attr->attributeID = attributeID;
	attr->content.value.a = a;
	attr->content.value.b = b;
}

TEE_Result TEE_PopulateTransientObject(TEE_ObjectHandle object, const TEE_Attribute *attrs, uint32_t attrCount)
{
	FUZZ_PROMISE(object && !object->is_persistent && !object->is_filled && attrCount == 1);
	FUZZ_PROMISE(attrs[0].attributeID == TEE_ATTR_SECRET_VALUE && attrs[0].content.ref.length <= object->room);
	if (fuzz_tee_fails())
		return TEE_ERROR_OUT_OF_MEMORY;
	object->is_filled = 1;
	object->state = hash(3, attrs[0].content.ref.buffer, attrs[0].content.ref.length);
	return TEE_SUCCESS;
}

TEE_Result TEE_GenerateKey(TEE_ObjectHandle object, uint32_t keySize, const TEE_Attribute *params, uint32_t paramCount)
{
	FUZZ_PROMISE(object && !object->is_filled && object->type == TEE_TYPE_ECDH_KEYPAIR && keySize == 256);
	FUZZ_PROMISE(paramCount == 1 && params[0].attributeID == TEE_ATTR_ECC_CURVE);
	if (fuzz_tee_fails())
		return TEE_ERROR_OUT_OF_MEMORY;
	object->is_filled = 1;
	return TEE_SUCCESS;
}

TEE_Result TEE_RestrictObjectUsage1(TEE_ObjectHandle object, uint32_t objectUsage)
{
	FUZZ_PROMISE(object && objectUsage);
	return TEE_SUCCESS;
}

/* Numbers may come without the zeros in front of them: the secret of some points does. */
TEE_Result TEE_GetObjectBufferAttribute(TEE_ObjectHandle object, uint32_t attributeID, void *buffer, size_t *size)
{
	uint8_t secret[32];
	size_t short_by;

	FUZZ_PROMISE(object && object->is_filled);
	if (fuzz_tee_fails())
		return TEE_ERROR_CORRUPT_OBJECT;
	if (object->type == TEE_TYPE_ECDH_KEYPAIR) {
		FUZZ_PROMISE(*size >= 32);
		FUZZ_PROMISE(attributeID == TEE_ATTR_ECC_PUBLIC_VALUE_X || attributeID == TEE_ATTR_ECC_PUBLIC_VALUE_Y);
		memcpy(buffer, device_key + (attributeID == TEE_ATTR_ECC_PUBLIC_VALUE_Y ? 32 : 0), 32);
		*size = 32;
		return TEE_SUCCESS;
	}
	FUZZ_PROMISE(attributeID == TEE_ATTR_SECRET_VALUE);
	spread(object->state, secret, sizeof(secret));
	short_by = object->state % 3;
	FUZZ_PROMISE(*size >= sizeof(secret) - short_by);
	*size = sizeof(secret) - short_by;
	memcpy(buffer, secret, *size);
	return TEE_SUCCESS;
}

TEE_Result TEE_AllocateOperation(TEE_OperationHandle *operation, uint32_t algorithm, uint32_t mode, uint32_t maxKeySize)
{
	*operation = TEE_HANDLE_NULL;
	if (fuzz_tee_fails())
		return TEE_ERROR_OUT_OF_MEMORY;
	*operation = fuzz_handle(sizeof(**operation));
	**operation = (struct emu_operation){.algorithm = algorithm, .mode = mode, .key_bits = maxKeySize};
	return TEE_SUCCESS;
}

void TEE_FreeOperation(TEE_OperationHandle operation)
{
	FUZZ_PROMISE(operation); /* as in version 1.1 of the specification */
	fuzz_handle_free(operation);
}

TEE_Result TEE_SetOperationKey(TEE_OperationHandle operation, TEE_ObjectHandle key)
{
	FUZZ_PROMISE(operation && key && key->is_filled && !operation->is_active);
	if (fuzz_tee_fails())
		return TEE_ERROR_CORRUPT_OBJECT;
	operation->has_key = 1;
	operation->state = key->state;
	return TEE_SUCCESS;
}

void TEE_DeriveKey(TEE_OperationHandle operation, const TEE_Attribute *params, uint32_t paramCount,
		   TEE_ObjectHandle derivedKey)
{
	FUZZ_PROMISE(operation && operation->has_key && operation->mode == TEE_MODE_DERIVE && paramCount == 2);
	FUZZ_PROMISE(derivedKey && !derivedKey->is_filled && derivedKey->type == TEE_TYPE_GENERIC_SECRET);
	for (uint32_t i = 0; i < 2; i++) {
		FUZZ_PROMISE(params[i].attributeID == (i ? TEE_ATTR_ECC_PUBLIC_VALUE_Y : TEE_ATTR_ECC_PUBLIC_VALUE_X));
		FUZZ_PROMISE(params[i].content.ref.length == 32);
		derivedKey->state = hash(derivedKey->state, params[i].content.ref.buffer, 32);
	}
	derivedKey->is_filled = 1;
}

TEE_Result TEE_DigestDoFinal(TEE_OperationHandle operation, const void *chunk, size_t chunkLen, void *digest,
			     size_t *hashLen)
{
	FUZZ_PROMISE(operation && operation->mode == TEE_MODE_DIGEST && *hashLen >= 32);
	if (fuzz_tee_fails())
		return TEE_ERROR_OUT_OF_MEMORY;
	spread(hash(1, chunk, chunkLen), digest, 32);
	*hashLen = 32;
	return TEE_SUCCESS;
}

void TEE_MACInit(TEE_OperationHandle operation, const void *initVector, size_t initVectorLen)
{
	FUZZ_PROMISE(operation && operation->has_key && operation->mode == TEE_MODE_MAC);
	FUZZ_PROMISE(!initVector && !initVectorLen);
	operation->is_active = 1;
}

void TEE_MACUpdate(TEE_OperationHandle operation, const void *chunk, size_t chunkSize)
{
	FUZZ_PROMISE(operation && operation->is_active && (chunk || !chunkSize));
	operation->state = hash(operation->state, chunk, chunkSize);
}

TEE_Result TEE_MACComputeFinal(TEE_OperationHandle operation, const void *message, size_t messageLen, void *mac,
			       size_t *macLen)
{
	TEE_MACUpdate(operation, message, messageLen);
	FUZZ_PROMISE(*macLen >= 32);
	spread(operation->state, mac, 32);
	*macLen = 32;
	operation->is_active = 0;
	return TEE_SUCCESS;
}

TEE_Result TEE_AEInit(TEE_OperationHandle operation, const void *nonce, size_t nonceLen, uint32_t tagLen, size_t AADLen,
		      size_t payloadLen)
{
	FUZZ_PROMISE(operation && operation->has_key && !operation->is_active &&
		     (operation->mode == TEE_MODE_ENCRYPT || operation->mode == TEE_MODE_DECRYPT));
	FUZZ_PROMISE(nonceLen == 12 && tagLen == 8 * LB_SEALED_TAG_BYTES);
	if (fuzz_tee_fails())
		return TEE_ERROR_NOT_SUPPORTED;
	operation->state = hash(2, nonce, nonceLen);
	operation->aad_left = AADLen;
	operation->text_bytes = payloadLen;
	operation->is_active = 1;
	return TEE_SUCCESS;
}

void TEE_AEUpdateAAD(TEE_OperationHandle operation, const void *AADdata, size_t AADdataLen)
{
	FUZZ_PROMISE(operation && operation->is_active && AADdataLen <= operation->aad_left);
	operation->aad_left -= AADdataLen;
	operation->state = hash(operation->state, AADdata, AADdataLen);
}

TEE_Result TEE_AEEncryptFinal(TEE_OperationHandle operation, const void *srcData, size_t srcLen, void *destData,
			      size_t *destLen, void *tag, size_t *tagLen)
{
	FUZZ_PROMISE(operation && operation->is_active && operation->aad_left == 0);
	FUZZ_PROMISE(operation->mode == TEE_MODE_ENCRYPT && srcLen == operation->text_bytes && *destLen >= srcLen);
	FUZZ_PROMISE(*tagLen >= LB_SEALED_TAG_BYTES);
	operation->is_active = 0;
	spread(hash(operation->state, srcData, srcLen), tag, LB_SEALED_TAG_BYTES);
	memcpy(destData, srcData, srcLen);
	*destLen = srcLen;
	*tagLen = LB_SEALED_TAG_BYTES;
	return TEE_SUCCESS;
}

TEE_Result TEE_AEDecryptFinal(TEE_OperationHandle operation, const void *srcData, size_t srcLen, void *destData,
			      size_t *destLen, void *tag, size_t tagLen)
{
	uint8_t expected[LB_SEALED_TAG_BYTES];

	FUZZ_PROMISE(operation && operation->is_active && operation->aad_left == 0);
	FUZZ_PROMISE(srcLen == operation->text_bytes && *destLen >= srcLen && tagLen == sizeof(expected));
	FUZZ_PROMISE(operation->mode == TEE_MODE_DECRYPT);
	operation->is_active = 0;
	spread(hash(operation->state, srcData, srcLen), expected, sizeof(expected));
	memcpy(destData, srcData, srcLen); /* before the tag is known to be right, as OP-TEE does */
	if (memcmp(expected, tag, sizeof(expected)))
		return TEE_ERROR_MAC_INVALID;
	*destLen = srcLen;
	return TEE_SUCCESS;
}

/* A slice's text is its own cipher, too, and right is whatever has an even tag. */
int lb_slice_cipher_open(const uint8_t key[32], const uint8_t nonce[12], const void *associated,
			 size_t associated_bytes, uint8_t *data, size_t bytes)
{
	uint8_t read = 0;

	for (size_t i = 0; i < 32; i++)
		read ^= key[i];
	for (size_t i = 0; i < 12; i++)
		read ^= nonce[i];
	for (size_t i = 0; i < associated_bytes; i++)
		read ^= ((const uint8_t *)associated)[i];
	(void)read; /* all of it is there */
	return data[bytes] % 2 == 0;
}
