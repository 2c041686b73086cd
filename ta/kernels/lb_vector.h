/*
 * Eight float lanes, in one of three ways. Internal to the kernels.
 *
 *   LB_NEON     two NEON registers: Armv8-A, unless one of the others is asked for
 *   LB_PLAIN    plain C, an array and loops: LB_PORTABLE asks for it
 *   LB_VECTOR   GCC/clang vector extensions, one AVX2 register: all else, and what LB_EXTENSIONS asks for
 *
 * Macros instead of functions wherever a vector would be passed or returned: without AVX its calling convention
 * differs between compiler versions (-Wpsabi).
 */
#ifndef LB_VECTOR_H
#define LB_VECTOR_H

#include <stddef.h>
#include <stdint.h>

#include "lb_kernels.h"

#if defined(LB_PORTABLE)
#define LB_PLAIN
#elif defined(__aarch64__) && !defined(LB_EXTENSIONS)
#define LB_NEON
#include <arm_neon.h>
#else
#define LB_VECTOR
#endif

#define LB_V 8u

#define LB_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define LB_UNROLL _Pragma("clang loop unroll(full)")
#define LB_UNROLL_BY4 _Pragma("clang loop unroll_count(4)")
#else
#define LB_UNROLL _Pragma("GCC unroll 8")
#define LB_UNROLL_BY4 _Pragma("GCC unroll 4")
#endif

LB_INLINE float lb_activate(float x, enum lb_activation activation)
{
	if (activation != LB_ACTIVATION_NONE && x < 0.0f)
		x = 0.0f;
	if (activation == LB_ACTIVATION_RELU6 && x > 6.0f)
		x = 6.0f;
	return x;
}

/*
 * LB_LOAD8, LB_STORE8   at any address that a float may have
 * LB_SPLAT8(x)          eight times `x`, which must be free of side effects
 * LB_FMA8(sum, v, x)    sum += v * x, with a float `x`
 * LB_ACTIVATE8          lb_activate() of each lane: NaN stays NaN, it is not below 0 and not above 6
 */
#ifdef LB_VECTOR

typedef float lb_v8 __attribute__((vector_size(32)));
typedef int32_t lb_v8i __attribute__((vector_size(32)));
/* The same eight floats at any address that a float may have. */
typedef float lb_v8_any __attribute__((vector_size(32), aligned(4), may_alias));

#define LB_LOAD8(address) (*(const lb_v8_any *)(address))
#define LB_STORE8(address, vector) (*(lb_v8_any *)(address) = (vector))
/* (Adding a scalar to a zero vector costs an addition: -0 + 0 is not -0.) */
#define LB_SPLAT8(x) ((lb_v8){(x), (x), (x), (x), (x), (x), (x), (x)})
#define LB_FMA8(sum, vector, x) ((sum) += (vector) * LB_SPLAT8(x))

#define LB_RELU8(v) ((lb_v8)((lb_v8i)(v) & ~(lb_v8i)((v) < LB_SPLAT8(0.0f))))
#define LB_MIN6_8(v)                                                                                                   \
	((lb_v8)(((lb_v8i)(v) & ~(lb_v8i)((v) > LB_SPLAT8(6.0f))) |                                                    \
		 ((lb_v8i)LB_SPLAT8(6.0f) & (lb_v8i)((v) > LB_SPLAT8(6.0f)))))
#define LB_ACTIVATE8(v, activation)                                                                                    \
	do {                                                                                                           \
		if ((activation) != LB_ACTIVATION_NONE)                                                                \
			(v) = LB_RELU8(v);                                                                             \
		if ((activation) == LB_ACTIVATION_RELU6)                                                               \
			(v) = LB_MIN6_8(v);                                                                            \
	} while (0)

#elif defined(LB_NEON)

/* FMAX and FMIN return NaN for NaN, as lb_activate() does. */
#define LB_ACTIVATE4(v, activation)                                                                                    \
	do {                                                                                                           \
		if ((activation) != LB_ACTIVATION_NONE)                                                                \
			(v) = vmaxq_f32(v, vdupq_n_f32(0.0f));                                                         \
		if ((activation) == LB_ACTIVATION_RELU6)                                                               \
			(v) = vminq_f32(v, vdupq_n_f32(6.0f));                                                         \
	} while (0)

typedef struct {
	float32x4_t low, high;
} lb_v8;

#define LB_LOAD8(address) ((lb_v8){vld1q_f32(address), vld1q_f32((address) + 4)})
#define LB_STORE8(address, vector)                                                                                     \
	do {                                                                                                           \
		vst1q_f32((address), (vector).low);                                                                    \
		vst1q_f32((address) + 4, (vector).high);                                                               \
	} while (0)
#define LB_SPLAT8(x) ((lb_v8){vdupq_n_f32(x), vdupq_n_f32(x)})
#define LB_FMA8(sum, vector, x)                                                                                        \
	do {                                                                                                           \
		const lb_v8 lb_factor = (vector);                                                                      \
		(sum).low = vfmaq_n_f32((sum).low, lb_factor.low, (x));                                                \
		(sum).high = vfmaq_n_f32((sum).high, lb_factor.high, (x));                                             \
	} while (0)
#define LB_ACTIVATE8(v, activation)                                                                                    \
	do {                                                                                                           \
		LB_ACTIVATE4((v).low, activation);                                                                     \
		LB_ACTIVATE4((v).high, activation);                                                                    \
	} while (0)

#else

typedef struct {
	float lane[LB_V];
} __attribute__((may_alias)) lb_v8;

#define LB_LOAD8(address) (*(const lb_v8 *)(address))
#define LB_STORE8(address, vector) (*(lb_v8 *)(address) = (vector))
#define LB_SPLAT8(x) ((lb_v8){{(x), (x), (x), (x), (x), (x), (x), (x)}})
#define LB_FMA8(sum, vector, x)                                                                                        \
	do {                                                                                                           \
		const lb_v8 lb_factor = (vector);                                                                      \
		for (size_t lb_i = 0; lb_i < LB_V; lb_i++)                                                             \
			(sum).lane[lb_i] += lb_factor.lane[lb_i] * (x);                                                \
	} while (0)
#define LB_ACTIVATE8(v, activation)                                                                                    \
	do {                                                                                                           \
		for (size_t lb_i = 0; lb_i < LB_V; lb_i++)                                                             \
			(v).lane[lb_i] = lb_activate((v).lane[lb_i], (activation));                                    \
	} while (0)

#endif

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
