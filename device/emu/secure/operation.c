/* Digest, MAC and authenticated encryption. What the specification calls a panic is one; so is a library's failure. */
#include <limits.h>
#include <string.h>

#include "operation.h"
#include "secure_world.h"

#define SHA256_BYTES 32u
#define MAX_TAG_BYTES 16u

static void expect(int condition)
{
	if (!condition)
		TEE_Panic(TEE_ERROR_BAD_PARAMETERS);
}

static void succeed(int library_result)
{
	if (library_result != 1)
		TEE_Panic(TEE_ERROR_GENERIC);
}

static int is_known(uint32_t algorithm, uint32_t mode, uint32_t bits)
{
	switch (algorithm) {
	case TEE_ALG_SHA256: return mode == TEE_MODE_DIGEST;
	case TEE_ALG_HMAC_SHA256: return mode == TEE_MODE_MAC && bits <= 1024;
	case TEE_ALG_AES_GCM: return (mode == TEE_MODE_ENCRYPT || mode == TEE_MODE_DECRYPT) && bits == 256;
	case TEE_ALG_ECDH_DERIVE_SHARED_SECRET: return mode == TEE_MODE_DERIVE && bits == 256;
	default: return 0;
	}
}

/* The library's part; 0: it has no memory. */
static int prepare(TEE_OperationHandle operation)
{
	EVP_MAC *hmac;

	switch (operation->algorithm) {
	case TEE_ALG_SHA256:
		operation->digest = libcrypto.EVP_MD_CTX_new();
		return operation->digest &&
		       libcrypto.EVP_DigestInit_ex(operation->digest, libcrypto.EVP_sha256(), NULL) == 1;
	case TEE_ALG_HMAC_SHA256:
		hmac = libcrypto.EVP_MAC_fetch(NULL, "HMAC", NULL);
		operation->mac = hmac ? libcrypto.EVP_MAC_CTX_new(hmac) : NULL;
		libcrypto.EVP_MAC_free(hmac);
		return operation->mac != NULL;
	case TEE_ALG_AES_GCM: operation->cipher = libcrypto.EVP_CIPHER_CTX_new(); return operation->cipher != NULL;
	default: return 1;
	}
}

TEE_Result TEE_AllocateOperation(TEE_OperationHandle *operation, uint32_t algorithm, uint32_t mode, uint32_t maxKeySize)
{
	TEE_OperationHandle made;

	*operation = TEE_HANDLE_NULL;
	if (!is_known(algorithm, mode, maxKeySize))
		return TEE_ERROR_NOT_SUPPORTED;
	made = TEE_Malloc(sizeof(*made), TEE_MALLOC_FILL_ZERO);
	if (!made)
		return TEE_ERROR_OUT_OF_MEMORY;
	made->algorithm = algorithm;
	made->mode = mode;
	made->max_bits = maxKeySize;
	if (!prepare(made)) {
		TEE_FreeOperation(made);
		return TEE_ERROR_OUT_OF_MEMORY;
	}
	*operation = made;
	return TEE_SUCCESS;
}

void TEE_FreeOperation(TEE_OperationHandle operation)
{
	if (!operation)
		return;
	libcrypto.EVP_MD_CTX_free(operation->digest);
	libcrypto.EVP_MAC_CTX_free(operation->mac);
	libcrypto.EVP_CIPHER_CTX_free(operation->cipher);
	TEE_MemFill(operation, 0, sizeof(*operation));
	TEE_Free(operation);
}

