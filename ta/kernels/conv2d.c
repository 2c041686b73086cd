/*
 * Convolution as a product of matrices that is blocked so that the matrix of inputs never exists as a whole.
 *
 * A chunk of up to 48 output pixels takes its taps (channel, row and column of the filter) in passes. For each pass
 * the inputs that the chunk's pixels meet at its taps are packed side by side into a panel (conv2d_panel.h), and every
 * block of output channels goes over the panel in tiles of 6 pixels (conv2d_tile.h). Sums of unfinished passes wait in
 * scratch. With padding, the panel is packed from a band: the rows of one channel that the chunk needs, zeros around.
 * Taps that meet nothing but padding at every pixel are left out, which matters on the 1x1 and 2x2 maps at the end of
 * a network.
 */
#include "conv2d_panel.h"
#include "conv2d_tile.h"

#define PANEL_FLOATS 6144u /* 24 KiB: stays in L1 or L2 for all tiles of a pass */

/* The most output rows that a chunk can have a part in. */
static size_t chunk_rows(const struct lb_conv2d *conv)
{
	return min_size(conv->out_h, (CHUNK_PIXELS - 2u) / conv->out_w + 2u);
}

/* 0 when a size does not fit. */
static int make_plan(const struct lb_conv2d *conv, struct plan *plan)
{
	plan->group_in = conv->in_c / conv->groups;
	plan->group_out = conv->out_c / conv->groups;
	plan->blocks = (plan->group_out + LB_V - 1u) / LB_V;
	plan->window = conv->kernel_h;
	if (!lb_mul_size(&plan->window, conv->kernel_w))
		return 0;
	plan->taps_max = plan->group_in;
	if (!lb_mul_size(&plan->taps_max, plan->window) || plan->taps_max > UINT32_MAX / LB_V)
		return 0;

	plan->pixels = min_size(CHUNK_PIXELS, (size_t)conv->out_h * conv->out_w);
	plan->width = (plan->pixels + 3u) & ~(size_t)3u;
	plan->pass_taps = min_size(plan->taps_max, PANEL_FLOATS / plan->width);
	plan->position_bytes = plan->window;
	if (!lb_mul_size(&plan->position_bytes, sizeof(struct position)))
		return 0;
	plan->padded = conv->pad_h != 0 || conv->pad_w != 0;
	plan->band_w = conv->in_w;
	plan->band_bytes = 0;
	if (plan->padded) {
		plan->band_w = spanned(conv->out_w, conv->stride_w, conv->kernel_w, conv->dilation_w);
		plan->band_bytes = spanned(chunk_rows(conv), conv->stride_h, conv->kernel_h, conv->dilation_h);
		if (!lb_mul_size(&plan->band_bytes, plan->band_w) || plan->band_bytes > SIZE_MAX / 8u)
			return 0;
		plan->band_bytes = (plan->band_bytes + STEP) * sizeof(float);
	}
	plan->run_bytes = plan->pass_taps * sizeof(struct lb_run);
	plan->panel_bytes = (plan->pass_taps * plan->width + STEP) * sizeof(float);
	plan->partial_bytes = 0;
	if (plan->taps_max > plan->pass_taps) {
		plan->partial_bytes = plan->blocks;
		if (!lb_mul_size(&plan->partial_bytes, plan->width * LB_V * sizeof(float)))
			return 0;
	}
	return 1;
}

size_t lb_conv2d_scratch_bytes(const struct lb_conv2d *conv)
{
	struct plan plan;
	size_t bytes = 0;

	if (!make_plan(conv, &plan) || !lb_add_aligned(&bytes, plan.position_bytes) ||
	    !lb_add_aligned(&bytes, plan.run_bytes) || !lb_add_aligned(&bytes, plan.panel_bytes) ||
	    !lb_add_aligned(&bytes, plan.band_bytes) || !lb_add_aligned(&bytes, plan.partial_bytes))
		return LB_SCRATCH_OVERFLOW;
	return bytes;
}

/* Whether any of `out` outputs puts filter position `k` on a real input. */
static int meets_input(size_t k, size_t out, size_t in, size_t stride, size_t pad, size_t dilation)
{
	size_t at = k * dilation, first = at < pad ? (pad - at + stride - 1u) / stride : 0u;

	return first < out && first * stride + at < pad + in;
}

