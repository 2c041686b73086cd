/* A tile by vector extensions: for each tap two vectors of weights, and a broadcast input per pixel. */
#ifndef CONV2D_TILE_VECTOR_H
#define CONV2D_TILE_VECTOR_H

LB_INLINE void run_tile(const struct lb_tile *tile, const size_t n_blocks, const size_t n_pixels)
{
	lb_v8 sum[LB_TILE_BLOCKS][LB_TILE_PIXELS];
	const float *x = tile->panel;
	const size_t width = tile->width, block_stride = tile->block_stride;

	LB_UNROLL for (size_t b = 0; b < n_blocks; b++)
		LB_UNROLL for (size_t p = 0; p < n_pixels; p++)
			sum[b][p] = tile->bias ? LB_LOAD8(tile->bias + b * LB_V)
					       : LB_LOAD8(tile->partial + (b * width + p) * LB_V);

	for (const struct lb_run *run = tile->runs, *end = run + tile->n_runs; run < end; run++) {
		const float *weight = tile->weight + run->weight;

		for (size_t n = run->taps; n; n--, weight += LB_V, x += width) {
			lb_v8 first = LB_LOAD8(weight), second = LB_SPLAT8(0.0f);

			if (n_blocks == 2)
				second = LB_LOAD8(weight + block_stride);
			LB_UNROLL for (size_t p = 0; p < n_pixels; p++) {
				const float value = x[p];

				LB_FMA8(sum[0][p], first, value);
				if (n_blocks == 2)
					LB_FMA8(sum[1][p], second, value);
			}
		}
	}

	if (!tile->last) {
		LB_UNROLL for (size_t b = 0; b < n_blocks; b++)
			LB_UNROLL for (size_t p = 0; p < n_pixels; p++)
				LB_STORE8(tile->partial + (b * width + p) * LB_V, sum[b][p]);
		return;
	}
	LB_UNROLL for (size_t b = 0; b < n_blocks; b++) {
		float lanes[LB_TILE_PIXELS][LB_V];
		size_t channels = tile->channels - b * LB_V;
		float *out = tile->out + b * LB_V * tile->plane;

		LB_UNROLL for (size_t p = 0; p < n_pixels; p++) {
			LB_ACTIVATE8(sum[b][p], tile->activation);
			LB_STORE8(lanes[p], sum[b][p]);
		}
		if (channels > LB_V)
			channels = LB_V;
		for (size_t c = 0; c < channels; c++, out += tile->plane)
			LB_UNROLL for (size_t p = 0; p < n_pixels; p++)
				out[p] = lanes[p][c];
	}
}

LB_TILE_FUNCTIONS
#define LB_RUN_TILE(tile, blocks, pixels) run_tile_of[(blocks)-1u][(pixels)-1u](tile)

#endif