TEE_Result TEE_SetOperationKey(TEE_OperationHandle operation, TEE_ObjectHandle key)
{
	static const struct {
		uint32_t algorithm, type, usage;
	} fits[] = {
		{TEE_ALG_HMAC_SHA256, TEE_TYPE_HMAC_SHA256, TEE_USAGE_MAC},
		{TEE_ALG_AES_GCM, TEE_TYPE_AES, TEE_USAGE_ENCRYPT | TEE_USAGE_DECRYPT},
		{TEE_ALG_ECDH_DERIVE_SHARED_SECRET, TEE_TYPE_ECDH_KEYPAIR, TEE_USAGE_DERIVE},
	};
	int known = 0;

	for (size_t i = 0; i < sizeof(fits) / sizeof(fits[0]); i++)
		known |= fits[i].algorithm == operation->algorithm && fits[i].type == key->content.type &&
			 (key->content.usage & fits[i].usage);
	expect(known && (key->handle_flags & TEE_HANDLE_FLAG_INITIALIZED) && key->content.bits <= operation->max_bits);
	operation->key = key->content;
	operation->has_key = 1;
	return TEE_SUCCESS;
}

void TEE_DigestUpdate(TEE_OperationHandle operation, const void *chunk, size_t chunkSize)
{
	expect(operation->digest != NULL);
	succeed(libcrypto.EVP_DigestUpdate(operation->digest, chunk, chunkSize));
}

TEE_Result TEE_DigestDoFinal(TEE_OperationHandle operation, const void *chunk, size_t chunkLen, void *hash,
			     size_t *hashLen)
{
	if (*hashLen < SHA256_BYTES) {
		*hashLen = SHA256_BYTES;
		return TEE_ERROR_SHORT_BUFFER;
	}
	TEE_DigestUpdate(operation, chunk, chunkLen);
	succeed(libcrypto.EVP_DigestFinal_ex(operation->digest, hash, NULL));
	succeed(libcrypto.EVP_DigestInit_ex(operation->digest, libcrypto.EVP_sha256(), NULL));
	*hashLen = SHA256_BYTES;
	return TEE_SUCCESS;
}

void TEE_MACInit(TEE_OperationHandle operation, const void *IV, size_t IVLen)
{
	char name[] = "SHA256", digest[] = "digest";
	OSSL_PARAM params[2] = {{digest, OSSL_PARAM_UTF8_STRING, name, sizeof(name) - 1, 0}};
	const struct emu_attribute *secret = object_attribute(&operation->key, TEE_ATTR_SECRET_VALUE);

	(void)IV; /* HMAC has none */
	expect(operation->mac && operation->has_key && secret && IVLen == 0);
	succeed(libcrypto.EVP_MAC_init(operation->mac, secret->data, secret->bytes, params));
}

void TEE_MACUpdate(TEE_OperationHandle operation, const void *chunk, size_t chunkSize)
{
	expect(operation->mac != NULL);
	succeed(libcrypto.EVP_MAC_update(operation->mac, chunk, chunkSize));
}

TEE_Result TEE_MACComputeFinal(TEE_OperationHandle operation, const void *message, size_t messageLen, void *mac,
			       size_t *macLen)
{
	if (*macLen < SHA256_BYTES) {
		*macLen = SHA256_BYTES;
		return TEE_ERROR_SHORT_BUFFER;
	}
	if (messageLen)
		TEE_MACUpdate(operation, message, messageLen);
	succeed(libcrypto.EVP_MAC_final(operation->mac, mac, macLen, *macLen));
	return TEE_SUCCESS;
}

TEE_Result TEE_AEInit(TEE_OperationHandle operation, const void *nonce, size_t nonceLen, uint32_t tagLen, size_t AADLen,
		      size_t payloadLen)
{
	const struct emu_attribute *secret = object_attribute(&operation->key, TEE_ATTR_SECRET_VALUE);

	(void)AADLen; /* only CCM wants these beforehand */
	(void)payloadLen;
	expect(operation->cipher && operation->has_key && secret && nonceLen > 0 && nonceLen <= 16);
	if (tagLen != 8 * MAX_TAG_BYTES)
		return TEE_ERROR_NOT_SUPPORTED;
	succeed(libcrypto.EVP_CipherInit_ex(operation->cipher, libcrypto.EVP_aes_256_gcm(), NULL, NULL, NULL,
					    operation->mode == TEE_MODE_ENCRYPT));
	succeed(libcrypto.EVP_CIPHER_CTX_ctrl(operation->cipher, EVP_CTRL_AEAD_SET_IVLEN, (int)nonceLen, NULL));
	succeed(libcrypto.EVP_CipherInit_ex(operation->cipher, NULL, NULL, secret->data, nonce, -1));
	return TEE_SUCCESS;
}

