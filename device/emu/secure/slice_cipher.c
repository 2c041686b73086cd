/* The cipher of sealed slices, by the library that the emulated secure world has anyway. */
#include "slice_cipher.h"

#include <limits.h>

#include "libcrypto.h"
#include "lb_slices.h"

int lb_slice_cipher_open(const uint8_t key[32], const uint8_t nonce[12], const void *associated,
			 size_t associated_bytes, uint8_t *data, size_t bytes)
{
	EVP_CIPHER_CTX *context = libcrypto.EVP_CIPHER_CTX_new();
	int n = 0, right;

	right = context && associated_bytes <= INT_MAX && bytes <= INT_MAX &&
		libcrypto.EVP_CipherInit_ex(context, libcrypto.EVP_chacha20_poly1305(), NULL, key, nonce, 0) == 1 &&
		libcrypto.EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, LB_SLICE_TAG_BYTES, data + bytes) == 1 &&
		libcrypto.EVP_CipherUpdate(context, NULL, &n, associated, (int)associated_bytes) == 1 &&
		libcrypto.EVP_CipherUpdate(context, data, &n, data, (int)bytes) == 1 &&
		libcrypto.EVP_CipherFinal_ex(context, data + n, &n) == 1;
	libcrypto.EVP_CIPHER_CTX_free(context);
	return right;
}
