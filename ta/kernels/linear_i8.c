/* int8 matrix times vector: 16 rows at a time, each weight used once. */
#include "lb_dot_i8.h"

static size_t padded(size_t in_features)
{
	return (in_features + LB_DOT_STEP - 1u) / LB_DOT_STEP * LB_DOT_STEP;
}

size_t lb_linear_i8_scratch_bytes(size_t in_features)
{
	return in_features > LB_I8_MAX_TAPS ? LB_SCRATCH_OVERFLOW : (padded(in_features) + 63u) / 64u * 64u;
}

/* Exactly one of `narrow` and `wide` is where results go. */
static void run(const struct lb_linear_i8 *slice, const int8_t *in, const int8_t *weight, const int32_t *bias,
		const float *multiplier, int8_t *narrow, float *wide, int8_t *scratch)
{
	const size_t width = padded(slice->in_features);
	const struct lb_dot_run whole = {.steps = (uint32_t)(width / LB_DOT_STEP)};
	const struct lb_dot dot = {&whole, 1, 0, width * LB_DOT_LANES};

	__builtin_memcpy(scratch, in, slice->in_features);
	__builtin_memset(scratch + slice->in_features, 0, width - slice->in_features);
	for (size_t row = 0, n; row < slice->count; row += n) {
		lb_v4i sums[4];

		n = slice->count - row > 3 * LB_DOT_LANES ? 4 * LB_DOT_LANES : LB_DOT_LANES;
		if (n == 4 * LB_DOT_LANES)
			lb_dot(&dot, scratch, weight + row * width, sums, 1, 4);
		else
			lb_dot(&dot, scratch, weight + row * width, sums, 1, 1);
		for (size_t i = 0; i < n && row + i < slice->count; i++) {
			size_t o = slice->first + row + i;
			int32_t sum = sums[i / 4][i % 4] + bias[o];

			if (wide)
				wide[o] = (float)sum * multiplier[o];
			else
				narrow[o] = lb_requant(sum, multiplier[o], (float)slice->low, (float)slice->high);
		}
	}
}

void lb_linear_i8(const struct lb_linear_i8 *slice, const int8_t *in, const int8_t *weight, const int32_t *bias,
		  const float *multiplier, int8_t *out, void *scratch)
{
	run(slice, in, weight, bias, multiplier, out, NULL, scratch);
}

void lb_linear_i8_f32(const struct lb_linear_i8 *slice, const int8_t *in, const int8_t *weight, const int32_t *bias,
		      const float *multiplier, float *out, void *scratch)
{
	run(slice, in, weight, bias, multiplier, NULL, out, scratch);
}
