/*
 * A sealed model, version 1: a model file (lb_model.h) that only one device's TA can open. What device/sealing.py
 * writes and what the TA reads. Little-endian; every field a 32-bit word or bytes.
 *
 *   struct lb_sealed_header
 *   n_chunks times: struct lb_sealed_chunk, the chunk's ciphertext, its 16-byte tag
 *
 * Every chunk holds chunk_bytes of the model file, the last one what remains (never nothing).
 *
 * Keys: the device has a P-256 key pair that the TA made and that never leaves it; for every sealing the owner makes an
 * ephemeral pair. Z is the x-coordinate of their Diffie-Hellman point, 32 bytes. The chunk key is
 * HKDF-SHA-256 (RFC 5869) with IKM = Z, the header's salt, L = 32 and
 * info = LB_SEALED_INFO (without its 0) || model_id || device public key X || Y || ephemeral public key X || Y.
 * A chunk is AES-256-GCM under that key, 16-byte tag, nonce = 8 bytes 0 || chunk index (4 bytes, little-endian): the
 * key is used for one sealing only. Associated data: the whole header || the chunk's struct. So model, version, index
 * and count are bound to every chunk.
 *
 * What a chunk says of itself in the clear only tells which mistake was made; that it is true, the tag says.
 *
 * Versions: `version` is the owner's count of this model's releases. The TA keeps the highest one that it has opened,
 * for each model id, and refuses lower ones. 0 asks for none of this: nothing is kept, and it is refused once a
 * higher one was opened. This is as strong as the device's secure storage is against being put back.
 *
 * A tuned model, which goes the other way, from TA to owner, is the same but for its key: the header's device_id is the
 * SHA-256 of the owner's public key (lb_training.h), the ephemeral pair is the TA's, IKM = the Diffie-Hellman points'
 * x-coordinates of ephemeral and owner's key, then of device's and owner's key, 64 bytes, and info = LB_TUNED_INFO ||
 * model_id || owner's public key || ephemeral public key || device's public key. The second point is what tells the owner
 * that this device made it: anybody else could have sealed something to the owner's public key with the first alone.
 * Its version is 0.
 */
#ifndef LB_SEALED_H
#define LB_SEALED_H

#include <stdint.h>

#define LB_SEALED_MAGIC 0x3153424Cu       /* "LBS1" */
#define LB_SEALED_CHUNK_MAGIC 0x4353424Cu /* "LBSC" */
#define LB_SEALED_FORMAT 1u
#define LB_SEALED_INFO "leakboard sealed model 1"
#define LB_SEALED_INFO_BYTES 24u
#define LB_TUNED_INFO "leakboard tuned model  1" /* LB_SEALED_INFO_BYTES, too */
#define LB_SEALED_TAG_BYTES 16u
#define LB_SEALED_KEY_BYTES 64u           /* a public key: X || Y, big-endian, as GlobalPlatform has them */
#define LB_SEALED_MAX_CHUNK_BYTES 262144u /* of plaintext; at least LB_SEALED_MIN_CHUNK_BYTES, a multiple of 64 */
#define LB_SEALED_MIN_CHUNK_BYTES 1024u
#define LB_SEALED_CHUNK_BYTES 65536u /* what the sealer takes by default */

struct lb_sealed_header {
	uint32_t magic;
	uint32_t format;
	uint32_t model_id[4]; /* of the model file inside */
	uint32_t version;
	uint32_t model_bytes; /* of the model file inside */
	uint32_t chunk_bytes;
	uint32_t n_chunks;
	uint32_t sealing_id[4];    /* random: tells two sealings of one model apart */
	uint8_t device_id[32];     /* SHA-256 of the device's public key X || Y: whom it was sealed to */
	uint8_t ephemeral_key[64]; /* X || Y */
	uint8_t salt[32];          /* random */
	uint32_t reserved[2];      /* 0 */
};

struct lb_sealed_chunk {
	uint32_t magic;
	uint32_t index;
	uint32_t n_chunks;
	uint32_t version;
	uint32_t model_id[4];
	uint32_t sealing_id[4];
};

/* Why a sealed model is refused. Each is another mistake, or another attack. */
enum lb_sealed_error {
	LB_SEALED_OK = 0,
	LB_SEALED_ERROR_HEADER = 1,          /* no header of a sealed model: too short, magic, sizes, reserved */
	LB_SEALED_ERROR_FORMAT = 2,          /* of another format version */
	LB_SEALED_ERROR_WRONG_DEVICE = 3,    /* sealed to another device's key */
	LB_SEALED_ERROR_KEY = 4,             /* the ephemeral key is no point of the curve */
	LB_SEALED_ERROR_OLDER = 5,           /* an older version than the device has opened */
	LB_SEALED_ERROR_CHUNK = 6,           /* no chunk: too short, magic, or not as long as the header says */
	LB_SEALED_ERROR_FOREIGN_CHUNK = 7,   /* swapped in from another model, or another sealing of this version */
	LB_SEALED_ERROR_OLDER_CHUNK = 8,     /* swapped in from another version of this model */
	LB_SEALED_ERROR_REORDERED = 9,       /* a chunk out of order */
	LB_SEALED_ERROR_AUTHENTICATION = 10, /* changed, or forged, or the header was */
	LB_SEALED_ERROR_TRUNCATED = 11,      /* opened before all chunks had come */
	LB_SEALED_ERROR_SURPLUS = 12,        /* a chunk after the last */
	LB_SEALED_ERROR_MODEL_ID = 13, /* the model file inside has another id than the header, or than was asked */
};

#endif
