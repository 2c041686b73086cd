/* From the device's key pair and a sealed model's header to the key of its chunks. Internal to the TA. */
#ifndef LB_SEALED_KEY_H
#define LB_SEALED_KEY_H

#include <tee_internal_api.h>

#include "lb_sealed.h"

#define LB_SEALED_SECRET_BYTES 32u

/* The x-coordinate of the common point. `public_key` is a point of the curve: TEE_DeriveKey panics where it sees none. */
TEE_Result lb_agree(TEE_ObjectHandle pair, const uint8_t public_key[LB_SEALED_KEY_BYTES],
		    uint8_t z[LB_SEALED_SECRET_BYTES]);

/* An AES-256-GCM operation of that mode, which the caller frees; TEE_HANDLE_NULL on an error. */
TEE_Result lb_aes_gcm(const uint8_t key[LB_SEALED_SECRET_BYTES], uint32_t mode, TEE_OperationHandle *cipher);

/*
 * Gives an AES-256-GCM operation that holds the key; the caller frees it, which wipes the key. `header` is checked but
 * for the two keys: `error` is WRONG_DEVICE or KEY with SECURITY.
 */
TEE_Result lb_sealed_key_agree(const struct lb_sealed_header *header, TEE_OperationHandle *decryption,
			       enum lb_sealed_error *error);

#endif
