/*
 * The functions of OpenSSL 3's libcrypto that the emulated secure world uses, looked up when it starts. A machine that
 * runs Python has the library, but seldom its headers: these are the documented prototypes.
 */
#ifndef EMU_LIBCRYPTO_H
#define EMU_LIBCRYPTO_H

#include <stddef.h>
#include <stdint.h>

typedef struct evp_md_st EVP_MD;
typedef struct evp_md_ctx_st EVP_MD_CTX;
typedef struct evp_mac_st EVP_MAC;
typedef struct evp_mac_ctx_st EVP_MAC_CTX;
typedef struct evp_cipher_st EVP_CIPHER;
typedef struct evp_cipher_ctx_st EVP_CIPHER_CTX;
typedef struct evp_pkey_st EVP_PKEY;
typedef struct evp_pkey_ctx_st EVP_PKEY_CTX;
typedef struct bignum_st BIGNUM;

typedef struct {
	const char *key;
	unsigned int data_type;
	void *data;
	size_t data_size;
	size_t return_size;
} OSSL_PARAM;

#define OSSL_PARAM_UNSIGNED_INTEGER 2u
#define OSSL_PARAM_UTF8_STRING 4u
#define OSSL_PARAM_OCTET_STRING 5u
#define EVP_PKEY_PUBLIC_KEY 0x86
#define EVP_PKEY_KEYPAIR 0x87
#define EVP_CTRL_AEAD_SET_IVLEN 0x9
#define EVP_CTRL_AEAD_GET_TAG 0x10
#define EVP_CTRL_AEAD_SET_TAG 0x11
#define OPENSSL_INIT_NO_LOAD_CONFIG 0x80u

#define LIBCRYPTO_FUNCTIONS(X)                                                                                         \
	X(int, OPENSSL_init_crypto, (uint64_t, const void *))                                                          \
	X(const EVP_MD *, EVP_sha256, (void))                                                                          \
	X(EVP_MD_CTX *, EVP_MD_CTX_new, (void))                                                                        \
	X(void, EVP_MD_CTX_free, (EVP_MD_CTX *))                                                                       \
	X(int, EVP_DigestInit_ex, (EVP_MD_CTX *, const EVP_MD *, void *))                                              \
	X(int, EVP_DigestUpdate, (EVP_MD_CTX *, const void *, size_t))                                                 \
	X(int, EVP_DigestFinal_ex, (EVP_MD_CTX *, unsigned char *, unsigned int *))                                    \
	X(EVP_MAC *, EVP_MAC_fetch, (void *, const char *, const char *))                                              \
	X(void, EVP_MAC_free, (EVP_MAC *))                                                                             \
	X(EVP_MAC_CTX *, EVP_MAC_CTX_new, (EVP_MAC *))                                                                 \
	X(void, EVP_MAC_CTX_free, (EVP_MAC_CTX *))                                                                     \
	X(int, EVP_MAC_init, (EVP_MAC_CTX *, const unsigned char *, size_t, const OSSL_PARAM *))                       \
	X(int, EVP_MAC_update, (EVP_MAC_CTX *, const unsigned char *, size_t))                                         \
	X(int, EVP_MAC_final, (EVP_MAC_CTX *, unsigned char *, size_t *, size_t))                                      \
	X(const EVP_CIPHER *, EVP_aes_256_gcm, (void))                                                                 \
	X(const EVP_CIPHER *, EVP_chacha20_poly1305, (void))                                                           \
	X(EVP_CIPHER_CTX *, EVP_CIPHER_CTX_new, (void))                                                                \
	X(void, EVP_CIPHER_CTX_free, (EVP_CIPHER_CTX *))                                                               \
	X(int, EVP_CIPHER_CTX_ctrl, (EVP_CIPHER_CTX *, int, int, void *))                                              \
	X(int, EVP_CipherInit_ex,                                                                                      \
	  (EVP_CIPHER_CTX *, const EVP_CIPHER *, void *, const unsigned char *, const unsigned char *, int))           \
	X(int, EVP_CipherUpdate, (EVP_CIPHER_CTX *, unsigned char *, int *, const unsigned char *, int))               \
	X(int, EVP_CipherFinal_ex, (EVP_CIPHER_CTX *, unsigned char *, int *))                                         \
	X(EVP_PKEY *, EVP_PKEY_Q_keygen, (void *, const char *, const char *, ...))                                    \
	X(void, EVP_PKEY_free, (EVP_PKEY *))                                                                           \
	X(int, EVP_PKEY_get_bn_param, (const EVP_PKEY *, const char *, BIGNUM **))                                     \
	X(int, BN_bn2binpad, (const BIGNUM *, unsigned char *, int))                                                   \
	X(void, BN_clear_free, (BIGNUM *))                                                                             \
	X(EVP_PKEY_CTX *, EVP_PKEY_CTX_new_from_name, (void *, const char *, const char *))                            \
	X(EVP_PKEY_CTX *, EVP_PKEY_CTX_new_from_pkey, (void *, EVP_PKEY *, const char *))                              \
	X(void, EVP_PKEY_CTX_free, (EVP_PKEY_CTX *))                                                                   \
	X(int, EVP_PKEY_fromdata_init, (EVP_PKEY_CTX *))                                                               \
	X(int, EVP_PKEY_fromdata, (EVP_PKEY_CTX *, EVP_PKEY **, int, OSSL_PARAM *))                                    \
	X(int, EVP_PKEY_derive_init, (EVP_PKEY_CTX *))                                                                 \
	X(int, EVP_PKEY_derive_set_peer, (EVP_PKEY_CTX *, EVP_PKEY *))                                                 \
	X(int, EVP_PKEY_derive, (EVP_PKEY_CTX *, unsigned char *, size_t *))

#define LIBCRYPTO_MEMBER(result, name, parameters) result(*name) parameters;
struct libcrypto {
	LIBCRYPTO_FUNCTIONS(LIBCRYPTO_MEMBER)
};
#undef LIBCRYPTO_MEMBER

/* Filled by libcrypto_start(). */
extern struct libcrypto libcrypto;

/* NULL, or what is missing. Once, before the address space is fenced: the library's code counts against that. */
const char *libcrypto_start(void);

#endif
