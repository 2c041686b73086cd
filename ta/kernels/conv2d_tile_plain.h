/* A tile in plain C: one pixel of one block of eight channels after the other. */
#ifndef CONV2D_TILE_PLAIN_H
#define CONV2D_TILE_PLAIN_H

static void run_tile(const struct lb_tile *tile, size_t n_blocks, size_t n_pixels)
{
	for (size_t b = 0; b < n_blocks; b++)
		for (size_t p = 0; p < n_pixels; p++) {
			float *partial = tile->partial + (b * tile->width + p) * LB_V;
			float *out = tile->out + b * LB_V * tile->plane + p;
			const float *x = tile->panel + p;
			lb_v8 sum = tile->bias ? LB_LOAD8(tile->bias + b * LB_V) : LB_LOAD8(partial);

			for (const struct lb_run *run = tile->runs; run < tile->runs + tile->n_runs; run++) {
				const float *weight = tile->weight + b * tile->block_stride + run->weight;

				for (size_t t = 0; t < run->taps; t++, weight += LB_V, x += tile->width)
					LB_FMA8(sum, LB_LOAD8(weight), *x);
			}
			if (!tile->last) {
				LB_STORE8(partial, sum);
				continue;
			}
			for (size_t c = 0; c < LB_V && b * LB_V + c < tile->channels; c++)
				out[c * tile->plane] = lb_activate(sum.lane[c], tile->activation);
		}
}

#define LB_RUN_TILE(tile, blocks, pixels) run_tile((tile), (blocks), (pixels))

#endif
