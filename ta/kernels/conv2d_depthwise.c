/*
 * Depth-wise convolution: lanes are eight neighbouring pixels of an output row.
 *
 * A channel is copied into scratch with its padding and with its columns sorted by their remainder modulo the stride
 * ("phases"), so that the eight inputs of one tap lie side by side whatever the stride.
 */
#include "lb_kernels.h"
#include "lb_vector.h"

#define MOST 4u /* vectors of pixels at once */

struct plan {
	size_t rows, columns; /* of the padded channel that windows touch */
	size_t phase_width;   /* columns of one phase, with slack for the last eight lanes */
	size_t bytes;
};

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static int make_plan(const struct lb_conv2d *conv, struct plan *plan)
{
	plan->rows =
		(size_t)(conv->out_h - 1u) * conv->stride_h + (size_t)(conv->kernel_h - 1u) * conv->dilation_h + 1u;
	plan->columns =
		(size_t)(conv->out_w - 1u) * conv->stride_w + (size_t)(conv->kernel_w - 1u) * conv->dilation_w + 1u;
	plan->phase_width = (plan->columns + conv->stride_w - 1u) / conv->stride_w + LB_V;
	plan->bytes = plan->phase_width;
	return lb_mul_size(&plan->bytes, conv->stride_w) && lb_mul_size(&plan->bytes, plan->rows) &&
	       lb_mul_size(&plan->bytes, sizeof(float));
}

size_t lb_conv2d_depthwise_scratch_bytes(const struct lb_conv2d *conv)
{
	struct plan plan;
	size_t bytes = 0;

	if (!make_plan(conv, &plan) || !lb_add_aligned(&bytes, plan.bytes))
		return LB_SCRATCH_OVERFLOW;
	return bytes;
}

static void copy_channel(const struct lb_conv2d *conv, const struct plan *plan, const float *in, float *copy)
{
	size_t row_floats = plan->phase_width * conv->stride_w;

	__builtin_memset(copy, 0, plan->bytes);
	for (size_t y = 0; y < plan->rows; y++, copy += row_floats) {
		const float *row;

		if (y < conv->pad_h || y - conv->pad_h >= conv->in_h)
			continue;
		row = in + (y - conv->pad_h) * conv->in_w;
		for (size_t phase = 0; phase < conv->stride_w; phase++) {
			/* Columns phase + i * stride that lie on the input: i from `first` to `end`. */
			size_t first =
				phase < conv->pad_w ? (conv->pad_w - phase + conv->stride_w - 1u) / conv->stride_w : 0u;
			size_t end = min_size(plan->columns, (size_t)conv->pad_w + conv->in_w);
			float *to = copy + phase * plan->phase_width;

			end = end > phase ? (end - phase + conv->stride_w - 1u) / conv->stride_w : 0u;
			for (size_t i = first; i < end; i++)
				to[i] = row[i * conv->stride_w + phase - conv->pad_w];
		}
	}
}

struct pixels {
	const float *copy; /* the first input row of these pixels, from the first one's on */
	const float *weight;
	float bias;
	float *out;
	size_t valid;
};

/* Up to 8 * n pixels of a row; `n` is a constant at every call, so that the sums are registers. */
LB_INLINE void run_pixels(const struct lb_conv2d *conv, const struct plan *plan, const struct pixels *pixels,
			  const size_t n)
{
	/* From one tap of a filter row to the next; from one row of the filter to the next. */
	const size_t columns = conv->dilation_w / conv->stride_w, phases = conv->dilation_w % conv->stride_w;
	const size_t down = plan->phase_width * conv->stride_w * conv->dilation_h;
	const float *weight = pixels->weight;
	lb_v8 sum[MOST];

	LB_UNROLL for (size_t i = 0; i < n; i++)
		sum[i] = LB_SPLAT8(pixels->bias);
	for (size_t kh = 0; kh < conv->kernel_h; kh++) {
		const float *row = pixels->copy + kh * down; /* the tap's first column within its phase */
		size_t phase = 0;

		for (size_t kw = 0; kw < conv->kernel_w; kw++) {
			const float *at = row + phase * plan->phase_width, tap = *weight++;

			LB_UNROLL for (size_t i = 0; i < n; i++)
				LB_FMA8(sum[i], LB_LOAD8(at + i * LB_V), tap);
			row += columns;
			phase += phases;
			if (phase >= conv->stride_w) {
				phase -= conv->stride_w;
				row++;
			}
		}
	}
	LB_UNROLL for (size_t i = 0; i < n; i++) {
		float lanes[LB_V], *out = pixels->out + i * LB_V;
		const size_t valid = min_size(pixels->valid - i * LB_V, LB_V);

		LB_ACTIVATE8(sum[i], conv->activation);
		if (valid == LB_V) {
			LB_STORE8(out, sum[i]);
			continue;
		}
		LB_STORE8(lanes, sum[i]);
		for (size_t x = 0; x < valid; x++)
			out[x] = lanes[x];
	}
}

void lb_conv2d_depthwise(const struct lb_conv2d *conv, const float *in, const float *weight, const float *bias,
			 float *out, void *scratch)
{
	struct plan plan;
	float *copy = scratch;
	size_t multiplier = conv->out_c / conv->groups, row_floats;

	if (!make_plan(conv, &plan))
		return; /* lb_conv2d_depthwise_scratch_bytes() has refused it */
	row_floats = plan.phase_width * conv->stride_w;
	for (size_t c = 0; c < conv->out_c; c++, weight += (size_t)conv->kernel_h * conv->kernel_w) {
		if (c % multiplier == 0)
			copy_channel(conv, &plan, in + c / multiplier * conv->in_h * conv->in_w, copy);
		for (size_t oh = 0; oh < conv->out_h; oh++, out += conv->out_w)
			for (size_t ow = 0, left; ow < conv->out_w; ow += MOST * LB_V) {
				const struct pixels pixels = {
					.copy = copy + oh * conv->stride_h * row_floats + ow,
					.weight = weight,
					.bias = bias[c],
					.out = out + ow,
					.valid = min_size(conv->out_w - ow, MOST * LB_V),
				};

				left = (pixels.valid + LB_V - 1u) / LB_V;
				if (left == 1u)
					run_pixels(conv, &plan, &pixels, 1);
				else if (left == 2u)
					run_pixels(conv, &plan, &pixels, 2);
				else if (left == 3u)
					run_pixels(conv, &plan, &pixels, 3);
				else
					run_pixels(conv, &plan, &pixels, MOST);
			}
	}
}
