/* Elliptic curve keys of the emulated secure world: making a pair, and the secret that two pairs share. */
#include <string.h>

#include "libcrypto.h"
#include "object.h"
#include "operation.h"
#include "secure_world.h"

#define COORDINATE_BYTES 32

/* As OP-TEE gives big numbers: without zeros in front. */
static int take_number(const EVP_PKEY *pair, const char *name, uint32_t id, struct emu_content *content)
{
	struct emu_attribute *to = &content->attributes[content->n_attributes];
	uint8_t number[COORDINATE_BYTES];
	BIGNUM *found = NULL;
	uint32_t zeros = 0;
	int done = libcrypto.EVP_PKEY_get_bn_param(pair, name, &found) == 1 &&
		   libcrypto.BN_bn2binpad(found, number, COORDINATE_BYTES) == COORDINATE_BYTES;

	libcrypto.BN_clear_free(found);
	if (done) {
		while (zeros < COORDINATE_BYTES && !number[zeros])
			zeros++;
		to->id = id;
		to->bytes = COORDINATE_BYTES - zeros;
		memcpy(to->data, number + zeros, to->bytes);
		content->n_attributes++;
	}
	TEE_MemFill(number, 0, sizeof(number));
	return done;
}

int crypto_make_p256(struct emu_content *content)
{
	EVP_PKEY *pair = libcrypto.EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	int done = pair && take_number(pair, "qx", TEE_ATTR_ECC_PUBLIC_VALUE_X, content) &&
		   take_number(pair, "qy", TEE_ATTR_ECC_PUBLIC_VALUE_Y, content) &&
		   take_number(pair, "priv", TEE_ATTR_ECC_PRIVATE_VALUE, content);

	libcrypto.EVP_PKEY_free(pair);
	return done;
}

/* With a private number (big-endian, 32 bytes), or NULL for a public key. The library checks that it is a point. */
static EVP_PKEY *make_key(const uint8_t point[1 + 2 * COORDINATE_BYTES], const uint8_t *private_number)
{
	char group[] = "prime256v1", name[] = "pub";
	uint8_t octets[1 + 2 * COORDINATE_BYTES], native[COORDINATE_BYTES];
	OSSL_PARAM params[4] = {
		{"group", OSSL_PARAM_UTF8_STRING, group, sizeof(group) - 1, 0},
		{name, OSSL_PARAM_OCTET_STRING, octets, sizeof(octets), 0},
	};
	EVP_PKEY_CTX *context = libcrypto.EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	EVP_PKEY *key = NULL;

	memcpy(octets, point, sizeof(octets));
	if (private_number) {
		for (size_t i = 0; i < sizeof(native); i++) /* a number of this machine, which is little-endian */
			native[i] = private_number[sizeof(native) - 1 - i];
		params[2] = (OSSL_PARAM){"priv", OSSL_PARAM_UNSIGNED_INTEGER, native, sizeof(native), 0};
	}
	if (context && libcrypto.EVP_PKEY_fromdata_init(context) == 1 &&
	    libcrypto.EVP_PKEY_fromdata(context, &key, private_number ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY,
					params) != 1)
		key = NULL;
	libcrypto.EVP_PKEY_CTX_free(context);
	TEE_MemFill(native, 0, sizeof(native));
	return key;
}

static int padded(const void *number, size_t bytes, uint8_t to[COORDINATE_BYTES])
{
	if (bytes > COORDINATE_BYTES)
		return 0;
	memset(to, 0, COORDINATE_BYTES);
	memcpy(to + COORDINATE_BYTES - bytes, number, bytes);
	return 1;
}

static EVP_PKEY *own_key(const struct emu_content *content)
{
	const struct emu_attribute *x = object_attribute(content, TEE_ATTR_ECC_PUBLIC_VALUE_X);
	const struct emu_attribute *y = object_attribute(content, TEE_ATTR_ECC_PUBLIC_VALUE_Y);
	const struct emu_attribute *d = object_attribute(content, TEE_ATTR_ECC_PRIVATE_VALUE);
	uint8_t point[1 + 2 * COORDINATE_BYTES] = {4}, private_number[COORDINATE_BYTES];
	EVP_PKEY *key = NULL;

	if (x && y && d && padded(x->data, x->bytes, point + 1) &&
	    padded(y->data, y->bytes, point + 1 + COORDINATE_BYTES) && padded(d->data, d->bytes, private_number))
		key = make_key(point, private_number);
	TEE_MemFill(private_number, 0, sizeof(private_number));
	return key;
}

static EVP_PKEY *other_key(const TEE_Attribute *params, uint32_t n)
{
	uint8_t point[1 + 2 * COORDINATE_BYTES] = {4};

	if (n != 2 || params[0].attributeID != TEE_ATTR_ECC_PUBLIC_VALUE_X ||
	    params[1].attributeID != TEE_ATTR_ECC_PUBLIC_VALUE_Y ||
	    !padded(params[0].content.ref.buffer, params[0].content.ref.length, point + 1) ||
	    !padded(params[1].content.ref.buffer, params[1].content.ref.length, point + 1 + COORDINATE_BYTES))
		return NULL;
	return make_key(point, NULL);
}

static int derive(EVP_PKEY *own, EVP_PKEY *other, uint8_t secret[COORDINATE_BYTES])
{
	EVP_PKEY_CTX *context = libcrypto.EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL);
	size_t bytes = COORDINATE_BYTES;
	int done = context && libcrypto.EVP_PKEY_derive_init(context) == 1 &&
		   libcrypto.EVP_PKEY_derive_set_peer(context, other) == 1 &&
		   libcrypto.EVP_PKEY_derive(context, secret, &bytes) == 1 && bytes == COORDINATE_BYTES;

	libcrypto.EVP_PKEY_CTX_free(context);
	return done;
}

/* Panics on every failure, as the specification has it: also for a point that is none. */
void TEE_DeriveKey(TEE_OperationHandle operation, const TEE_Attribute *params, uint32_t paramCount,
		   TEE_ObjectHandle derivedKey)
{
	uint8_t secret[COORDINATE_BYTES];
	TEE_Attribute attribute;
	EVP_PKEY *own, *other;

	if (operation->algorithm != TEE_ALG_ECDH_DERIVE_SHARED_SECRET || !operation->has_key ||
	    derivedKey->content.type != TEE_TYPE_GENERIC_SECRET)
		TEE_Panic(TEE_ERROR_BAD_PARAMETERS);
	own = own_key(&operation->key);
	other = other_key(params, paramCount);
	if (!own || !other || !derive(own, other, secret))
		TEE_Panic(TEE_ERROR_BAD_PARAMETERS);
	libcrypto.EVP_PKEY_free(own);
	libcrypto.EVP_PKEY_free(other);
	TEE_InitRefAttribute(&attribute, TEE_ATTR_SECRET_VALUE, secret, sizeof(secret));
	if (TEE_PopulateTransientObject(derivedKey, &attribute, 1))
		TEE_Panic(TEE_ERROR_BAD_PARAMETERS);
	TEE_MemFill(secret, 0, sizeof(secret));
}
