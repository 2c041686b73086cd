/* HKDF with SHA-256 (RFC 5869) from two of GlobalPlatform's HMACs. Internal to the TA. */
#ifndef LB_HKDF_H
#define LB_HKDF_H

#include <tee_internal_api.h>

#define LB_SHA256_BYTES 32u
#define LB_HKDF_MAX_KEY_BYTES 128u /* what every TEE takes as a key of HMAC-SHA-256 */

struct lb_bytes {
	const void *data;
	size_t bytes;
};

/* BAD_PARAMETERS: more than 255 hashes of key, or a salt of more than LB_HKDF_MAX_KEY_BYTES. */
TEE_Result lb_hkdf_sha256(struct lb_bytes salt, struct lb_bytes secret, struct lb_bytes info, uint8_t *key,
			  size_t key_bytes);

#endif
