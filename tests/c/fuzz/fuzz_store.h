/* What fuzz_tee.c and fuzz_storage.c know of objects. */
#ifndef FUZZ_STORE_H
#define FUZZ_STORE_H

#include <stddef.h>
#include <stdint.h>

struct emu_object {
	uint32_t type;
	int is_persistent, is_filled;
	uint64_t state; /* of a key: what its values are made from */
	size_t room, position;
	uint32_t slot, flags;
};

void fuzz_store_reset(void);

/* Whether this call is the one that shall fail. */
int fuzz_tee_fails(void);

void *fuzz_handle(size_t bytes);
void fuzz_handle_free(void *handle);

#endif
