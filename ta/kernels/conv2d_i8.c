/*
 * int8 convolution, channels last: a pixel's row of the filter is one run of bytes in the input, so that tiles read the
 * input where it lies. Three ways to walk:
 *
 *   whole   4 pixels of a row x 4 channels; the rows of a band are copied once with zeros on both sides, if padded
 *   single  1 pixel x 16 channels, with only those taps that meet the input: on the 2x2 and 4x4 maps at the end of a
 *           network half of all taps or more meet padding, which is 0
 *   columns channels that are no multiple of 16 (images, small groups): each pixel's window is gathered first
 */
#include "lb_dot_i8.h"

#define BAND_PIXELS 64u     /* weights are streamed once per band */
#define COLUMN_BYTES 32768u /* gathered at once: a first-level cache of them */
#define MAX_COLUMNS 64u

enum walk { WHOLE, SINGLE, COLUMNS };

struct plan {
	enum walk walk;
	size_t group_in, group_out; /* channels; group_out of the slice */
	size_t taps, row;           /* bytes of a window without padding to 16; of a row of the input or band */
	size_t contiguous;          /* filter positions that lie side by side in the input: kernel_w, or 1 */
	size_t block_stride;        /* bytes of 4 channels' weights */
	size_t band_rows, band_h;   /* output rows of a band, input rows it needs */
	size_t columns;             /* pixels gathered at once */
	size_t runs_bytes, buffer_bytes;
};

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* First and last + 1 filter position that puts output `o` on a real input. */
static size_t first_tap(size_t o, size_t stride, size_t pad, size_t dilation)
{
	size_t at = o * stride;

	return at >= pad ? 0 : (pad - at + dilation - 1u) / dilation;
}

static size_t end_tap(size_t o, size_t in, size_t kernel, size_t stride, size_t pad, size_t dilation)
{
	size_t at = o * stride;

	return at >= in + pad ? 0 : min_size(kernel, (in + pad - at - 1u) / dilation + 1u);
}

/* Whether leaving out the taps in the padding of each pixel saves more than a tile of four pixels does. */
static int single_pays(const struct lb_conv2d *c)
{
	size_t met = 0, all = (size_t)c->kernel_w * c->out_w;

	if (c->out_w > 64u)
		return 0;
	for (size_t x = 0; x < c->out_w; x++) {
		size_t first = first_tap(x, c->stride_w, c->pad_w, c->dilation_w);
		size_t end = end_tap(x, c->in_w, c->kernel_w, c->stride_w, c->pad_w, c->dilation_w);

		met += end > first ? end - first : 0;
	}
	return met * 10u < all * 9u;
}

/* 0 when a size does not fit. */
static int make_plan(const struct lb_conv2d_i8 *slice, struct plan *plan)
{
	const struct lb_conv2d *c = &slice->conv;
	size_t runs, pixels = (size_t)c->out_h * c->out_w;

	*plan = (struct plan){.walk = COLUMNS};
	plan->group_in = c->in_c / c->groups;
	plan->group_out = slice->count / c->groups;
	plan->taps = plan->group_in;
	if (!lb_mul_size(&plan->taps, c->kernel_h) || !lb_mul_size(&plan->taps, c->kernel_w) ||
	    plan->taps > LB_I8_MAX_TAPS)
		return 0;
	plan->contiguous = c->groups == 1 && c->dilation_w == 1 ? c->kernel_w : 1u;
	plan->block_stride = (plan->taps + LB_DOT_STEP - 1u) / LB_DOT_STEP * LB_DOT_BLOCK;
	if (plan->group_in % LB_DOT_STEP == 0)
		plan->walk = single_pays(c) ? SINGLE : WHOLE;
	plan->row = c->in_w;
	if (plan->walk == WHOLE && c->pad_w)
		plan->row = (size_t)(c->out_w - 1u) * c->stride_w + (size_t)(c->kernel_w - 1u) * c->dilation_w + 1u;
	if (!lb_mul_size(&plan->row, c->in_c) || plan->row > UINT32_MAX)
		return 0;
	if (plan->walk == COLUMNS) {
		size_t window = plan->block_stride / LB_DOT_LANES;

		plan->columns = min_size((COLUMN_BYTES / window + 3u) / 4u * 4u, MAX_COLUMNS);
		plan->columns = min_size(plan->columns < 4u ? 4u : plan->columns, pixels);
		plan->buffer_bytes = plan->columns * window;
		plan->runs_bytes = sizeof(struct lb_dot_run);
		return 1;
	}
	runs = plan->contiguous == 1 ? (size_t)c->kernel_h * c->kernel_w : c->kernel_h;
	plan->runs_bytes = runs * sizeof(struct lb_dot_run);
	plan->band_rows = min_size(c->out_h, (BAND_PIXELS + c->out_w - 1u) / c->out_w);
	plan->band_h = (plan->band_rows - 1u) * c->stride_h + (size_t)(c->kernel_h - 1u) * c->dilation_h + 1u;
	plan->buffer_bytes = plan->band_h;
	if (!lb_mul_size(&plan->buffer_bytes, plan->row) || plan->buffer_bytes > UINT32_MAX ||
	    (uint64_t)c->in_h * plan->row > UINT32_MAX)
		return 0;
	if (plan->walk == SINGLE || !c->pad_w)
		plan->buffer_bytes = 0;
	return 1;
}