void TEE_AEUpdateAAD(TEE_OperationHandle operation, const void *AADdata, size_t AADdataLen)
{
	int written;

	expect(operation->cipher && AADdataLen <= INT_MAX);
	succeed(libcrypto.EVP_CipherUpdate(operation->cipher, NULL, &written, AADdata, (int)AADdataLen));
}

/* The plaintext is written before the tag is known to be right: the caller wipes it when it is not. */
TEE_Result TEE_AEDecryptFinal(TEE_OperationHandle operation, const void *srcData, size_t srcLen, void *destData,
			      size_t *destLen, void *tag, size_t tagLen)
{
	uint8_t copy[MAX_TAG_BYTES];
	int written = 0, rest = 0;

	expect(operation->cipher && operation->mode == TEE_MODE_DECRYPT && srcLen <= INT_MAX && tagLen == sizeof(copy));
	if (*destLen < srcLen) {
		*destLen = srcLen;
		return TEE_ERROR_SHORT_BUFFER;
	}
	succeed(libcrypto.EVP_CipherUpdate(operation->cipher, destData, &written, srcData, (int)srcLen));
	memcpy(copy, tag, sizeof(copy));
	succeed(libcrypto.EVP_CIPHER_CTX_ctrl(operation->cipher, EVP_CTRL_AEAD_SET_TAG, (int)sizeof(copy), copy));
	if (libcrypto.EVP_CipherFinal_ex(operation->cipher, (unsigned char *)destData + written, &rest) != 1)
		return TEE_ERROR_MAC_INVALID;
	*destLen = (size_t)written;
	return TEE_SUCCESS;
}

TEE_Result TEE_AEEncryptFinal(TEE_OperationHandle operation, const void *srcData, size_t srcLen, void *destData,
			      size_t *destLen, void *tag, size_t *tagLen)
{
	int written = 0, rest = 0;

	expect(operation->cipher && operation->mode == TEE_MODE_ENCRYPT && srcLen <= INT_MAX);
	if (*destLen < srcLen || *tagLen < MAX_TAG_BYTES) {
		*destLen = srcLen;
		*tagLen = MAX_TAG_BYTES;
		return TEE_ERROR_SHORT_BUFFER;
	}
	succeed(libcrypto.EVP_CipherUpdate(operation->cipher, destData, &written, srcData, (int)srcLen));
	succeed(libcrypto.EVP_CipherFinal_ex(operation->cipher, (unsigned char *)destData + written, &rest));
	succeed(libcrypto.EVP_CIPHER_CTX_ctrl(operation->cipher, EVP_CTRL_AEAD_GET_TAG, MAX_TAG_BYTES, tag));
	*destLen = (size_t)written;
	*tagLen = MAX_TAG_BYTES;
	return TEE_SUCCESS;
}

int crypto_sha256(const void *first, size_t first_bytes, const void *second, size_t second_bytes, uint8_t hash[32])
{
	EVP_MD_CTX *context = libcrypto.EVP_MD_CTX_new();
	int done = context && libcrypto.EVP_DigestInit_ex(context, libcrypto.EVP_sha256(), NULL) == 1 &&
		   libcrypto.EVP_DigestUpdate(context, first, first_bytes) == 1 &&
		   libcrypto.EVP_DigestUpdate(context, second, second_bytes) == 1 &&
		   libcrypto.EVP_DigestFinal_ex(context, hash, NULL) == 1;

	libcrypto.EVP_MD_CTX_free(context);
	return done;
}
