/* Heap of the TA that is counted, and wiped before it goes back. Internal to the TA. */
#ifndef LB_SECURE_HEAP_H
#define LB_SECURE_HEAP_H

#include <tee_internal_api.h>

/* A block aligned to LB_ALIGN; all zero when empty. */
struct lb_block {
	void *data;
	void *raw;
	size_t raw_bytes;
};

/* Zeroed memory; OUT_OF_MEMORY leaves the block empty. */
TEE_Result lb_block_alloc(struct lb_block *block, size_t bytes);
void lb_block_free(struct lb_block *block);

/* Bytes of heap that blocks hold now, and the most they held at once. */
size_t lb_heap_now(void);
size_t lb_heap_peak(void);

#endif
