/*
 * A tile by NEON: for each tap four vectors of weights and the inputs of six pixels as one and a half vectors, so that
 * the broadcasts are part of the multiplications (FMLA by element): 24 of them and 4 loads.
 */
#ifndef CONV2D_TILE_NEON_H
#define CONV2D_TILE_NEON_H

#define QUADS (2u * LB_TILE_BLOCKS) /* of four channels */

/* Four channels of `n` pixels, n constant: sums[p] holds pixel p's channels, and out[c * plane + p] gets them. */
LB_INLINE void store_quad(const float32x4_t *sums, const size_t n, float *out, size_t plane, size_t channels)
{
	size_t p = 0;

	if (channels < 4u) {
		float lanes[LB_TILE_PIXELS][4];

	LB_UNROLL for (size_t i = 0; i < n; i++)
			vst1q_f32(lanes[i], sums[i]);
		for (size_t c = 0; c < channels; c++)
			for (size_t i = 0; i < n; i++)
				out[c * plane + i] = lanes[i][c];
		return;
	}
	if (n >= 4u) {
		const float64x2_t even01 = vreinterpretq_f64_f32(vtrn1q_f32(sums[0], sums[1]));
		const float64x2_t odd01 = vreinterpretq_f64_f32(vtrn2q_f32(sums[0], sums[1]));
		const float64x2_t even23 = vreinterpretq_f64_f32(vtrn1q_f32(sums[2], sums[3]));
		const float64x2_t odd23 = vreinterpretq_f64_f32(vtrn2q_f32(sums[2], sums[3]));

		vst1q_f32(out, vreinterpretq_f32_f64(vtrn1q_f64(even01, even23)));
		vst1q_f32(out + plane, vreinterpretq_f32_f64(vtrn1q_f64(odd01, odd23)));
		vst1q_f32(out + 2u * plane, vreinterpretq_f32_f64(vtrn2q_f64(even01, even23)));
		vst1q_f32(out + 3u * plane, vreinterpretq_f32_f64(vtrn2q_f64(odd01, odd23)));
		p = 4;
	}
	LB_UNROLL for (; p < n; p++) {
		vst1q_lane_f32(out + p, sums[p], 0);
		vst1q_lane_f32(out + plane + p, sums[p], 1);
		vst1q_lane_f32(out + 2u * plane + p, sums[p], 2);
		vst1q_lane_f32(out + 3u * plane + p, sums[p], 3);
	}
}

LB_INLINE void activate(float32x4_t sum[][LB_TILE_PIXELS], const size_t n_quads, const size_t n_pixels,
			enum lb_activation activation)
{
	if (activation == LB_ACTIVATION_NONE)
		return;
	LB_UNROLL for (size_t q = 0; q < n_quads; q++)
		LB_UNROLL for (size_t p = 0; p < n_pixels; p++)
			sum[q][p] = vmaxq_f32(sum[q][p], vdupq_n_f32(0.0f));
	if (activation == LB_ACTIVATION_RELU6)
		LB_UNROLL for (size_t q = 0; q < n_quads; q++)
			LB_UNROLL for (size_t p = 0; p < n_pixels; p++)
				sum[q][p] = vminq_f32(sum[q][p], vdupq_n_f32(6.0f));
}

LB_INLINE void run_tile(const struct lb_tile *tile, const size_t n_blocks, const size_t n_pixels)
{
	const size_t n_quads = 2u * n_blocks, width = tile->width, block_stride = tile->block_stride;
	float32x4_t sum[QUADS][LB_TILE_PIXELS];
	const float *x = tile->panel;

	LB_UNROLL for (size_t q = 0; q < n_quads; q++)
		LB_UNROLL for (size_t p = 0; p < n_pixels; p++)
			sum[q][p] = vld1q_f32(tile->bias ? tile->bias + q * 4u
							 : tile->partial + (q / 2u * width + p) * LB_V + q % 2u * 4u);

	for (const struct lb_run *run = tile->runs, *end = run + tile->n_runs; run < end; run++) {
		const float *first = tile->weight + run->weight, *second = first + block_stride;

		LB_UNROLL_BY4 for (size_t n = run->taps; n; n--, first += LB_V, second += LB_V, x += width)
		{
			/* Of pixels that the tile does not have, too: hence LB_TILE_SLACK. */
			const float32x4_t left = vld1q_f32(x), right = n_pixels > 4u ? vld1q_f32(x + 4) : left;
			float32x4_t w[QUADS];

			w[0] = vld1q_f32(first);
			w[1] = vld1q_f32(first + 4);
			if (n_blocks == 2u) {
				w[2] = vld1q_f32(second);
				w[3] = vld1q_f32(second + 4);
			}
			LB_UNROLL for (size_t q = 0; q < n_quads; q++) {
				sum[q][0] = vfmaq_laneq_f32(sum[q][0], w[q], left, 0);
				if (n_pixels > 1u)
					sum[q][1] = vfmaq_laneq_f32(sum[q][1], w[q], left, 1);
				if (n_pixels > 2u)
					sum[q][2] = vfmaq_laneq_f32(sum[q][2], w[q], left, 2);
				if (n_pixels > 3u)
					sum[q][3] = vfmaq_laneq_f32(sum[q][3], w[q], left, 3);
				if (n_pixels > 4u)
					sum[q][4] = vfmaq_laneq_f32(sum[q][4], w[q], right, 0);
				if (n_pixels > 5u)
					sum[q][5] = vfmaq_laneq_f32(sum[q][5], w[q], right, 1);
			}
		}
	}

	if (tile->last)
		activate(sum, n_quads, n_pixels, tile->activation);
	LB_UNROLL for (size_t q = 0; q < n_quads; q++) {
		const size_t channels = tile->channels > q * 4u ? tile->channels - q * 4u : 0u;

		if (!tile->last) {
			LB_UNROLL for (size_t p = 0; p < n_pixels; p++)
				vst1q_f32(tile->partial + (q / 2u * width + p) * LB_V + q % 2u * 4u, sum[q][p]);
			continue;
		}
		store_quad(sum[q], n_pixels, tile->out + q * 4u * tile->plane, tile->plane, channels);
	}
}

#undef QUADS

LB_TILE_FUNCTIONS
#define LB_RUN_TILE(tile, blocks, pixels) run_tile_of[(blocks)-1u][(pixels)-1u](tile)

#endif
