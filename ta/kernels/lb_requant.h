/* From exact sums to int8, the same on every machine. Internal to the int8 kernels. */
#ifndef LB_REQUANT_H
#define LB_REQUANT_H

#include "lb_kernels_i8.h"
#include "lb_vector.h"

#ifdef __clang__
#define LB_UNROLL16 LB_UNROLL
#else
#define LB_UNROLL16 _Pragma("GCC unroll 16")
#endif

#define LB_ROUNDER 12582912.0f /* 1.5 * 2^23: floats up there are whole numbers, so that adding it rounds */

/* x in low .. high as a whole number, half to even; NaN is `low`. `low` and `high` are whole and small. */
LB_INLINE int32_t lb_round_within(float x, float low, float high)
{
	x = x > low ? x : low;
	x = x < high ? x : high;
	return (int32_t)((x + LB_ROUNDER) - LB_ROUNDER);
}

LB_INLINE int8_t lb_requant(int32_t sum, float multiplier, float low, float high)
{
	return (int8_t)lb_round_within((float)sum * multiplier, low, high);
}

typedef int32_t lb_v4i __attribute__((vector_size(16)));

/* Sums of four channels side by side, P pixels of them, to P places `stride` bytes apart; P is 1, 2 or 4. */
LB_INLINE void lb_requant4(const lb_v4i *sums, const int32_t *bias, const float *multiplier, int32_t low, int32_t high,
			   int8_t *out, size_t stride, const size_t P)
{
#ifdef LB_NEON
	const int32x4_t add = vld1q_s32(bias);
	const float32x4_t times = vld1q_f32(multiplier);
	int16x8_t half[2] = {vdupq_n_s16(0), vdupq_n_s16(0)};
	int16x4_t quarter[4];
	int8x16_t all;

	LB_UNROLL for (size_t p = 0; p < P; p++)
		quarter[p] = vqmovn_s32(vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(vaddq_s32((int32x4_t)sums[p], add)), times)));
	LB_UNROLL for (size_t p = 0; p < P; p += 2)
		half[p / 2] = vcombine_s16(quarter[p], quarter[p + 1 < P ? p + 1 : p]);
	all = vcombine_s8(vqmovn_s16(half[0]), vqmovn_s16(half[P > 2]));
	all = vminq_s8(vmaxq_s8(all, vdupq_n_s8((int8_t)low)), vdupq_n_s8((int8_t)high));
	LB_UNROLL for (size_t p = 0; p < P; p++) {
		int32_t four = vgetq_lane_s32(vreinterpretq_s32_s8(all), (int)p);

		__builtin_memcpy(out + p * stride, &four, 4);
	}
#else
	LB_UNROLL for (size_t p = 0; p < P; p++)
		LB_UNROLL for (size_t i = 0; i < 4; i++)
			out[p * stride + i] = lb_requant(sums[p][i] + bias[i], multiplier[i], (float)low, (float)high);
#endif
}

/* A ratio of scales in steps of 2^-16; multiplying by a power of two is exact, so no fused operation can differ. */
LB_INLINE int32_t lb_fixed16(float ratio)
{
	return (int32_t)(ratio * 65536.0f + 0.5f);
}

LB_INLINE int8_t lb_clamp8(int32_t x, int32_t low, int32_t high)
{
	x = x > low ? x : low;
	return (int8_t)(x < high ? x : high);
}

#endif
