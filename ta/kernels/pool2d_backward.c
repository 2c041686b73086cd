/* Pools: what a window gives back to its inputs. Windows may overlap, so that all start from zeros. */
#include "lb_backward.h"
#include "lb_move.h"

/* The part of a window on real inputs, in steps of the dilation; `span` is its length with padding, as for the average. */
struct window {
	size_t first, end, span;
};

static struct window window_of(size_t out, uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t dilation, size_t in)
{
	const size_t start = out * stride, padded = in + 2u * (size_t)pad;
	size_t stop = start + (size_t)(kernel - 1u) * dilation + 1u, steps = 0;
	struct window window;

	window.span = (stop < padded ? stop : padded) - start;
	if (start < pad)
		steps = (pad - start + dilation - 1u) / dilation;
	window.first = start + steps * dilation - pad;
	stop = stop > pad ? stop - pad : 0;
	window.end = stop < in ? stop : in;
	return window;
}

/* Index of the window's first largest, or of its last NaN; `none` where it has no real input. */
static size_t largest(const struct lb_pool2d *pool, const struct window *y, const struct window *x, const float *in,
		      size_t none)
{
	size_t best = none;

	for (size_t row = y->first; row < y->end; row += pool->dilation_h)
		for (size_t column = x->first; column < x->end; column += pool->dilation_w) {
			const size_t at = row * pool->in_w + column;

			if (best == none || in[at] > in[best] || in[at] != in[at])
				best = at;
		}
	return best;
}

void lb_max_pool2d_backward(const struct lb_pool2d *pool, const float *in, const float *d_out, float *d_in)
{
	const size_t plane = (size_t)pool->in_h * pool->in_w;

	lb_clear_floats(d_in, pool->channels * plane);
	for (size_t c = 0; c < pool->channels; c++, in += plane, d_in += plane)
		for (size_t oh = 0; oh < pool->out_h; oh++) {
			const struct window y = window_of(oh, pool->stride_h, pool->pad_h, pool->kernel_h,
							  pool->dilation_h, pool->in_h);

			for (size_t ow = 0; ow < pool->out_w; ow++, d_out++) {
				const struct window x = window_of(ow, pool->stride_w, pool->pad_w, pool->kernel_w,
								  pool->dilation_w, pool->in_w);
				const size_t at = largest(pool, &y, &x, in, plane);

				if (at < plane)
					d_in[at] += *d_out;
			}
		}
}

static void spread(float *d_in, size_t in_w, const struct window *y, const struct window *x, float share)
{
	for (size_t row = y->first; row < y->end; row++)
		for (size_t column = x->first; column < x->end; column++)
			d_in[row * in_w + column] += share;
}

void lb_avg_pool2d_backward(const struct lb_pool2d *pool, const float *d_out, float *d_in)
{
	const size_t plane = (size_t)pool->in_h * pool->in_w;

	lb_clear_floats(d_in, pool->channels * plane);
	for (size_t c = 0; c < pool->channels; c++, d_in += plane)
		for (size_t oh = 0; oh < pool->out_h; oh++) {
			const struct window y =
				window_of(oh, pool->stride_h, pool->pad_h, pool->kernel_h, 1, pool->in_h);

			for (size_t ow = 0; ow < pool->out_w; ow++, d_out++) {
				const struct window x =
					window_of(ow, pool->stride_w, pool->pad_w, pool->kernel_w, 1, pool->in_w);
				size_t count = y.span * x.span;

				if (y.first >= y.end || x.first >= x.end)
					continue; /* nothing but padding */
				if (!pool->count_include_pad)
					count = (y.end - y.first) * (x.end - x.first);
				spread(d_in, pool->in_w, &y, &x, *d_out / (float)count);
			}
		}
}

void lb_adaptive_avg_pool2d_backward(size_t channels, uint32_t in_h, uint32_t in_w, uint32_t out_h, uint32_t out_w,
				     const float *d_out, float *d_in)
{
	const size_t plane = (size_t)in_h * in_w;

	lb_clear_floats(d_in, channels * plane);
	for (size_t c = 0; c < channels; c++, d_in += plane)
		for (uint64_t oh = 0; oh < out_h; oh++) {
			const struct window y = {.first = (size_t)(oh * in_h / out_h),
						 .end = (size_t)(((oh + 1u) * in_h + out_h - 1u) / out_h)};

			for (uint64_t ow = 0; ow < out_w; ow++) {
				const struct window x = {.first = (size_t)(ow * in_w / out_w),
							 .end = (size_t)(((ow + 1u) * in_w + out_w - 1u) / out_w)};

				spread(d_in, in_w, &y, &x, *d_out++ / (float)((y.end - y.first) * (x.end - x.first)));
			}
		}
}
