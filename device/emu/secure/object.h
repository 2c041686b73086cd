/* Objects with attributes and data, transient or persistent, as object.c and storage.c hold them. */
#ifndef EMU_OBJECT_H
#define EMU_OBJECT_H

#include <tee_internal_api.h>

#define EMU_MAX_ATTRIBUTES 4u
#define EMU_MAX_ATTRIBUTE_BYTES 128u

/* A value attribute has its `a` in the first 4 bytes; this API's only one has no use for `b`. */
struct emu_attribute {
	uint32_t id;
	uint32_t bytes;
	uint8_t data[EMU_MAX_ATTRIBUTE_BYTES];
};

/* What an object is apart from its data; this is what storage keeps. */
struct emu_content {
	uint32_t type;
	uint32_t max_bits, bits;
	uint32_t usage;
	uint32_t n_attributes;
	struct emu_attribute attributes[EMU_MAX_ATTRIBUTES];
};

struct emu_object {
	struct emu_content content;
	uint32_t handle_flags;
	int fd; /* of a persistent object */
	size_t size, position;
};

/* Zeroed, counted as the TA's memory, without a file; NULL: out of memory. TEE_CloseObject() frees it. */
struct emu_object *object_new(uint32_t type);

/* NULL when there is none of that id. */
const struct emu_attribute *object_attribute(const struct emu_content *content, uint32_t id);

/* The content does not contradict itself. */
int object_is_sound(const struct emu_content *content);

/* crypto_keys.c: fills in the pair's attributes; 0: the library failed. */
int crypto_make_p256(struct emu_content *content);

/* operation.c: SHA-256 of two pieces, for storage; 0: the library failed. */
int crypto_sha256(const void *first, size_t first_bytes, const void *second, size_t second_bytes, uint8_t hash[32]);

#endif
