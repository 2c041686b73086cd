/* A TEE for fuzzing: the Internal Core API with a cipher that anyone can seal with, and failures on demand. */
#ifndef FUZZ_TEE_H
#define FUZZ_TEE_H

#include <stddef.h>
#include <stdint.h>

#include "lb_sealed.h"

/* Storage empty again, no failure pending. Nothing of an earlier input may be left. */
void fuzz_tee_reset(void);

/* The call of storage or cryptography that comes after `calls` more fails, with the code of an OP-TEE; 0: none does. */
void fuzz_tee_fail_after(uint32_t calls);

/* Operations and objects that were not given back. */
uint32_t fuzz_tee_handles(void);

/* A point of P-256 for an ephemeral key. */
void fuzz_generator(uint8_t key[LB_SEALED_KEY_BYTES]);

/* Whom a model must be sealed to. */
void fuzz_tee_device_id(uint8_t id[32]);

/* In place of lb_p256_is_point(), which is slow: remembers the last answer. */
int fuzz_is_point(const uint8_t key[LB_SEALED_KEY_BYTES]);

/* Writes the tag behind the chunk's text, as that TEE checks it. `bytes`: of struct, text and tag. */
void fuzz_tee_seal(const struct lb_sealed_header *header, uint32_t index, unsigned char *record, size_t bytes);

#endif
