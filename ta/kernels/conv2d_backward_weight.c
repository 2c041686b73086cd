/*
 * The gradient of a convolution's filters: for each output channel and tap a sum over the output's pixels. With pixels
 * in the place of taps and taps in the place of pixels this is the product of matrices that conv2d_tile.h computes, and
 * a tile's unfinished sums, [tap][8 channels], lie as packed weights do: they are added to where they belong.
 *
 * Chunks of 64 pixels: their d_out, eight channels side by side, and a panel of their inputs at as many taps as fit.
 */
#include "conv2d_tile.h"
#include "lb_backward.h"
#include "lb_move.h"

#define CHUNK_PIXELS 64u
#define PANEL_TAPS 96u
#define COPY 4u /* floats that are copied at once; as many lie behind panel rows and inputs */

struct plan {
	size_t group_in, group_out, blocks, window, taps;
	size_t rows, columns; /* of a channel with its padding, as far as windows reach */
	size_t pass_rows;     /* filter rows in a panel */
	size_t width;         /* floats from one pixel's inputs to the next one's */
	size_t input_bytes, panel_bytes, lanes_bytes;
};

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static int make_plan(const struct lb_conv2d *conv, struct plan *plan)
{
	plan->group_in = conv->in_c / conv->groups;
	plan->group_out = conv->out_c / conv->groups;
	plan->blocks = (plan->group_out + LB_V - 1u) / LB_V;
	plan->window = (size_t)conv->kernel_h * conv->kernel_w;
	plan->taps = plan->group_in;
	plan->rows =
		(conv->out_h - 1u) * (size_t)conv->stride_h + (conv->kernel_h - 1u) * (size_t)conv->dilation_h + 1u;
	plan->columns =
		(conv->out_w - 1u) * (size_t)conv->stride_w + (conv->kernel_w - 1u) * (size_t)conv->dilation_w + 1u;
	plan->pass_rows = conv->kernel_w < PANEL_TAPS ? PANEL_TAPS / conv->kernel_w : 1u;
	plan->width = plan->pass_rows * conv->kernel_w + COPY;
	plan->input_bytes = plan->group_in;
	plan->panel_bytes = (CHUNK_PIXELS * plan->width + LB_TILE_SLACK) * sizeof(float);
	plan->lanes_bytes = plan->blocks;
	if (!lb_mul_size(&plan->taps, plan->window) || plan->taps > UINT32_MAX / LB_V ||
	    !lb_mul_size(&plan->input_bytes, plan->rows) || !lb_mul_size(&plan->input_bytes, plan->columns) ||
	    plan->input_bytes > SIZE_MAX / 8u || !lb_mul_size(&plan->lanes_bytes, CHUNK_PIXELS * LB_V * sizeof(float)))
		return 0;
	plan->input_bytes = (plan->input_bytes + COPY) * sizeof(float);
	return 1;
}

size_t lb_conv2d_backward_weight_scratch_bytes(const struct lb_conv2d *conv)
{
	struct plan plan;
	size_t bytes = 0;

	if (!make_plan(conv, &plan) || !lb_add_aligned(&bytes, plan.input_bytes) ||
	    !lb_add_aligned(&bytes, plan.panel_bytes) || !lb_add_aligned(&bytes, plan.lanes_bytes))
		return LB_SCRATCH_OVERFLOW;
	return bytes;
}

/* A group's input with zeros around. */
static void pad_input(const struct lb_conv2d *conv, const struct plan *plan, const float *in, float *to)
{
	const size_t width = conv->pad_w < plan->columns ? min_size(conv->in_w, plan->columns - conv->pad_w) : 0u;

	lb_clear_floats(to, plan->input_bytes / sizeof(float));
	for (size_t c = 0; c < plan->group_in;
	     c++, in += (size_t)conv->in_h * conv->in_w, to += plan->rows * plan->columns)
		for (size_t y = 0; y < conv->in_h && y + conv->pad_h < plan->rows && width; y++)
			lb_copy_floats(to + (y + conv->pad_h) * plan->columns + conv->pad_w, in + y * conv->in_w,
				       width);
}

