/*
 * The cipher on Armv8 by OpenSSL's own NEON code: three object files of its libcrypto.a (chacha-armv8, poly1305-armv8,
 * poly1305), which need nothing else of it. 10 instructions a byte; the kit's mbedtls takes 77, AES-256-GCM by the GP
 * API 366.
 */
#include "slice_cipher.h"

#define BLOCK 64u

/* Of libcrypto; the layout of the state is its own, and no more than this. */
struct poly1305 {
	_Alignas(16) uint8_t opaque[512];
};

void ChaCha20_ctr32(uint8_t *out, const uint8_t *in, size_t bytes, const uint32_t key[8], const uint32_t counter[4]);
void Poly1305_Init(struct poly1305 *state, const uint8_t key[32]);
void Poly1305_Update(struct poly1305 *state, const void *data, size_t bytes);
void Poly1305_Final(struct poly1305 *state, uint8_t tag[16]);
size_t Poly1305_ctx_size(void);

/* What those files want of the rest of libcrypto: which CPU this is (NEON, and no SVE), and how to wipe. */
extern unsigned int OPENSSL_armcap_P;
unsigned int OPENSSL_armcap_P = 1;
void OPENSSL_cleanse(void *memory, size_t bytes);
_Noreturn void ChaCha20_ctr32_sve(void);

void OPENSSL_cleanse(void *memory, size_t bytes)
{
	__builtin_memset(memory, 0, bytes);
	__asm__ volatile("" : : "r"(memory) : "memory");
}

_Noreturn void ChaCha20_ctr32_sve(void)
{
	__builtin_trap(); /* never: OPENSSL_armcap_P says that there is no SVE */
}

static void authenticate(struct poly1305 *state, const void *data, size_t bytes)
{
	static const uint8_t zeros[16];

	Poly1305_Update(state, data, bytes);
	if (bytes % 16)
		Poly1305_Update(state, zeros, 16 - bytes % 16);
}

int lb_slice_cipher_open(const uint8_t key[32], const uint8_t nonce[12], const void *associated,
			 size_t associated_bytes, uint8_t *data, size_t bytes)
{
	const uint64_t sizes[2] = {associated_bytes, bytes};
	uint8_t once[BLOCK] = {0}, tag[16], wrong = 0;
	uint32_t words[8], counter[4] = {0};
	struct poly1305 state;

	if (Poly1305_ctx_size() > sizeof(state))
		return 0;
	__builtin_memcpy(words, key, sizeof(words));
	__builtin_memcpy(counter + 1, nonce, 12);
	ChaCha20_ctr32(once, once, sizeof(once), words, counter);
	Poly1305_Init(&state, once);
	authenticate(&state, associated, associated_bytes);
	authenticate(&state, data, bytes);
	Poly1305_Update(&state, sizes, sizeof(sizes));
	Poly1305_Final(&state, tag);
	for (size_t i = 0; i < sizeof(tag); i++)
		wrong |= (uint8_t)(tag[i] ^ data[bytes + i]);
	counter[0] = 1;
	if (!wrong)
		ChaCha20_ctr32(data, data, bytes, words, counter);
	OPENSSL_cleanse(once, sizeof(once));
	OPENSSL_cleanse(words, sizeof(words));
	OPENSSL_cleanse(&state, sizeof(state));
	return !wrong;
}
