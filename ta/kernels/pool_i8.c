/* Pools of channels-last int8: for every window its rows of channels side by side. */
#include "lb_requant.h"

#define LANES 16u

struct window {
	size_t top, bottom, left, right; /* filter positions that meet the input */
	size_t at_y, at_x;               /* of position (0,0); pad_h, pad_w ahead of the input */
};

static size_t first_inside(size_t at, size_t pad, size_t dilation)
{
	return at >= pad ? 0 : (pad - at + dilation - 1u) / dilation;
}

static size_t end_inside(size_t at, size_t in, size_t pad, size_t kernel, size_t dilation)
{
	size_t end = at >= in + pad ? 0 : (in + pad - at - 1u) / dilation + 1u;

	return end < kernel ? end : kernel;
}

static struct window window_at(const struct lb_pool2d *p, size_t y, size_t x)
{
	const size_t at_y = y * p->stride_h, at_x = x * p->stride_w;

	return (struct window){
		.top = first_inside(at_y, p->pad_h, p->dilation_h),
		.bottom = end_inside(at_y, p->in_h, p->pad_h, p->kernel_h, p->dilation_h),
		.left = first_inside(at_x, p->pad_w, p->dilation_w),
		.right = end_inside(at_x, p->in_w, p->pad_w, p->kernel_w, p->dilation_w),
		.at_y = at_y,
		.at_x = at_x,
	};
}

typedef int8_t lanes __attribute__((vector_size(16)));
typedef int8_t lanes_any __attribute__((vector_size(16), aligned(1), may_alias));

/* The largest of each of `n` <= 16 channels in the window whose first tap would lie at `in`. */
LB_INLINE void largest(const struct lb_pool2d *p, const struct window *w, const int8_t *in, int8_t *out, const size_t n)
{
	lanes most = (lanes){0} + INT8_MIN;

	for (size_t kh = w->top; kh < w->bottom; kh++)
		for (size_t kw = w->left; kw < w->right; kw++) {
			const int8_t *at = in + ((w->at_y + kh * p->dilation_h - p->pad_h) * p->in_w + w->at_x +
						 kw * p->dilation_w - p->pad_w) *
							p->channels;
			lanes value = {0}, above;

			if (n == LANES)
				value = *(const lanes_any *)at;
			else
				__builtin_memcpy(&value, at, n);
			above = value > most;
			most = (value & above) | (most & ~above);
		}
	if (n == LANES)
		*(lanes_any *)out = most;
	else
		__builtin_memcpy(out, &most, n);
}

void lb_max_pool2d_i8(const struct lb_pool2d *pool, const int8_t *in, int8_t *out)
{
	const struct lb_pool2d p = *pool; /* a copy: bytes written through `out` may be anybody's */

	for (size_t y = 0; y < p.out_h; y++)
		for (size_t x = 0; x < p.out_w; x++, out += p.channels) {
			const struct window w = window_at(&p, y, x);
			size_t c = 0;

			for (; c + LANES <= p.channels; c += LANES)
				largest(&p, &w, in + c, out + c, LANES);
			if (c < p.channels)
				largest(&p, &w, in + c, out + c, p.channels - c);
		}
}

/* The mean over rows y0 .. y1 - 1 and columns x0 .. x1 - 1 of an input `in_w` wide. */
static void average(size_t channels, size_t in_w, size_t y0, size_t y1, size_t x0, size_t x1, float multiplier,
		    const int8_t *in, int8_t *out)
{
	for (size_t first = 0; first < channels; first += LANES) {
		size_t n = channels - first < LANES ? channels - first : LANES;
		int32_t sums[LANES] = {0};

		for (size_t y = y0; y < y1; y++)
			for (size_t x = x0; x < x1; x++) {
				const int8_t *a = in + (y * in_w + x) * channels + first;

				for (size_t c = 0; c < n; c++)
					sums[c] += a[c];
			}
		for (size_t c = 0; c < n; c++)
			out[first + c] = lb_requant(sums[c], multiplier, -128.0f, 127.0f);
	}
}

/* PyTorch's divisor: the window cut by the padded input, or what was summed. */
static size_t divisor(const struct lb_pool2d *p, const struct window *w)
{
	size_t bottom = w->at_y + p->kernel_h, right = w->at_x + p->kernel_w;
	size_t end_y = (size_t)p->in_h + 2u * p->pad_h, end_x = (size_t)p->in_w + 2u * p->pad_w;

	if (!p->count_include_pad)
		return (w->bottom - w->top) * (w->right - w->left);
	return ((bottom < end_y ? bottom : end_y) - w->at_y) * ((right < end_x ? right : end_x) - w->at_x);
}

void lb_avg_pool2d_i8(const struct lb_pool2d *p, const int8_t *in, int8_t *out)
{
	for (size_t y = 0; y < p->out_h; y++)
		for (size_t x = 0; x < p->out_w; x++, out += p->channels) {
			const struct window w = window_at(p, y, x);

			if (w.top >= w.bottom || w.left >= w.right) { /* nothing but padding */
				__builtin_memset(out, 0, p->channels);
				continue;
			}
			average(p->channels, p->in_w, w.at_y + w.top - p->pad_h, w.at_y + w.bottom - p->pad_h,
				w.at_x + w.left - p->pad_w, w.at_x + w.right - p->pad_w, 1.0f / (float)divisor(p, &w),
				in, out);
		}
}

void lb_adaptive_avg_pool2d_i8(size_t channels, uint32_t in_h, uint32_t in_w, uint32_t out_h, uint32_t out_w,
			       const int8_t *in, int8_t *out)
{
	for (size_t y = 0; y < out_h; y++)
		for (size_t x = 0; x < out_w; x++, out += channels) {
			size_t y0 = y * in_h / out_h, y1 = ((y + 1u) * in_h + out_h - 1u) / out_h;
			size_t x0 = x * in_w / out_w, x1 = ((x + 1u) * in_w + out_w - 1u) / out_w;

			average(channels, in_w, y0, y1, x0, x1, 1.0f / (float)((y1 - y0) * (x1 - x0)), in, out);
		}
}
