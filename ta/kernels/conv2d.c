/*
 * Convolution by output tiles of 16 channels x 6 pixels (12 accumulators of 8 lanes).
 *
 * Instead of an im2col matrix there is a list of taps: for each (channel, row, column) of the filter, where its
 * weights start and how far its input lies from a pixel's first input. With the input padded in scratch, a tile is
 * then one loop over taps with a broadcast per pixel. Taps that meet nothing but padding at every pixel are left out,
 * which matters on the 1x1 and 2x2 maps at the end of a network.
 *
 * Only a band of rows is padded at a time, so that scratch stays small; an unpadded convolution reads its input as is.
 */
#include "lb_kernels.h"
#include "lb_vector.h"

#define PIXELS 6u        /* of a tile */
#define CHUNK_PIXELS 48u /* weights are streamed once per chunk: large enough to hide it, small enough for L1 and L2 */
#define CHUNK_TILES (CHUNK_PIXELS / PIXELS)
#define TAP_BLOCK 256u /* 16 channels of weights stay in L1 for all tiles of a chunk */

struct tap {
	uint32_t weight; /* offsets in floats */
	uint32_t input;
};

struct plan {
	size_t group_in, group_out; /* channels */
	size_t blocks;              /* of 8 output channels in a group */
	size_t taps_max;            /* in_c/groups * kernel_h * kernel_w */
	size_t band_rows;           /* output rows of a band */
	size_t band_h, band_w;      /* input rows and columns that a band needs, padding included */
	size_t band_bytes, partial_bytes;
	int padded;
};

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* 0 when a size does not fit. */
static int make_plan(const struct lb_conv2d *conv, struct plan *plan)
{
	size_t floats, pixels;

	plan->group_in = conv->in_c / conv->groups;
	plan->group_out = conv->out_c / conv->groups;
	plan->blocks = (plan->group_out + LB_V - 1u) / LB_V;
	plan->padded = conv->pad_h != 0 || conv->pad_w != 0;

	plan->taps_max = plan->group_in;
	if (!lb_mul_size(&plan->taps_max, conv->kernel_h) || !lb_mul_size(&plan->taps_max, conv->kernel_w) ||
	    plan->taps_max > UINT32_MAX / LB_V)
		return 0;

	plan->band_rows = min_size(conv->out_h, (CHUNK_PIXELS + conv->out_w - 1u) / conv->out_w);
	if (plan->padded) {
		plan->band_h =
			(plan->band_rows - 1u) * conv->stride_h + (size_t)(conv->kernel_h - 1u) * conv->dilation_h + 1u;
		plan->band_w = (size_t)(conv->out_w - 1u) * conv->stride_w +
			       (size_t)(conv->kernel_w - 1u) * conv->dilation_w + 1u;
	} else {
		plan->band_h = conv->in_h;
		plan->band_w = conv->in_w;
	}
	floats = plan->group_in;
	if (!lb_mul_size(&floats, plan->band_h) || !lb_mul_size(&floats, plan->band_w) || floats > UINT32_MAX / 4u)
		return 0;
	plan->band_bytes = plan->padded ? floats * sizeof(float) : 0;

	pixels = min_size(CHUNK_PIXELS, plan->band_rows * conv->out_w);
	plan->partial_bytes = 0;
	if (plan->taps_max > TAP_BLOCK && pixels > PIXELS) {
		plan->partial_bytes = plan->blocks;
		if (!lb_mul_size(&plan->partial_bytes, CHUNK_PIXELS * sizeof(lb_v8)))
			return 0;
	}
	return 1;
}

size_t lb_conv2d_scratch_bytes(const struct lb_conv2d *conv)
{
	struct plan plan;
	size_t bytes = 0;

	if (!make_plan(conv, &plan) || plan.taps_max > SIZE_MAX / sizeof(struct tap) ||
	    !lb_add_aligned(&bytes, plan.taps_max * sizeof(struct tap)) || !lb_add_aligned(&bytes, plan.band_bytes) ||
	    !lb_add_aligned(&bytes, plan.partial_bytes))
		return LB_SCRATCH_OVERFLOW;
	return bytes;
}

/* Whether any of `out` positions puts filter position `k` on a real input. */
static int meets_input(size_t k, size_t out, size_t in, size_t stride, size_t pad, size_t dilation)
{
	for (size_t o = 0; o < out; o++) {
		size_t at = o * stride + k * dilation;

		if (at >= pad && at - pad < in)
			return 1;
	}
	return 0;
}

