/* The sealed slices (lb_slices.h) that the normal world keeps for the TA. Ciphertext: only lengths are looked at. */
#ifndef LB_AGENT_SLICES_H
#define LB_AGENT_SLICES_H

#include <stddef.h>
#include <stdint.h>

#include "failure.h"

struct slices {
	unsigned char *file; /* NULL: there are none */
	size_t bytes, received;
	uint32_t n;
	size_t largest, payload; /* bytes of the largest slice and of all, tags included */
	uint32_t next;           /* of the query that runs */
	size_t at;
};

/* Checks a complete file and its table; nothing to do where there is none. */
int slices_read(struct slices *slices, const uint32_t model_id[4], struct failure *failure);

/* A query begins. */
void slices_rewind(struct slices *slices);

/* Copies as many of the next slices as `room` holds, at most `most`; their bytes, 0: none is left, or none fits. */
size_t slices_next(struct slices *slices, uint32_t most, void *to, size_t room);

#endif
