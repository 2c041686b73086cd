#include "lb_kernels.h"

/* The part of a window on real inputs; `span` is its length with padding, which ends where the padding does. */
static void window(size_t out, uint32_t stride, uint32_t pad, uint32_t kernel, size_t in, size_t *first, size_t *end,
		   size_t *span)
{
	size_t start = out * stride, stop = start + kernel;

	if (stop > in + 2u * (size_t)pad)
		stop = in + 2u * (size_t)pad;
	*span = stop - start;
	*first = start > pad ? start - pad : 0;
	*end = stop > pad ? stop - pad : 0;
	if (*end > in)
		*end = in;
}

void lb_avg_pool2d(const struct lb_pool2d *pool, const float *in, float *out)
{
	for (size_t c = 0; c < pool->channels; c++, in += (size_t)pool->in_h * pool->in_w)
		for (size_t oh = 0; oh < pool->out_h; oh++) {
			size_t top, bottom, height;

			window(oh, pool->stride_h, pool->pad_h, pool->kernel_h, pool->in_h, &top, &bottom, &height);
			for (size_t ow = 0; ow < pool->out_w; ow++) {
				size_t left, right, width, count;
				float sum = 0.0f;

				window(ow, pool->stride_w, pool->pad_w, pool->kernel_w, pool->in_w, &left, &right,
				       &width);
				if (top >= bottom || left >= right) {
					*out++ = 0.0f; /* nothing but padding */
					continue;
				}
				for (size_t y = top; y < bottom; y++)
					for (size_t x = left; x < right; x++)
						sum += in[y * pool->in_w + x];
				count = pool->count_include_pad ? height * width : (bottom - top) * (right - left);
				*out++ = sum / (float)count;
			}
		}
}
