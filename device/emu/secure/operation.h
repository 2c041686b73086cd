/* A cryptographic operation of the emulated secure world. */
#ifndef EMU_OPERATION_H
#define EMU_OPERATION_H

#include "libcrypto.h"
#include "object.h"

struct emu_operation {
	uint32_t algorithm, mode, max_bits;
	int has_key;
	struct emu_content key; /* a copy */
	EVP_MD_CTX *digest;
	EVP_MAC_CTX *mac;
	EVP_CIPHER_CTX *cipher;
};

#endif