/* d_out at pixels [first, first + n): float[blocks][n][8]. */
static void pack_lanes(const struct plan *plan, const float *d_out, size_t plane, size_t first, size_t n, float *lanes)
{
	for (size_t block = 0; block < plan->blocks; block++, d_out += LB_V * plane, lanes += n * LB_V) {
		const size_t valid = min_size(LB_V, plan->group_out - block * LB_V);

		for (size_t p = 0; p < n; p++)
			for (size_t lane = 0; lane < LB_V; lane++)
				lanes[p * LB_V + lane] = lane < valid ? d_out[lane * plane + first + p] : 0.0f;
	}
}

/* Filter rows [row, row + n), counted over channels, at pixels [first, first + n_pixels). */
static void pack_panel(const struct lb_conv2d *conv, const struct plan *plan, const float *in, size_t row, size_t n,
		       size_t first, size_t n_pixels, float *panel)
{
	const size_t channel_floats = plan->rows * plan->columns, down = conv->dilation_h * plan->columns;

	for (size_t p = first; p < first + n_pixels; p++, panel += plan->width) {
		const float *window =
			in + p / conv->out_w * conv->stride_h * plan->columns + p % conv->out_w * conv->stride_w;
		size_t channel = row / conv->kernel_h, kh = row % conv->kernel_h;
		const float *from = window + channel * channel_floats + kh * down;
		float *to = panel;

		for (size_t r = 0; r < n; r++, to += conv->kernel_w) {
			if (conv->dilation_w == 1 && conv->kernel_w <= COPY)
				__builtin_memcpy(to, from, COPY * sizeof(float));
			else
				for (size_t kw = 0; kw < conv->kernel_w; kw++)
					to[kw] = from[kw * conv->dilation_w];
			from += down;
			if (++kh == conv->kernel_h) {
				kh = 0;
				from = window + ++channel * channel_floats;
			}
		}
	}
}

/* Adds what n_pixels pixels contribute to taps [tap, tap + n) of all channels. */
static void add_products(const struct plan *plan, size_t tap, size_t n, size_t n_pixels, const float *panel,
			 const float *lanes, float *d_weight)
{
	const struct lb_run run = {0, (uint32_t)n_pixels};
	struct lb_tile tile = {.runs = &run, .n_runs = 1, .width = plan->width};

	for (size_t block = 0; block < plan->blocks; block++, lanes += n_pixels * LB_V) {
		tile.weight = lanes;
		for (size_t t = 0; t < n; t += LB_TILE_PIXELS) {
			tile.panel = panel + t;
			tile.partial = d_weight + (block * plan->taps + tap + t) * LB_V;
			LB_RUN_TILE(&tile, 1, min_size(LB_TILE_PIXELS, n - t));
		}
	}
}

void lb_conv2d_backward_weight(const struct lb_conv2d *conv, const float *in, const float *d_out, float *d_weight,
			       float *d_bias, void *scratch)
{
	const size_t plane = (size_t)conv->out_h * conv->out_w;
	unsigned char *free = scratch;
	struct plan plan;
	float *input = scratch, *panel, *lanes;
	size_t at = 0, n_rows;

	if (!make_plan(conv, &plan))
		return; /* lb_conv2d_backward_weight_scratch_bytes() has refused it */
	lb_add_aligned(&at, plan.input_bytes);
	panel = (float *)(void *)(free + at);
	lb_add_aligned(&at, plan.panel_bytes);
	lanes = (float *)(void *)(free + at);
	/* What tiles read behind a row's last tap, without using it, shall not be just anything. */
	lb_clear_floats(panel, plan.panel_bytes / sizeof(float));
	n_rows = plan.group_in * conv->kernel_h;

	for (size_t c = 0; c < conv->out_c; c++) {
		float sum = 0.0f;

		for (size_t p = 0; p < plane; p++)
			sum += d_out[c * plane + p];
		d_bias[c] += sum;
	}
	for (size_t g = 0; g < conv->groups; g++) {
		pad_input(conv, &plan, in + g * plan.group_in * conv->in_h * conv->in_w, input);
		for (size_t first = 0, n; first < plane; first += n) {
			n = min_size(CHUNK_PIXELS, plane - first);
			pack_lanes(&plan, d_out, plane, first, n, lanes);
			for (size_t row = 0, rows; row < n_rows; row += rows) {
				rows = min_size(plan.pass_rows, n_rows - row);
				pack_panel(conv, &plan, input, row, rows, first, n, panel);
				add_products(&plan, row * conv->kernel_w, rows * conv->kernel_w, n, panel, lanes,
					     d_weight);
			}
		}
		d_out += plan.group_out * plane;
		d_weight += plan.blocks * plan.taps * LB_V;
	}
}
