/* The cipher of sealed slices by this machine's OpenSSL, for tests. */
#include <dlfcn.h>
#include <stdlib.h>

#include "slice_cipher.h"

#define SET_TAG 0x11

static void *find(const char *name)
{
	static void *library;
	void *found;

	if (!library)
		library = dlopen("libcrypto.so.3", RTLD_NOW);
	found = library ? dlsym(library, name) : NULL;
	if (!found)
		abort();
	return found;
}

#define GET(type, name, ...)                                                                                           \
	type (*name)(__VA_ARGS__);                                                                                     \
	*(void **)&name = find(#name)

int lb_slice_cipher_open(const uint8_t key[32], const uint8_t nonce[12], const void *associated,
			 size_t associated_bytes, uint8_t *data, size_t bytes)
{
	GET(void *, EVP_CIPHER_CTX_new, void);
	GET(void, EVP_CIPHER_CTX_free, void *);
	GET(const void *, EVP_chacha20_poly1305, void);
	GET(int, EVP_DecryptInit_ex, void *, const void *, void *, const uint8_t *, const uint8_t *);
	GET(int, EVP_DecryptUpdate, void *, uint8_t *, int *, const uint8_t *, int);
	GET(int, EVP_DecryptFinal_ex, void *, uint8_t *, int *);
	GET(int, EVP_CIPHER_CTX_ctrl, void *, int, int, void *);
	void *context = EVP_CIPHER_CTX_new();
	int n = 0, right;

	right = EVP_DecryptInit_ex(context, EVP_chacha20_poly1305(), NULL, key, nonce) == 1 &&
		EVP_CIPHER_CTX_ctrl(context, SET_TAG, 16, data + bytes) == 1 &&
		EVP_DecryptUpdate(context, NULL, &n, associated, (int)associated_bytes) == 1 &&
		EVP_DecryptUpdate(context, data, &n, data, (int)bytes) == 1 &&
		EVP_DecryptFinal_ex(context, data + n, &n) == 1;
	EVP_CIPHER_CTX_free(context);
	return right;
}
