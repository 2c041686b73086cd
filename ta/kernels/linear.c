/* Matrix times vector, 32 outputs at a time: bound by how fast the weights stream, each is used once. */
#include "lb_kernels.h"
#include "lb_vector.h"

#define BLOCKS 4u
#define ACROSS 4u /* inputs that are loaded at once */

/*
 * sums[b] of block b; `n_blocks` is a constant at every call, so that the sums are registers. Even and odd inputs have
 * sums of their own, or each multiplication would wait for the one before.
 */
LB_INLINE void run_blocks(size_t in_features, const float *in, const float *weight, lb_v8 *sums, const size_t n_blocks)
{
	const size_t stride = in_features * LB_V;
	const float zero = 0.0f, one = 1.0f;
	lb_v8 even[BLOCKS], odd[BLOCKS];
	size_t k = 0;

	LB_UNROLL for (size_t b = 0; b < n_blocks; b++)
		even[b] = odd[b] = LB_SPLAT8(zero);
#ifdef LB_NEON
	for (; k + ACROSS <= in_features; k += ACROSS, weight += ACROSS * LB_V) {
		const float32x4_t x = vld1q_f32(in + k);

		LB_UNROLL for (size_t b = 0; b < n_blocks; b++) {
			const float32x4x4_t first = vld1q_f32_x4(weight + b * stride);
			const float32x4x4_t second = vld1q_f32_x4(weight + b * stride + 2 * LB_V);

			even[b].low = vfmaq_laneq_f32(even[b].low, first.val[0], x, 0);
			even[b].high = vfmaq_laneq_f32(even[b].high, first.val[1], x, 0);
			odd[b].low = vfmaq_laneq_f32(odd[b].low, first.val[2], x, 1);
			odd[b].high = vfmaq_laneq_f32(odd[b].high, first.val[3], x, 1);
			even[b].low = vfmaq_laneq_f32(even[b].low, second.val[0], x, 2);
			even[b].high = vfmaq_laneq_f32(even[b].high, second.val[1], x, 2);
			odd[b].low = vfmaq_laneq_f32(odd[b].low, second.val[2], x, 3);
			odd[b].high = vfmaq_laneq_f32(odd[b].high, second.val[3], x, 3);
		}
	}
#else
	for (; k + 2 <= in_features; k += 2, weight += 2 * LB_V)
		LB_UNROLL for (size_t b = 0; b < n_blocks; b++) {
			LB_FMA8(even[b], LB_LOAD8(weight + b * stride), in[k]);
			LB_FMA8(odd[b], LB_LOAD8(weight + b * stride + LB_V), in[k + 1]);
		}
#endif
	for (; k < in_features; k++, weight += LB_V)
		LB_UNROLL for (size_t b = 0; b < n_blocks; b++)
			LB_FMA8(even[b], LB_LOAD8(weight + b * stride), in[k]);
	LB_UNROLL for (size_t b = 0; b < n_blocks; b++) {
		sums[b] = odd[b];
		LB_FMA8(sums[b], even[b], one);
	}
}

void lb_linear(size_t in_features, size_t out_features, enum lb_activation activation, const float *in,
	       const float *weight, const float *bias, float *out)
{
	for (size_t first = 0, blocks; first < out_features; first += blocks * LB_V) {
		size_t left = (out_features - first + LB_V - 1u) / LB_V;
		float lanes[BLOCKS][LB_V];
		lb_v8 sums[BLOCKS];

		if (left >= BLOCKS) {
			blocks = BLOCKS;
			run_blocks(in_features, in, weight, sums, BLOCKS);
		} else if (left >= 2) {
			blocks = 2;
			run_blocks(in_features, in, weight, sums, 2);
		} else {
			blocks = 1;
			run_blocks(in_features, in, weight, sums, 1);
		}
		weight += blocks * LB_V * in_features;
		for (size_t b = 0; b < blocks; b++) {
			LB_STORE8(lanes[b], sums[b]);
			for (size_t lane = 0; lane < LB_V; lane++) {
				size_t o = first + b * LB_V + lane;

				if (o < out_features)
					out[o] = lb_activate(lanes[b][lane] + bias[o], activation);
			}
		}
	}
}
