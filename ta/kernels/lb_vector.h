/*
 * Eight float lanes by GCC/clang vector extensions: one AVX2 register here, two NEON registers on Armv8, and plain
 * scalar code where there is neither. Internal to the kernels.
 *
 * Macros instead of functions wherever a vector would be passed or returned: without AVX its calling convention
 * differs between compiler versions (-Wpsabi).
 */
#ifndef LB_VECTOR_H
#define LB_VECTOR_H

#include <stddef.h>
#include <stdint.h>

#include "lb_kernels.h"

#define LB_V 8u

typedef float lb_v8 __attribute__((vector_size(32)));
typedef int32_t lb_v8i __attribute__((vector_size(32)));
/* The same eight floats at any address that a float may have. */
typedef float lb_v8_any __attribute__((vector_size(32), aligned(4), may_alias));

#define LB_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define LB_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LB_UNROLL _Pragma("GCC unroll 8")
#endif

#define LB_LOAD8(address) (*(const lb_v8_any *)(address))
#define LB_STORE8(address, vector) (*(lb_v8_any *)(address) = (vector))
/* `x` must be free of side effects. (Adding a scalar to a zero vector costs an addition: -0 + 0 is not -0.) */
#define LB_SPLAT8(x) ((lb_v8){(x), (x), (x), (x), (x), (x), (x), (x)})
#define LB_ZERO8 LB_SPLAT8(0.0f)

/* NaN stays NaN: it is not below 0 and not above 6. */
#define LB_RELU8(v) ((lb_v8)((lb_v8i)(v) & ~(lb_v8i)((v) < LB_ZERO8)))
#define LB_MIN6_8(v)                                                                                                   \
	((lb_v8)(((lb_v8i)(v) & ~(lb_v8i)((v) > LB_SPLAT8(6.0f))) |                                                    \
		 ((lb_v8i)LB_SPLAT8(6.0f) & (lb_v8i)((v) > LB_SPLAT8(6.0f)))))

LB_INLINE float lb_activate(float x, enum lb_activation activation)
{
	if (activation != LB_ACTIVATION_NONE && x < 0.0f)
		x = 0.0f;
	if (activation == LB_ACTIVATION_RELU6 && x > 6.0f)
		x = 6.0f;
	return x;
}

#define LB_ACTIVATE8(v, activation)                                                                                    \
	do {                                                                                                           \
		if ((activation) != LB_ACTIVATION_NONE)                                                                \
			(v) = LB_RELU8(v);                                                                             \
		if ((activation) == LB_ACTIVATION_RELU6)                                                               \
			(v) = LB_MIN6_8(v);                                                                            \
	} while (0)

/* a * b into *a; 0 when it does not fit. */
LB_INLINE int lb_mul_size(size_t *a, size_t b)
{
	return !__builtin_mul_overflow(*a, b, a);
}

/* *a + b rounded up to a multiple of 64 into *a; 0 when it does not fit. */
LB_INLINE int lb_add_aligned(size_t *a, size_t b)
{
	if (__builtin_add_overflow(*a, b, a) || *a > SIZE_MAX - 63u)
		return 0;
	*a = (*a + 63u) & ~(size_t)63u;
	return 1;
}

#endif