static size_t list_taps(const struct lb_conv2d *conv, const struct plan *plan, struct tap *taps)
{
	size_t window = (size_t)conv->kernel_h * conv->kernel_w, n = 0, live = 0;

	/* One channel's taps first; the others are the same, a plane further. */
	for (size_t kh = 0; kh < conv->kernel_h; kh++) {
		if (!meets_input(kh, conv->out_h, conv->in_h, conv->stride_h, conv->pad_h, conv->dilation_h))
			continue;
		for (size_t kw = 0; kw < conv->kernel_w; kw++) {
			if (!meets_input(kw, conv->out_w, conv->in_w, conv->stride_w, conv->pad_w, conv->dilation_w))
				continue;
			taps[live].weight = (uint32_t)((kh * conv->kernel_w + kw) * LB_V);
			taps[live].input = (uint32_t)(kh * conv->dilation_h * plan->band_w + kw * conv->dilation_w);
			live++;
		}
	}
	n = live;
	for (size_t c = 1; c < plan->group_in; c++)
		for (size_t t = 0; t < live; t++, n++) {
			taps[n].weight = (uint32_t)(taps[t].weight + c * window * LB_V);
			taps[n].input = (uint32_t)(taps[t].input + c * plan->band_h * plan->band_w);
		}
	return n;
}

/* Copies the rows that output rows [row, row + band_rows) need, with zeros around. */
static void pad_band(const struct lb_conv2d *conv, const struct plan *plan, const float *in, size_t row, float *band)
{
	size_t top = row * conv->stride_h;
	/* Columns past the last window are not needed, so the input may be cut on the right. */
	size_t left = min_size(conv->pad_w, plan->band_w);
	size_t width = min_size(conv->in_w, plan->band_w - left);
	size_t right = plan->band_w - left - width;

	for (size_t c = 0; c < plan->group_in; c++) {
		const float *plane = in + c * conv->in_h * conv->in_w;

		for (size_t y = 0; y < plan->band_h; y++, band += plan->band_w) {
			size_t at = top + y;

			if (at < conv->pad_h || at - conv->pad_h >= conv->in_h) {
				__builtin_memset(band, 0, plan->band_w * sizeof(float));
				continue;
			}
			for (size_t x = 0; x < left; x++)
				band[x] = 0.0f;
			__builtin_memcpy(band + left, plane + (at - conv->pad_h) * conv->in_w, width * sizeof(float));
			for (size_t x = 0; x < right; x++)
				band[left + width + x] = 0.0f;
		}
	}
}

struct tile {
	const float *weight; /* of the tile's first block */
	size_t block_stride; /* floats from one block of 8 channels to the next */
	const struct tap *taps;
	size_t n_taps;
	const float *pixel[PIXELS]; /* first input of each pixel */
	const float *bias;          /* the first pass starts from it, NULL: from `partial` */
	float *partial;             /* [blocks of the tile][PIXELS][8] */
	int last;                   /* the last pass stores to `out` */
	float *out;
	size_t plane;    /* floats from one output channel to the next */
	size_t channels; /* valid ones, at most 8 * blocks */
	enum lb_activation activation;
};

