/*
 * Depth-wise convolution: lanes are eight neighbouring pixels of an output row.
 *
 * A channel is copied into scratch with its padding and with its columns sorted by their remainder modulo the stride
 * ("phases"), so that the eight inputs of one tap lie side by side whatever the stride.
 */
#include "lb_kernels.h"
#include "lb_vector.h"

struct plan {
	size_t rows, columns; /* of the padded channel that windows touch */
	size_t phase_width;   /* columns of one phase, with slack for the last eight lanes */
	size_t bytes;
};

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
		for (size_t phase = 0; phase < conv->stride_w; phase++)
			for (size_t x = phase, i = phase * plan->phase_width; x < plan->columns;
			     x += conv->stride_w, i++)
				if (x >= conv->pad_w && x - conv->pad_w < conv->in_w)
					copy[i] = row[x - conv->pad_w];
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
		for (size_t oh = 0; oh < conv->out_h; oh++)
			for (size_t ow = 0; ow < conv->out_w; ow += LB_V) {
				lb_v8 sum = LB_SPLAT8(bias[c]);
				size_t valid = conv->out_w - ow;

				for (size_t kh = 0; kh < conv->kernel_h; kh++) {
					const float *row =
						copy + (oh * conv->stride_h + kh * conv->dilation_h) * row_floats;

					for (size_t kw = 0; kw < conv->kernel_w; kw++) {
						size_t x = kw * conv->dilation_w;
						const float *at = row + x % conv->stride_w * plan.phase_width +
								  x / conv->stride_w + ow;

						sum += LB_LOAD8(at) * weight[kh * conv->kernel_w + kw];
					}
				}
				LB_ACTIVATE8(sum, conv->activation);
				if (valid >= LB_V)
					LB_STORE8(out, sum);
				else
					__builtin_memcpy(out, &sum, valid * sizeof(float));
				out += valid < LB_V ? valid : LB_V;
			}
	}
}
