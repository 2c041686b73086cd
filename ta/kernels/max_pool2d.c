#include "lb_kernels.h"

/* First window position on a real input, and one past the last, in steps of the dilation. */
static void window(size_t out, uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t dilation, size_t in,
		   size_t *first, size_t *end)
{
	size_t start = out * stride, steps = 0;

	*end = start + (size_t)(kernel - 1u) * dilation + 1u; /* both still shifted by pad */
	if (start < pad)
		steps = (pad - start + dilation - 1u) / dilation;
	*first = start + steps * dilation - pad;
	*end = *end > pad ? *end - pad : 0;
	if (*end > in)
		*end = in;
}

/* What nearly every network has, a window of 2x2 that is always inside: one row of it. */
static void pool_row_2x2(const float *top, const float *bottom, size_t out_w, float *out)
{
	for (size_t ow = 0; ow < out_w; ow++, top += 2, bottom += 2) {
		float best = top[0];

		/* As below: a NaN replaces all and is replaced only by a later one. */
		best = top[1] > best || top[1] != top[1] ? top[1] : best;
		best = bottom[0] > best || bottom[0] != bottom[0] ? bottom[0] : best;
		out[ow] = bottom[1] > best || bottom[1] != bottom[1] ? bottom[1] : best;
	}
}

static int is_inside_2x2(const struct lb_pool2d *pool)
{
	return pool->kernel_h == 2 && pool->kernel_w == 2 && pool->stride_h == 2 && pool->stride_w == 2 &&
	       pool->dilation_h == 1 && pool->dilation_w == 1 && pool->pad_h == 0 && pool->pad_w == 0 &&
	       pool->out_h <= pool->in_h / 2u && pool->out_w <= pool->in_w / 2u;
}

void lb_max_pool2d(const struct lb_pool2d *pool, const float *in, float *out)
{
	for (size_t c = 0; c < pool->channels; c++, in += (size_t)pool->in_h * pool->in_w)
		for (size_t oh = 0; oh < pool->out_h; oh++) {
			size_t top, bottom;

			if (is_inside_2x2(pool)) {
				const float *row = in + oh * 2u * pool->in_w;

				pool_row_2x2(row, row + pool->in_w, pool->out_w, out);
				out += pool->out_w;
				continue;
			}
			window(oh, pool->stride_h, pool->pad_h, pool->kernel_h, pool->dilation_h, pool->in_h, &top,
			       &bottom);
			for (size_t ow = 0; ow < pool->out_w; ow++) {
				size_t left, right;
				float best = -__builtin_inff();

				window(ow, pool->stride_w, pool->pad_w, pool->kernel_w, pool->dilation_w, pool->in_w,
				       &left, &right);
				for (size_t y = top; y < bottom; y += pool->dilation_h)
					for (size_t x = left; x < right; x += pool->dilation_w) {
						float value = in[y * pool->in_w + x];

						/* A NaN replaces all and is replaced only by a later one. */
						if (value > best || value != value)
							best = value;
					}
				*out++ = best;
			}
		}
}
