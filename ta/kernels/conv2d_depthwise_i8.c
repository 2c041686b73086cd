/* int8 convolution of each channel by itself: 16 channels at a time, whose weights lie side by side. */
#include "lb_requant.h"

#define LANES 16u

static void pixel(const struct lb_conv2d *c, size_t y, size_t x, size_t channel, size_t n, const int8_t *in,
		  const int8_t *weight, int32_t *sums)
{
	for (size_t i = 0; i < LANES; i++)
		sums[i] = 0;
	for (size_t kh = 0; kh < c->kernel_h; kh++) {
		size_t at_y = y * c->stride_h + kh * c->dilation_h;

		if (at_y < c->pad_h || at_y - c->pad_h >= c->in_h)
			continue;
		for (size_t kw = 0; kw < c->kernel_w; kw++) {
			size_t at_x = x * c->stride_w + kw * c->dilation_w;
			const int8_t *a, *w = weight + (kh * c->kernel_w + kw) * c->in_c + channel;

			if (at_x < c->pad_w || at_x - c->pad_w >= c->in_w)
				continue;
			a = in + ((at_y - c->pad_h) * c->in_w + at_x - c->pad_w) * c->in_c + channel;
			if (n == LANES)
				for (size_t i = 0; i < LANES; i++)
					sums[i] += (int32_t)w[i] * a[i];
			else
				for (size_t i = 0; i < n; i++)
					sums[i] += (int32_t)w[i] * a[i];
		}
	}
}

void lb_conv2d_depthwise_i8(const struct lb_conv2d_i8 *whole, const int8_t *in, const int8_t *weight,
			    const int32_t *bias, const float *multiplier, int8_t *out)
{
	const struct lb_conv2d *c = &whole->conv;

	for (size_t y = 0; y < c->out_h; y++)
		for (size_t x = 0; x < c->out_w; x++, out += c->out_c)
			for (size_t channel = 0; channel < c->out_c; channel += LANES) {
				size_t n = c->out_c - channel < LANES ? c->out_c - channel : LANES;
				int32_t sums[LANES];

				pixel(c, y, x, channel, n, in, weight, sums);
				for (size_t i = 0; i < n; i++)
					out[channel + i] =
						lb_requant(sums[i] + bias[channel + i], multiplier[channel + i],
							   (float)whole->low, (float)whole->high);
			}
}
