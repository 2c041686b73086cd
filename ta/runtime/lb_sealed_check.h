/*
 * Checking a sealed model (lb_sealed.h) as far as that goes without a key: shared by TA and agent. Nothing here
 * allocates or keeps state, and no field of a header or chunk is trusted.
 */
#ifndef LB_SEALED_CHECK_H
#define LB_SEALED_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "lb_sealed.h"

/* A sentence without full stop, for people; never NULL. */
const char *lb_sealed_strerror(enum lb_sealed_error error);

/* OK, HEADER or FORMAT. `bytes` must be there; that they are as many as a header has is part of the check. */
enum lb_sealed_error lb_sealed_check_header(const void *header, size_t bytes);

/* Plaintext bytes of a chunk, and of its record with struct and tag. Of any header: 0 bytes where there is no chunk. */
uint32_t lb_sealed_plain_bytes(const struct lb_sealed_header *header, uint32_t index);
size_t lb_sealed_record_bytes(const struct lb_sealed_header *header, uint32_t index);

/*
 * Whether a record of `bytes` bytes is chunk `expected` of the model with that (checked) header. At least the first
 * sizeof(struct lb_sealed_chunk) bytes, or `bytes` if these are fewer, must be there. In this order: SURPLUS when no
 * chunk is expected any more, CHUNK for what is none, FOREIGN_CHUNK (another model), OLDER_CHUNK (another version),
 * FOREIGN_CHUNK (another sealing), REORDERED, CHUNK for a wrong length. OK says nothing about the tag.
 */
enum lb_sealed_error lb_sealed_check_chunk(const struct lb_sealed_header *header, uint32_t expected, const void *record,
					   size_t bytes);

/*
 * 1 when X || Y (big-endian) is a point of P-256. A key agreement with any other pair of numbers can tell something
 * about the private key, and not every TEE refuses it. Not constant in time: for public keys.
 */
int lb_p256_is_point(const uint8_t key[LB_SEALED_KEY_BYTES]);

#endif
