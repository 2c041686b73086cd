/* One filter tap after the other: each is a factor, or a sum, over the part of the output whose input is no padding. */
#include "lb_backward.h"
#include "lb_move.h"

/* Outputs [*first, *end) for which `out * stride + at - pad` lies within [0, in). */
static void reach(size_t at, size_t out, size_t in, size_t stride, size_t pad, size_t *first, size_t *end)
{
	*first = at < pad ? (pad - at + stride - 1u) / stride : 0u;
	*end = at < in + pad ? (in + pad - at + stride - 1u) / stride : 0u;
	if (*end > out)
		*end = out;
}

struct tap {
	size_t top, bottom, left, right; /* outputs that meet it */
	size_t at_h, at_w;               /* how far it lies from a window's corner */
};

static struct tap tap_of(const struct lb_conv2d *conv, size_t kh, size_t kw)
{
	struct tap tap = {.at_h = kh * conv->dilation_h, .at_w = kw * conv->dilation_w};

	reach(tap.at_h, conv->out_h, conv->in_h, conv->stride_h, conv->pad_h, &tap.top, &tap.bottom);
	reach(tap.at_w, conv->out_w, conv->in_w, conv->stride_w, conv->pad_w, &tap.left, &tap.right);
	return tap;
}

/* Where in its channel output (oh, ow) meets the tap, which lies on a real input. */
static size_t input_at(const struct lb_conv2d *conv, const struct tap *tap, size_t oh, size_t ow)
{
	return (oh * conv->stride_h + tap->at_h - conv->pad_h) * conv->in_w + ow * conv->stride_w + tap->at_w -
	       conv->pad_w;
}

void lb_conv2d_depthwise_backward_input(const struct lb_conv2d *conv, const float *d_out, const float *weight,
					float *d_in)
{
	const size_t multiplier = conv->out_c / conv->groups, in_plane = (size_t)conv->in_h * conv->in_w;

	lb_clear_floats(d_in, conv->in_c * in_plane);
	for (size_t c = 0; c < conv->out_c; c++, d_out += (size_t)conv->out_h * conv->out_w)
		for (size_t kh = 0; kh < conv->kernel_h; kh++)
			for (size_t kw = 0; kw < conv->kernel_w; kw++) {
				const struct tap tap = tap_of(conv, kh, kw);
				const float factor = *weight++;

				for (size_t oh = tap.top; oh < tap.bottom && tap.left < tap.right; oh++) {
					const float *from = d_out + oh * conv->out_w;
					float *to =
						d_in + c / multiplier * in_plane + input_at(conv, &tap, oh, tap.left);

					for (size_t ow = tap.left; ow < tap.right; ow++, to += conv->stride_w)
						*to += factor * from[ow];
				}
			}
}

void lb_conv2d_depthwise_backward_weight(const struct lb_conv2d *conv, const float *in, const float *d_out,
					 float *d_weight, float *d_bias)
{
	const size_t multiplier = conv->out_c / conv->groups, in_plane = (size_t)conv->in_h * conv->in_w;
	const size_t out_plane = (size_t)conv->out_h * conv->out_w;

	for (size_t c = 0; c < conv->out_c; c++, d_out += out_plane) {
		float total = 0.0f;

		for (size_t p = 0; p < out_plane; p++)
			total += d_out[p];
		d_bias[c] += total;
		for (size_t kh = 0; kh < conv->kernel_h; kh++)
			for (size_t kw = 0; kw < conv->kernel_w; kw++) {
				const struct tap tap = tap_of(conv, kh, kw);
				float sum = 0.0f;

				for (size_t oh = tap.top; oh < tap.bottom && tap.left < tap.right; oh++) {
					const float *with = d_out + oh * conv->out_w;
					const float *from =
						in + c / multiplier * in_plane + input_at(conv, &tap, oh, tap.left);

					for (size_t ow = tap.left; ow < tap.right; ow++, from += conv->stride_w)
						sum += *from * with[ow];
				}
				*d_weight++ += sum;
			}
	}
}