size_t lb_conv2d_i8_scratch_bytes(const struct lb_conv2d_i8 *slice)
{
	struct plan plan;
	size_t bytes = 0;

	if (!make_plan(slice, &plan) || !lb_add_aligned(&bytes, plan.runs_bytes) ||
	    !lb_add_aligned(&bytes, plan.buffer_bytes))
		return LB_SCRATCH_OVERFLOW;
	return bytes;
}

/* What the walks share. */
struct work {
	const struct lb_conv2d_i8 *slice;
	const struct plan *plan;
	const int8_t *in, *weight;
	const int32_t *bias;
	const float *multiplier;
	int8_t *out;
	struct lb_dot dot;
	struct lb_dot_run *runs;
	int8_t *buffer;
};

/* Where the results of one block of four channels go. A copy: bytes written through `out` may be anybody's. */
struct sink {
	const int32_t *bias;
	const float *multiplier;
	int8_t *out; /* of the first pixel */
	size_t stride, channels;
	int32_t low, high;
};

static struct sink sink_of(const struct work *w, size_t group, size_t block)
{
	const struct lb_conv2d_i8 *s = w->slice;
	const size_t first = block * LB_DOT_LANES, channel = s->first + group * w->plan->group_out + first;

	return (struct sink){w->bias + channel,
			     w->multiplier + channel,
			     w->out + channel,
			     s->conv.out_c,
			     min_size(LB_DOT_LANES, w->plan->group_out - first),
			     s->low,
			     s->high};
}

LB_INLINE void store(const struct sink *s, const lb_v4i *sums, size_t pixel, const size_t P)
{
	int8_t *out = s->out + pixel * s->stride;

	if (s->channels == LB_DOT_LANES) {
		lb_requant4(sums, s->bias, s->multiplier, s->low, s->high, out, s->stride, P);
		return;
	}
	for (size_t p = 0; p < P; p++)
		for (size_t i = 0; i < s->channels; i++)
			out[p * s->stride + i] =
				lb_requant(sums[p][i] + s->bias[i], s->multiplier[i], (float)s->low, (float)s->high);
}

/* `n` pixels side by side, one block of channels. */
static void row_of_pixels(const struct work *w, size_t group, size_t block, const int8_t *in, size_t pixel, size_t n)
{
	const int8_t *weight = w->weight + (group * ((w->plan->group_out + 3u) / 4u) + block) * w->plan->block_stride;
	const struct sink sink = sink_of(w, group, block);
	const struct lb_dot dot = w->dot;
	lb_v4i sums[4];

	for (; n >= 4; n -= 4, pixel += 4, in += 4 * dot.pixel_stride) {
		lb_dot(&dot, in, weight, sums, 4, 1);
		store(&sink, sums, pixel, 4);
	}
	if (n >= 2) {
		lb_dot(&dot, in, weight, sums, 2, 1);
		store(&sink, sums, pixel, 2);
		n -= 2, pixel += 2, in += 2 * dot.pixel_stride;
	}
	if (n) {
		lb_dot(&dot, in, weight, sums, 1, 1);
		store(&sink, sums, pixel, 1);
	}
}

/*
 * The runs of filter rows first_h .. end_h and columns first_w .. end_w. `row_bytes` apart lie input rows; the first of
 * them is `skip` bytes behind the tile's beginning.
 */
