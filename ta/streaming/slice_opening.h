/* From a sealed slice to the next step of a run. Internal to the TA. */
#ifndef LB_SLICE_OPENING_H
#define LB_SLICE_OPENING_H

#include "lb_runtime.h"
#include "lb_slices.h"

/* Of the buffer that lb_slice_feed() works in, aligned to LB_ALIGN: the largest slice and its tag. 0: none needed. */
size_t lb_slice_buffer_bytes(const struct lb_model *model);

/*
 * Takes the slice that `cursor` waits for. `sealed` may lie in shared memory: it is copied once, into `buffer`, opened
 * there, computed and wiped. LB_ERROR_ARGUMENT: none is waited for, or it is not as long as the model says.
 * LB_ERROR_SLICE: it is another one than is waited for, or was changed. After any error the run is over.
 */
enum lb_error lb_slice_feed(const struct lb_model *model, struct lb_cursor *cursor, void *arena, void *scratch,
			    void *buffer, const void *sealed, size_t bytes);

#endif