/* `n_blocks` and `n_pixels` are constants at every call, so that the accumulators are registers. */
LB_INLINE void run_tile(const struct tile *tile, const size_t n_blocks, const size_t n_pixels)
{
	lb_v8 sum[2][PIXELS];
	const float *weight = tile->weight, *pixel[PIXELS];
	const struct tap *tap = tile->taps, *end = tap + tile->n_taps;
	const size_t block_stride = tile->block_stride;

	LB_UNROLL for (size_t p = 0; p < n_pixels; p++)
		pixel[p] = tile->pixel[p];
	LB_UNROLL for (size_t b = 0; b < n_blocks; b++)
		LB_UNROLL for (size_t p = 0; p < n_pixels; p++)
			sum[b][p] = tile->bias ? LB_LOAD8(tile->bias + b * LB_V)
					       : LB_LOAD8(tile->partial + (b * CHUNK_PIXELS + p) * LB_V);

	for (; tap < end; tap++) {
		const float *at = weight + tap->weight;
		const size_t input = tap->input;
		lb_v8 first = LB_LOAD8(at), second = LB_ZERO8;

		if (n_blocks == 2)
			second = LB_LOAD8(at + block_stride);
		LB_UNROLL for (size_t p = 0; p < n_pixels; p++) {
			const float value = pixel[p][input];
			const lb_v8 x = LB_SPLAT8(value);

			sum[0][p] += first * x;
			if (n_blocks == 2)
				sum[1][p] += second * x;
		}
	}

	if (!tile->last) {
		LB_UNROLL for (size_t b = 0; b < n_blocks; b++)
			LB_UNROLL for (size_t p = 0; p < n_pixels; p++)
				LB_STORE8(tile->partial + (b * CHUNK_PIXELS + p) * LB_V, sum[b][p]);
		return;
	}
	LB_UNROLL for (size_t b = 0; b < n_blocks; b++) {
		float lanes[PIXELS][LB_V];
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

#define RUN_TILE(blocks, pixels)                                                                                      \
	static __attribute__((noinline)) void tile_##blocks##x##pixels(const struct tile *tile)                       \
	{                                                                                                             \
		run_tile(tile, blocks, pixels);                                                                       \
	}
RUN_TILE(1, 1)
RUN_TILE(1, 2)
RUN_TILE(1, 3)
RUN_TILE(1, 4)
RUN_TILE(1, 5)
RUN_TILE(1, 6)
RUN_TILE(2, 1)
RUN_TILE(2, 2)
RUN_TILE(2, 3)
RUN_TILE(2, 4)
RUN_TILE(2, 5)
RUN_TILE(2, 6)

static void (*const run_tile_of[2][PIXELS])(const struct tile *) = {
	{tile_1x1, tile_1x2, tile_1x3, tile_1x4, tile_1x5, tile_1x6},
	{tile_2x1, tile_2x2, tile_2x3, tile_2x4, tile_2x5, tile_2x6},
};

struct chunk {
	const struct lb_conv2d *conv;
	const struct plan *plan;
	const struct tap *taps;
	size_t n_taps;
	const float *base; /* first input of the band's first pixel */
	size_t first, n;   /* output pixels, counted from the band's first */
	const float *weight, *bias;
	float *out; /* the group's first channel, the band's first pixel */
	float *partial;
};

/* All output channels of at most CHUNK_PIXELS pixels. */
static void run_chunk(const struct chunk *chunk)
{
	const struct lb_conv2d *conv = chunk->conv;
	const struct plan *plan = chunk->plan;
	const float *pixel[CHUNK_PIXELS];
	/* Fewer tiles use a weight less often: then long runs from memory matter more than L1. */
	const size_t step = chunk->n > PIXELS ? TAP_BLOCK * CHUNK_PIXELS / chunk->n : chunk->n_taps;
	size_t row = chunk->first / conv->out_w, column = chunk->first % conv->out_w;
	struct tile tile = {
		.block_stride = plan->taps_max * LB_V,
		.plane = (size_t)conv->out_h * conv->out_w,
		.activation = conv->activation,
	};

	for (size_t p = 0; p < chunk->n; p++) {
		pixel[p] = chunk->base + row * conv->stride_h * plan->band_w + column * conv->stride_w;
		if (++column == conv->out_w) {
			column = 0;
			row++;
		}
	}
	/* Once even without taps (every window sees padding only): the result is the bias then. */
	for (size_t t = 0; !tile.last; t += step) {
		tile.taps = chunk->taps + t;
		tile.n_taps = min_size(step, chunk->n_taps - t);
		tile.last = t + tile.n_taps == chunk->n_taps;
		for (size_t block = 0; block < plan->blocks; block += 2) {
			size_t blocks = min_size(2, plan->blocks - block);
			float bias[2 * LB_V] = {0.0f};

			tile.channels = min_size(2 * LB_V, plan->group_out - block * LB_V);
			__builtin_memcpy(bias, chunk->bias + block * LB_V, tile.channels * sizeof(float));
			tile.bias = t == 0 ? bias : NULL;
			tile.weight = chunk->weight + block * tile.block_stride;
			for (size_t p = 0; p < chunk->n; p += PIXELS) {
				size_t pixels = min_size(PIXELS, chunk->n - p);

				for (size_t i = 0; i < pixels; i++)
					tile.pixel[i] = pixel[p + i];
				if (chunk->partial)
					tile.partial = chunk->partial + (block * CHUNK_PIXELS + p) * LB_V;
				tile.out = chunk->out + block * LB_V * tile.plane + chunk->first + p;
				run_tile_of[blocks - 1u][pixels - 1u](&tile);
			}
		}
	}
}

void lb_conv2d(const struct lb_conv2d *conv, const float *in, const float *weight, const float *bias, float *out,
	       void *scratch)
{
	struct plan plan;
	struct chunk chunk = {.conv = conv, .plan = &plan};
	size_t at = 0;
	struct tap *taps = scratch;
	float *band;

	if (!make_plan(conv, &plan))
		return; /* lb_conv2d_scratch_bytes() has refused it */
	lb_add_aligned(&at, plan.taps_max * sizeof(struct tap));
	band = (float *)(void *)((unsigned char *)scratch + at);
	lb_add_aligned(&at, plan.band_bytes);
	if (plan.partial_bytes)
		chunk.partial = (float *)(void *)((unsigned char *)scratch + at);

	chunk.taps = taps;
	chunk.n_taps = list_taps(conv, &plan, taps);
	for (size_t g = 0; g < conv->groups; g++) {
		const float *input = in + g * plan.group_in * conv->in_h * conv->in_w;
		float *output = out + g * plan.group_out * conv->out_h * conv->out_w;

		chunk.weight = weight + g * plan.blocks * plan.taps_max * LB_V;
		chunk.bias = bias + g * plan.group_out;
		for (size_t row = 0; row < conv->out_h; row += plan.band_rows) {
			size_t pixels = min_size(plan.band_rows, conv->out_h - row) * conv->out_w;

			chunk.base = input + row * conv->stride_h * conv->in_w;
			if (plan.padded) {
				pad_band(conv, &plan, input, row, band);
				chunk.base = band;
			}
			chunk.out = output + row * conv->out_w;
			for (chunk.first = 0; chunk.first < pixels; chunk.first += chunk.n) {
				chunk.n = min_size(CHUNK_PIXELS, pixels - chunk.first);
				run_chunk(&chunk);
			}
		}
	}
}