static size_t list_runs(const struct work *w, size_t first_h, size_t end_h, size_t first_w, size_t end_w, size_t skip,
			size_t row_bytes)
{
	const struct lb_conv2d *c = &w->slice->conv;
	const struct plan *p = w->plan;
	size_t n = 0, width = p->contiguous == 1 ? 1u : end_w - first_w;

	for (size_t kh = first_h; kh < end_h && first_w < end_w; kh++)
		for (size_t kw = first_w; kw < end_w; kw += width)
			w->runs[n++] = (struct lb_dot_run){
				.input = (uint32_t)(skip + (kh - first_h) * c->dilation_h * row_bytes +
						    (kw - first_w) * c->dilation_w * c->in_c),
				.weight = (uint32_t)((kh * c->kernel_w + kw) * p->group_in * LB_DOT_LANES),
				.steps = (uint32_t)(width * p->group_in / LB_DOT_STEP),
			};
	return n;
}

/* Copies the input rows that output rows y0 .. y0 + rows - 1 read, with zeros on both sides. */
static void copy_band(const struct work *w, size_t y0, size_t rows)
{
	const struct lb_conv2d *c = &w->slice->conv;
	const size_t row = w->plan->row, left = (size_t)c->pad_w * c->in_c;
	const size_t inside = min_size((size_t)c->in_w * c->in_c, row > left ? row - left : 0);
	size_t n = (rows - 1u) * c->stride_h + (size_t)(c->kernel_h - 1u) * c->dilation_h + 1u;

	for (size_t i = 0; i < n; i++) {
		size_t y = y0 * c->stride_h + i; /* pad_h above the input's row */
		int8_t *to = w->buffer + i * row;

		if (y < c->pad_h || y - c->pad_h >= c->in_h)
			continue; /* no run reads it */
		__builtin_memset(to, 0, min_size(left, row));
		if (inside)
			__builtin_memcpy(to + left, w->in + (y - c->pad_h) * c->in_w * c->in_c, inside);
		if (left + inside < row)
			__builtin_memset(to + left + inside, 0, row - left - inside);
	}
}

static void run_whole(struct work *w)
{
	const struct lb_conv2d *c = &w->slice->conv;
	const struct plan *p = w->plan;
	const size_t blocks = (p->group_out + 3u) / 4u;

	w->dot.pixel_stride = (size_t)c->stride_w * c->in_c;
	for (size_t y0 = 0; y0 < c->out_h; y0 += p->band_rows) {
		size_t rows = min_size(p->band_rows, c->out_h - y0);

		if (c->pad_w)
			copy_band(w, y0, rows);
		for (size_t group = 0; group < c->groups; group++)
			for (size_t block = 0; block < blocks; block++)
				for (size_t y = y0; y < y0 + rows; y++) {
					size_t first = first_tap(y, c->stride_h, c->pad_h, c->dilation_h);
					size_t end =
						end_tap(y, c->in_h, c->kernel_h, c->stride_h, c->pad_h, c->dilation_h);
					size_t top = first < end ? y * c->stride_h + first * c->dilation_h : 0;
					size_t skip = c->pad_w ? top - (first < end ? y0 * c->stride_h : 0)
							       : top - (first < end ? c->pad_h : 0);

					w->dot.n_runs = list_runs(w, first, end, 0, c->kernel_w, skip * p->row, p->row);
					row_of_pixels(w, group, block,
						      (c->pad_w ? w->buffer : w->in) + group * p->group_in,
						      y * c->out_w, c->out_w);
				}
	}
}

