/* The sealed model in the TA's memory. Internal to the TA. */
#ifndef LB_MODEL_STORE_H
#define LB_MODEL_STORE_H

#include <tee_internal_api.h>

#include "lb_runtime.h"

/* A block of heap, aligned to LB_ALIGN, that is counted and wiped before it goes back. */
struct lb_block {
	void *data; /* NULL when empty */
	void *raw;
	size_t raw_bytes;
};

/* Everything that one open model holds; all zero when there is none. */
struct lb_held_model {
	struct lb_block file, arena, scratch;
	struct lb_model model;
};

/*
 * Reads the sealed model of that id from secure storage, checks it and allocates arena and scratch. On an error
 * nothing stays allocated; `fault` and `fault_index` say what is wrong with a file of BAD_FORMAT.
 */
TEE_Result lb_held_model_open(struct lb_held_model *held, const uint32_t model_id[4], enum lb_error *fault,
			      uint32_t *fault_index);

/* Wipes and frees; does nothing when nothing is held. */
void lb_held_model_close(struct lb_held_model *held);

/* Bytes of heap that blocks hold now, and the most they held at once. */
size_t lb_heap_now(void);
size_t lb_heap_peak(void);

#endif
