/* As lb_linear(), four blocks of eight outputs at a time: each weight is read once for either gradient. */
#include "lb_backward.h"
#include "lb_vector_product.h"

#define BLOCKS 4u

/* Outputs [first, first + 8) of d_out, zeros behind its end. */
LB_INLINE void load_lanes(const float *d_out, size_t out_features, size_t first, float lanes[LB_V])
{
	for (size_t lane = 0; lane < LB_V; lane++)
		lanes[lane] = first + lane < out_features ? d_out[first + lane] : 0.0f;
}

/* `n_blocks` is a constant at every call, so that the factors are registers. */
LB_INLINE void add_input(size_t in_features, const lb_v8 *factors, const float *weight, float *d_in, int is_first,
			 const size_t n_blocks)
{
	const size_t stride = in_features * LB_V;
	const float zero = 0.0f;

	for (size_t k = 0; k < in_features; k++, weight += LB_V) {
		lb_v8 sum = LB_SPLAT8(zero);
		float total;

	LB_UNROLL for (size_t b = 0; b < n_blocks; b++)
		{
			const lb_v8 w = LB_LOAD8(weight + b * stride);

			LB_FMA8_LANES(sum, w, factors[b]);
		}
		LB_TOTAL8(total, sum);
		d_in[k] = is_first ? total : d_in[k] + total;
	}
}

void lb_linear_backward_input(size_t in_features, size_t out_features, const float *d_out, const float *weight,
			      float *d_in)
{
	for (size_t first = 0, blocks; first < out_features; first += blocks * LB_V) {
		float lanes[BLOCKS][LB_V];
		lb_v8 factors[BLOCKS];

		blocks = out_features - first > (BLOCKS - 1u) * LB_V ? BLOCKS : 1u;
		for (size_t b = 0; b < blocks; b++) {
			load_lanes(d_out, out_features, first + b * LB_V, lanes[b]);
			factors[b] = LB_LOAD8(lanes[b]);
		}
		if (blocks == BLOCKS)
			add_input(in_features, factors, weight, d_in, first == 0, BLOCKS);
		else
			add_input(in_features, factors, weight, d_in, first == 0, 1);
		weight += blocks * LB_V * in_features;
	}
}

void lb_linear_backward_weight(size_t in_features, size_t out_features, const float *in, const float *d_out,
			       float *d_weight, float *d_bias)
{
	for (size_t first = 0; first < out_features; first += LB_V) {
		float lanes[LB_V];
		lb_v8 factor;

		load_lanes(d_out, out_features, first, lanes);
		factor = LB_LOAD8(lanes);
		LB_UNROLL_BY4 for (size_t k = 0; k < in_features; k++, d_weight += LB_V)
		{
			lb_v8 sum = LB_LOAD8(d_weight);

			LB_FMA8(sum, factor, in[k]);
			LB_STORE8(d_weight, sum);
		}
	}
	for (size_t o = 0; o < out_features; o++)
		d_bias[o] += d_out[o];
}