static void run_single(struct work *w)
{
	const struct lb_conv2d *c = &w->slice->conv;
	const struct plan *p = w->plan;
	const size_t blocks = (p->group_out + 3u) / 4u;

	w->dot.pixel_stride = 0;
	for (size_t group = 0; group < c->groups; group++)
		for (size_t block = 0, n; block < blocks; block += n) {
			const int8_t *weight = w->weight + (group * blocks + block) * p->block_stride;

			n = blocks - block >= 4 ? 4 : 1;
			for (size_t pixel = 0; pixel < (size_t)c->out_h * c->out_w; pixel++) {
				size_t y = pixel / c->out_w, x = pixel % c->out_w;
				size_t top = first_tap(y, c->stride_h, c->pad_h, c->dilation_h);
				size_t left = first_tap(x, c->stride_w, c->pad_w, c->dilation_w);
				size_t bottom = end_tap(y, c->in_h, c->kernel_h, c->stride_h, c->pad_h, c->dilation_h);
				size_t right = end_tap(x, c->in_w, c->kernel_w, c->stride_w, c->pad_w, c->dilation_w);
				lb_v4i sums[4];
				size_t skip = 0;

				if (top < bottom && left < right)
					skip = ((y * c->stride_h + top * c->dilation_h - c->pad_h) * c->in_w +
						x * c->stride_w + left * c->dilation_w - c->pad_w) *
						       c->in_c +
					       group * p->group_in;
				w->dot.n_runs = list_runs(w, top, bottom, left, right, skip, p->row);
				if (n == 4)
					lb_dot(&w->dot, w->in, weight, sums, 1, 4);
				else
					lb_dot(&w->dot, w->in, weight, sums, 1, 1);
				for (size_t b = 0; b < n; b++) {
					const struct sink sink = sink_of(w, group, block + b);

					store(&sink, sums + b, pixel, 1);
				}
			}
		}
}

/* The window of one pixel, (row, column, channel), zeros where it leaves the input. */
static void gather(const struct work *w, size_t group, size_t pixel, int8_t *to)
{
	const struct lb_conv2d *c = &w->slice->conv;
	const size_t channels = w->plan->group_in, y = pixel / c->out_w, x = pixel % c->out_w;
	const size_t left = first_tap(x, c->stride_w, c->pad_w, c->dilation_w);
	const size_t right = end_tap(x, c->in_w, c->kernel_w, c->stride_w, c->pad_w, c->dilation_w);
	const size_t top = first_tap(y, c->stride_h, c->pad_h, c->dilation_h);
	const size_t bottom = end_tap(y, c->in_h, c->kernel_h, c->stride_h, c->pad_h, c->dilation_h);
	const size_t run = w->plan->contiguous == 1 ? 1u : right - left, window = w->plan->block_stride / LB_DOT_LANES;

	if (top || left || bottom < c->kernel_h || right < c->kernel_w)
		__builtin_memset(to, 0, window);
	else
		__builtin_memset(to + w->plan->taps, 0, window - w->plan->taps);
	for (size_t kh = top; kh < bottom && left < right; kh++)
		for (size_t kw = left; kw < right; kw += run) {
			const int8_t *from = w->in +
					     ((y * c->stride_h + kh * c->dilation_h - c->pad_h) * c->in_w +
					      x * c->stride_w + kw * c->dilation_w - c->pad_w) *
						     c->in_c +
					     group * channels;

			__builtin_memcpy(to + (kh * c->kernel_w + kw) * channels, from, run * channels);
		}
}

static void run_columns(struct work *w)
{
	const struct lb_conv2d *c = &w->slice->conv;
	const struct plan *p = w->plan;
	const size_t pixels = (size_t)c->out_h * c->out_w, blocks = (p->group_out + 3u) / 4u;

	w->dot.pixel_stride = p->block_stride / LB_DOT_LANES;
	w->dot.n_runs = 1;
	w->runs[0] = (struct lb_dot_run){.steps = (uint32_t)(p->block_stride / LB_DOT_BLOCK)};
	for (size_t group = 0; group < c->groups; group++)
		for (size_t first = 0; first < pixels; first += p->columns) {
			size_t n = min_size(p->columns, pixels - first);

			for (size_t i = 0; i < n; i++)
				gather(w, group, first + i, w->buffer + i * w->dot.pixel_stride);
			for (size_t block = 0; block < blocks; block++)
				row_of_pixels(w, group, block, w->buffer, first, n);
		}
}

void lb_conv2d_i8(const struct lb_conv2d_i8 *slice, const int8_t *in, const int8_t *weight, const int32_t *bias,
		  const float *multiplier, int8_t *out, void *scratch)
{
	struct plan plan;
	struct work work = {slice, &plan, in, weight, bias, multiplier, out, {0}, scratch, NULL};

	if (!make_plan(slice, &plan))
		return;
	work.buffer = (int8_t *)scratch + (plan.runs_bytes + 63u) / 64u * 64u;
	work.dot.runs = work.runs;
	work.dot.block_stride = plan.block_stride;
	switch (plan.walk) {
	case WHOLE: run_whole(&work); break;
	case SINGLE: run_single(&work); break;
	case COLUMNS: run_columns(&work); break;
	}
}
