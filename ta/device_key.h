/* The device's key pair, in secure storage. Internal to the TA. */
#ifndef LB_DEVICE_KEY_H
#define LB_DEVICE_KEY_H

#include <tee_internal_api.h>

#include "lb_sealed.h"

/*
 * Opens the pair and gives its public key; makes one where there is none. The caller closes `pair`.
 * CORRUPT_OBJECT: what is stored is no key pair. It is not replaced: what was sealed to it would be lost unnoticed.
 * (OP-TEE itself removes an object whose integrity is broken, after it has said so once.)
 */
TEE_Result lb_device_key_open(TEE_ObjectHandle *pair, uint8_t public_key[LB_SEALED_KEY_BYTES]);

/* A new pair for key agreement, transient, whose private number cannot be read. The caller frees it. */
TEE_Result lb_make_pair(TEE_ObjectHandle *pair);

/* CORRUPT_OBJECT: it is no key pair, or its public key no point of the curve. */
TEE_Result lb_public_key(TEE_ObjectHandle pair, uint8_t public_key[LB_SEALED_KEY_BYTES]);

/* SHA-256 of a public key: whom a model was sealed to. */
TEE_Result lb_device_id(const uint8_t public_key[LB_SEALED_KEY_BYTES], uint8_t id[32]);

#endif
