/*
 * The heart of the int8 kernels: for P pixels and 4*B output channels the sums over runs of products.
 *
 * A run is a stretch of bytes that lies side by side in the input and in the filter: one row of the filter, or one of
 * its positions. Its length is a multiple of 16. NEON takes 16 products in three instructions: two products of
 * int8 (weights from -127) fit into int16, pairs of those are added into int32.
 */
#ifndef LB_DOT_I8_H
#define LB_DOT_I8_H

#include "lb_requant.h"

#define LB_DOT_LANES 4u /* output channels side by side */
#define LB_DOT_STEP 16u /* bytes of input at once */
#define LB_DOT_BLOCK (LB_DOT_LANES * LB_DOT_STEP)

struct lb_dot_run {
	uint32_t input;  /* bytes from where the pixel begins */
	uint32_t weight; /* bytes from where the block of four channels begins */
	uint32_t steps;
};

struct lb_dot {
	const struct lb_dot_run *runs;
	size_t n_runs;
	size_t pixel_stride; /* bytes between neighbouring pixels of the input */
	size_t block_stride; /* bytes between blocks of four channels of the filter */
};

#ifdef LB_NEON
typedef int8x16_t lb_bytes;
typedef int32x4_t lb_acc;
#define LB_ACC_ZERO vdupq_n_s32(0)
#define LB_BYTES(address) vld1q_s8(address)
/* Both loads in one instruction; being volatile it also keeps a compiler from computing all products first, for which
 * there are not enough registers. */
#define LB_BYTES2(address, first, second)                                                                              \
	__asm__ volatile("ldp %q0, %q1, %2"                                                                            \
			 : "=w"(first), "=w"(second)                                                                   \
			 : "Ump"(*(const int8x16x2_t *)(const void *)(address)))
#define LB_MAC(acc, w, x) vpadalq_s16(acc, vmlal_high_s8(vmull_s8(vget_low_s8(w), vget_low_s8(x)), w, x))
#define LB_IN_ORDER(vector) __asm__ volatile("" : "+w"(vector))
#define LB_REDUCE4(a) ((lb_v4i)vpaddq_s32(vpaddq_s32((a)[0], (a)[1]), vpaddq_s32((a)[2], (a)[3])))
#else
typedef int8_t lb_v16b __attribute__((vector_size(16), aligned(1), may_alias));
typedef int16_t lb_bytes __attribute__((vector_size(32)));
typedef int32_t lb_acc __attribute__((vector_size(32)));
#define LB_ACC_ZERO ((lb_acc){0, 0, 0, 0, 0, 0, 0, 0})
#define LB_BYTES(address) __builtin_convertvector(*(const lb_v16b *)(address), lb_bytes)
#if defined(__AVX2__) && !defined(LB_PORTABLE)
#define LB_MAC(acc, w, x) ((acc) + (lb_acc)__builtin_ia32_pmaddwd256(w, x))
#else
/* The products fit into int16; the low and the high one of each pair are widened and added. */
#define LB_MAC(acc, w, x) ((acc) + ((lb_acc)((w) * (x)) << 16 >> 16) + ((lb_acc)((w) * (x)) >> 16))
#endif
#define LB_BYTES2(address, first, second) ((first) = LB_BYTES(address), (second) = LB_BYTES((address) + LB_DOT_STEP))
#define LB_IN_ORDER(vector)
#define LB_SUM8(v) ((v)[0] + (v)[1] + (v)[2] + (v)[3] + (v)[4] + (v)[5] + (v)[6] + (v)[7])
#define LB_REDUCE4(a) ((lb_v4i){LB_SUM8((a)[0]), LB_SUM8((a)[1]), LB_SUM8((a)[2]), LB_SUM8((a)[3])})
#endif

/*
 * sums: [B][P], four channels each. P and B are constants at every call and P * B is at most 4, so that all sums are
 * registers: 16 of four lanes on NEON.
 */
LB_INLINE void lb_dot(const struct lb_dot *dot, const int8_t *in, const int8_t *weight, lb_v4i *sums, const size_t P,
		      const size_t B)
{
	lb_acc acc[16];

	LB_UNROLL16 for (size_t i = 0; i < 4 * P * B; i++) acc[i] = LB_ACC_ZERO;
	for (size_t r = 0; r < dot->n_runs; r++) {
		const int8_t *w = weight + dot->runs[r].weight, *x = in + dot->runs[r].input;
		uint32_t steps = dot->runs[r].steps;

		do {
			lb_bytes v[4];

	LB_UNROLL for (size_t p = 0; p < P; p++)
				v[p] = LB_BYTES(x + p * dot->pixel_stride);
			LB_UNROLL for (size_t b = 0; b < B; b++)
				LB_UNROLL for (size_t lane = 0; lane < LB_DOT_LANES; lane += 2)
				{
					const int8_t *at = w + b * dot->block_stride + lane * LB_DOT_STEP;
					lb_bytes even, odd;
					lb_acc *a = acc + b * P * 4 + lane;

					LB_BYTES2(at, even, odd);
					LB_UNROLL for (size_t p = 0; p < P; p++)
						a[4 * p] = LB_MAC(a[4 * p], even, v[p]);
					LB_UNROLL for (size_t p = 0; p < P; p++)
						LB_IN_ORDER(a[4 * p]);
					LB_UNROLL for (size_t p = 0; p < P; p++)
						a[4 * p + 1] = LB_MAC(a[4 * p + 1], odd, v[p]);
					LB_UNROLL for (size_t p = 0; p < P; p++)
						LB_IN_ORDER(a[4 * p + 1]);
				}
			LB_UNROLL for (size_t p = 0; p < P; p++)
				LB_IN_ORDER(v[p]);
			w += LB_DOT_BLOCK;
			x += LB_DOT_STEP;
		} while (--steps);
	}
	LB_UNROLL for (size_t i = 0; i < P * B; i++)
		sums[i] = LB_REDUCE4(acc + 4 * i);
}

#endif
