/*
 * The panel of a convolution: the inputs of one pass of taps at one chunk of output pixels, side by side as the tiles
 * read them. Part of conv2d.c.
 */
#ifndef CONV2D_PANEL_H
#define CONV2D_PANEL_H

#include "conv2d_tile.h"

#define CHUNK_PIXELS 48u
#define STEP 16u    /* floats that are copied at once */
#define LONG_ROW 4u /* output pixels from which on it pays to copy them row by row */

/* A position in the filter window that meets real inputs at some pixel. */
struct position {
	uint32_t tap;   /* its number in the window */
	uint64_t input; /* floats from a pixel's first input to the position's */
};

struct plan {
	size_t group_in, group_out; /* channels */
	size_t blocks;              /* of 8 output channels in a group */
	size_t window, taps_max;    /* taps of a channel, and of all */
	size_t pixels, width;       /* most pixels of a chunk, and the same as a panel's row holds them */
	size_t pass_taps;
	size_t band_w; /* floats from one input row to the next, in the band or in the input itself */
	size_t position_bytes, run_bytes, panel_bytes, band_bytes, partial_bytes;
	int padded;
};

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Input rows (or columns), padding included, that `out` output rows reach over. */
static size_t spanned(size_t out, size_t stride, size_t kernel, size_t dilation)
{
	return (out - 1u) * stride + (kernel - 1u) * dilation + 1u;
}

struct chunk {
	const struct lb_conv2d *conv;
	const struct plan *plan;
	const struct position *positions;
	size_t n_positions;
	const float *in;                  /* the group's first channel */
	size_t first, n;                  /* output pixels */
	size_t row, rows;                 /* output rows with a part in it */
	size_t n_parts;                   /* of its pixels: rows, or single pixels */
	size_t part_pixels[CHUNK_PIXELS]; /* of each part */
	size_t part_input[CHUNK_PIXELS];  /* floats from the chunk's first row of inputs to the part's first input */
	const float *weight, *bias;
	float *out; /* the group's first channel */
	struct lb_run *runs;
	float *panel, *band, *partial;
};

/* Takes up the chunk at output pixel `first`: splits it into parts whose inputs lie side by side. */
static void start_chunk(struct chunk *chunk, size_t first, size_t n)
{
	const struct lb_conv2d *conv = chunk->conv;
	const size_t most = conv->stride_w == 1u && conv->out_w >= LONG_ROW ? conv->out_w : 1u;
	size_t row = first / conv->out_w, column = first % conv->out_w, part = 0;

	chunk->first = first;
	chunk->n = n;
	chunk->row = row;
	for (size_t pixels; n; n -= pixels, part++) {
		pixels = min_size(min_size(most, conv->out_w - column), n);
		chunk->part_pixels[part] = pixels;
		chunk->part_input[part] =
			(row - chunk->row) * conv->stride_h * chunk->plan->band_w + column * conv->stride_w;
		chunk->rows = row - chunk->row + 1u;
		column += pixels;
		if (column == conv->out_w) {
			column = 0;
			row++;
		}
	}
	chunk->n_parts = part;
}

/* Copies of constant size: a loop would become a call of memcpy(), and most rows are short. */
static void copy_floats(float *to, const float *from, size_t n)
{
	for (; n >= 8u; n -= 8u, to += 8, from += 8)
		__builtin_memcpy(to, from, 8u * sizeof(float));
	if (n & 4u) {
		__builtin_memcpy(to, from, 4u * sizeof(float));
		to += 4;
		from += 4;
	}
	if (n & 2u) {
		__builtin_memcpy(to, from, 2u * sizeof(float));
		to += 2;
		from += 2;
	}
	if (n & 1u)
		*to = *from;
}

/* Up to seven floats further than `n`: into what is written next, or slack. */
static void fill_zero(float *to, size_t n)
{
	for (float *end = to + n; to < end; to += LB_V)
		LB_STORE8(to, LB_SPLAT8(0.0f));
}

/* The rows of one channel that the chunk needs, with zeros around. */
static void pad_channel(const struct chunk *chunk, const float *plane)
{
	const struct lb_conv2d *conv = chunk->conv;
	const size_t band_w = chunk->plan->band_w, top = chunk->row * conv->stride_h;
	const size_t bottom = top + spanned(chunk->rows, conv->stride_h, conv->kernel_h, conv->dilation_h);
	/* Columns past the last window are not needed, so the input may be cut on the right. */
	const size_t left = min_size(conv->pad_w, band_w), width = min_size(conv->in_w, band_w - left);
	float *to = chunk->band;

	for (size_t y = top; y < bottom; y++, to += band_w) {
		if (y < conv->pad_h || y - conv->pad_h >= conv->in_h) {
			fill_zero(to, band_w);
			continue;
		}
		fill_zero(to, left);
		copy_floats(to + left, plane + (y - conv->pad_h) * conv->in_w, width);
		fill_zero(to + left + width, band_w - left - width);
	}
}

/* One tap's inputs at the chunk's pixels, from `from`, the tap's input in the chunk's first row. */
static void pack_tap(const struct chunk *chunk, const float *from, float *to)
{
	if (chunk->n_parts == chunk->n) {
		LB_UNROLL_BY4 for (size_t p = 0; p < chunk->n; p++) to[p] = from[chunk->part_input[p]];
		return;
	}
	for (size_t part = 0; part < chunk->n_parts; part++) {
		const float *at = from + chunk->part_input[part];
		float *end = to + chunk->part_pixels[part];

		if (!chunk->plan->padded) { /* nothing may be read behind the input */
			copy_floats(to, at, chunk->part_pixels[part]);
			to = end;
			continue;
		}
		for (; to < end; to += STEP, at += STEP)
			__builtin_memcpy(to, at, STEP * sizeof(float));
		to = end;
	}
}

/* Packs the chunk's inputs at taps [tap, tap + n), counted over channels and positions. */
static void pack_pass(const struct chunk *chunk, size_t tap, size_t n)
{
	const struct lb_conv2d *conv = chunk->conv;
	const struct plan *plan = chunk->plan;
	size_t channel = tap / chunk->n_positions, at = tap % chunk->n_positions;
	float *panel = chunk->panel;

	for (size_t end; n; n -= end - at, at = 0, channel++) {
		const float *from = chunk->in + channel * conv->in_h * conv->in_w;

		end = min_size(chunk->n_positions, at + n);
		if (plan->padded) {
			pad_channel(chunk, from);
			from = chunk->band;
		} else {
			from += chunk->row * conv->stride_h * conv->in_w;
		}
		for (size_t i = at; i < end; i++, panel += plan->width)
			pack_tap(chunk, from + chunk->positions[i].input, panel);
	}
}

/* Where the weights of the same taps lie; returns how many runs they are. */
static size_t list_runs(const struct chunk *chunk, size_t tap, size_t n)
{
	size_t channel = tap / chunk->n_positions, at = tap % chunk->n_positions, n_runs = 0, next = 0;

	if (chunk->n_positions == chunk->plan->window) {
		chunk->runs[0] = (struct lb_run){(uint32_t)(tap * LB_V), (uint32_t)n};
		return 1;
	}
	for (; n; n--) {
		size_t weight = (channel * chunk->plan->window + chunk->positions[at].tap) * LB_V;

		if (n_runs == 0 || weight != next)
			chunk->runs[n_runs++] = (struct lb_run){(uint32_t)weight, 0};
		chunk->runs[n_runs - 1u].taps++;
		next = weight + LB_V;
		if (++at == chunk->n_positions) {
			at = 0;
			channel++;
		}
	}
	return n_runs;
}

#endif
