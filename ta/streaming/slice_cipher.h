/* The cipher of sealed slices. GlobalPlatform has none that is quick enough: each platform brings a library's. */
#ifndef LB_SLICE_CIPHER_H
#define LB_SLICE_CIPHER_H

#include <stddef.h>
#include <stdint.h>

/*
 * Opens ChaCha20-Poly1305 (RFC 8439) in place: `bytes` of ciphertext at `data`, its 16-byte tag behind them. 1 when the
 * tag is right, and then `data` is the plaintext; 0 when it is not, and then nothing at `data` may be used. The key
 * leaves no copy behind.
 */
int lb_slice_cipher_open(const uint8_t key[32], const uint8_t nonce[12], const void *associated,
			 size_t associated_bytes, uint8_t *data, size_t bytes);

#endif
