/*
 * Sealed slices, version 1: the filters that a sealed model (lb_model.h, struct lb_slice) leaves out. What
 * device/slice_sealing.py writes, what the normal world keeps and hands over slice by slice, and what the TA opens.
 * Little-endian.
 *
 *   struct lb_slices_header
 *   n_slices times: uint32_t bytes, of the slice's ciphertext
 *   n_slices times: the ciphertext, its 16-byte tag
 *
 * The key lies in the model file, which is sealed to one device as a whole, and is drawn anew for every packing of a
 * model. So the slices themselves need no device key: whoever can open the model can open them, and a slice of another
 * model, of another release, or of another packing does not open.
 *
 * A slice is ChaCha20-Poly1305 (RFC 8439) under that key; nonce = slice index (4 bytes) || 8 bytes 0: a key seals each
 * index once. Associated data: struct lb_slice_place, so that a slice opens in its place alone. What the normal world
 * says of sizes only tells where a slice ends; the TA takes sizes from the model.
 */
#ifndef LB_SLICES_H
#define LB_SLICES_H

#include "lb_model.h"

#define LB_SLICES_MAGIC 0x4C53424Cu      /* "LBSL" */
#define LB_SLICE_PLACE_MAGIC 0x5053424Cu /* "LBSP" */
#define LB_SLICES_FORMAT 1u
#define LB_SLICE_TAG_BYTES 16u
#define LB_SLICE_NONCE_BYTES 12u

struct lb_slices_header {
	uint32_t magic;
	uint32_t format;
	uint32_t model_id[4]; /* of the model that they belong to */
	uint32_t n_slices;
	uint32_t reserved; /* 0 */
};

struct lb_slice_place {
	uint32_t magic;
	uint32_t format;
	uint32_t model_id[4];
	uint32_t n_slices, index;
	struct lb_slice slice; /* as the model file describes it */
};

#endif
