/* From the device's key pair and a sealed model's header to the key of its chunks. Internal to the TA. */
#ifndef LB_SEALED_KEY_H
#define LB_SEALED_KEY_H

#include <tee_internal_api.h>

#include "lb_sealed.h"

/*
 * Gives an AES-256-GCM operation that holds the key; the caller frees it, which wipes the key. `header` is checked but
 * for the two keys: `error` is WRONG_DEVICE or KEY with SECURITY.
 */
TEE_Result lb_sealed_key_agree(const struct lb_sealed_header *header, TEE_OperationHandle *decryption,
			       enum lb_sealed_error *error);

#endif