static size_t list_positions(const struct lb_conv2d *conv, const struct plan *plan, struct position *positions)
{
	size_t n = 0;

	for (uint32_t kh = 0; kh < conv->kernel_h; kh++) {
		if (!meets_input(kh, conv->out_h, conv->in_h, conv->stride_h, conv->pad_h, conv->dilation_h))
			continue;
		for (uint32_t kw = 0; kw < conv->kernel_w; kw++) {
			if (!meets_input(kw, conv->out_w, conv->in_w, conv->stride_w, conv->pad_w, conv->dilation_w))
				continue;
			positions[n].tap = kh * conv->kernel_w + kw;
			positions[n].input =
				(size_t)kh * conv->dilation_h * plan->band_w + (size_t)kw * conv->dilation_w;
			n++;
		}
	}
	return n;
}

/* All output channels of the chunk. */
static void run_chunk(const struct chunk *chunk)
{
	const struct plan *plan = chunk->plan;
	const size_t n_taps = plan->group_in * chunk->n_positions;
	struct lb_tile tile = {
		.block_stride = plan->taps_max * LB_V,
		.runs = chunk->runs,
		.width = plan->width,
		.plane = (size_t)chunk->conv->out_h * chunk->conv->out_w,
		.activation = chunk->conv->activation,
	};

	/* Once even without taps (every window sees padding only): the result is the bias then. */
	for (size_t tap = 0, taps; !tile.last; tap += taps) {
		taps = min_size(plan->pass_taps, n_taps - tap);
		if (taps) {
			pack_pass(chunk, tap, taps);
			tile.n_runs = list_runs(chunk, tap, taps);
		}
		tile.last = tap + taps == n_taps;
		for (size_t block = 0; block < plan->blocks; block += LB_TILE_BLOCKS) {
			size_t blocks = min_size(LB_TILE_BLOCKS, plan->blocks - block);
			float bias[LB_TILE_BLOCKS * LB_V] = {0.0f};

			tile.channels = min_size(blocks * LB_V, plan->group_out - block * LB_V);
			__builtin_memcpy(bias, chunk->bias + block * LB_V, tile.channels * sizeof(float));
			tile.bias = tap == 0 ? bias : NULL;
			tile.weight = chunk->weight + block * tile.block_stride;
			for (size_t p = 0; p < chunk->n; p += LB_TILE_PIXELS) {
				tile.panel = chunk->panel + p;
				if (chunk->partial)
					tile.partial = chunk->partial + (block * plan->width + p) * LB_V;
				tile.out = chunk->out + block * LB_V * tile.plane + chunk->first + p;
				LB_RUN_TILE(&tile, blocks, min_size(LB_TILE_PIXELS, chunk->n - p));
			}
		}
	}
}

void lb_conv2d(const struct lb_conv2d *conv, const float *in, const float *weight, const float *bias, float *out,
	       void *scratch)
{
	unsigned char *free = scratch;
	const size_t out_pixels = (size_t)conv->out_h * conv->out_w;
	struct plan plan;
	struct chunk chunk = {.conv = conv, .plan = &plan};
	struct position *positions = scratch;
	size_t at = 0;

	if (!make_plan(conv, &plan))
		return; /* lb_conv2d_scratch_bytes() has refused it */
	lb_add_aligned(&at, plan.position_bytes);
	chunk.runs = (struct lb_run *)(void *)(free + at);
	lb_add_aligned(&at, plan.run_bytes);
	chunk.panel = (float *)(void *)(free + at);
	lb_add_aligned(&at, plan.panel_bytes);
	chunk.band = (float *)(void *)(free + at);
	lb_add_aligned(&at, plan.band_bytes);
	if (plan.partial_bytes)
		chunk.partial = (float *)(void *)(free + at);

	chunk.positions = positions;
	chunk.n_positions = list_positions(conv, &plan, positions);
	for (size_t g = 0; g < conv->groups; g++) {
		chunk.in = in + g * plan.group_in * conv->in_h * conv->in_w;
		chunk.weight = weight + g * plan.blocks * plan.taps_max * LB_V;
		chunk.bias = bias + g * plan.group_out;
		chunk.out = out + g * plan.group_out * out_pixels;
		for (size_t first = 0; first < out_pixels; first += chunk.n) {
			start_chunk(&chunk, first, min_size(plan.pixels, out_pixels - first));
			run_chunk(&chunk);
		}
	}
}
