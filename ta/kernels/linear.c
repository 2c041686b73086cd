/* Matrix times vector, 32 outputs at a time: bound by how fast the weights stream, each is used once. */
#include "lb_kernels.h"
#include "lb_vector.h"

#define BLOCKS 4u

/* `n_blocks` is a constant at every call, so that the accumulators are registers. */
LB_INLINE void run_blocks(size_t in_features, const float *in, const float *weight, lb_v8 *sums, const size_t n_blocks)
{
	const size_t stride = in_features * LB_V;
	lb_v8 even[BLOCKS], odd[BLOCKS];
	size_t k = 0;

	LB_UNROLL for (size_t b = 0; b < n_blocks; b++)
		even[b] = odd[b] = LB_ZERO8;
	for (; k + 2 <= in_features; k += 2, weight += 2 * LB_V)
		LB_UNROLL for (size_t b = 0; b < n_blocks; b++) {
			even[b] += LB_LOAD8(weight + b * stride) * in[k];
			odd[b] += LB_LOAD8(weight + b * stride + LB_V) * in[k + 1];
		}
	if (k < in_features)
		LB_UNROLL for (size_t b = 0; b < n_blocks; b++)
			even[b] += LB_LOAD8(weight + b * stride) * in[k];
	LB_UNROLL for (size_t b = 0; b < n_blocks; b++)
		sums[b] = even[b] + odd[b];
}

void lb_linear(size_t in_features, size_t out_features, enum lb_activation activation, const float *in,
	       const float *weight, const float *bias, float *out)
{
	for (size_t first = 0, blocks; first < out_features; first += blocks * LB_V) {
		size_t left = (out_features - first + LB_V - 1u) / LB_V;
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
		for (size_t b = 0; b < blocks; b++)
			for (size_t lane = 0; lane < LB_V; lane++) {
				size_t o = first + b * LB_V + lane;

				if (o < out_features)
					out[o] = lb_activate(sums[b][lane] + bias[o], activation);
			}
	}
}
