/*
 * Clearing and copying floats. Internal to the kernels: the compiler would make calls of memset() and memcpy() of plain
 * loops, and a TEE's go byte by byte.
 */
#ifndef LB_MOVE_H
#define LB_MOVE_H

#include "lb_vector.h"

/* Keeps a loop a loop. */
#define LB_STAY_A_LOOP __asm__ volatile("" ::: "memory")

LB_INLINE void lb_clear_floats(float *to, size_t n)
{
	const float zero = 0.0f;

	for (; n >= LB_V; n -= LB_V, to += LB_V) {
		LB_STORE8(to, LB_SPLAT8(zero));
		LB_STAY_A_LOOP;
	}
	for (; n; n--) {
		*to++ = 0.0f;
		LB_STAY_A_LOOP;
	}
}

LB_INLINE void lb_copy_floats(float *to, const float *from, size_t n)
{
	for (; n >= LB_V; n -= LB_V, to += LB_V, from += LB_V) {
		const lb_v8 eight = LB_LOAD8(from);

		LB_STORE8(to, eight);
		LB_STAY_A_LOOP;
	}
	for (; n; n--) {
		*to++ = *from++;
		LB_STAY_A_LOOP;
	}
}

#endif
