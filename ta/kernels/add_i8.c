#include "lb_requant.h"

#define HALF 32768

void lb_add_i8(size_t n, int32_t low, int32_t high, float ratio_a, const int8_t *a, float ratio_b, const int8_t *b,
	       int8_t *out)
{
	const int32_t times_a = lb_fixed16(ratio_a), times_b = lb_fixed16(ratio_b);

	for (size_t i = 0; i < n; i++)
		out[i] = lb_clamp8((a[i] * times_a + b[i] * times_b + HALF) >> 16, low, high);
}

void lb_clamp_i8(size_t n, int32_t low, int32_t high, const int8_t *in, int8_t *out)
{
	for (size_t i = 0; i < n; i++)
		out[i] = lb_clamp8(in[i], low, high);
}

void lb_concat_part_i8(size_t plane, size_t channels, size_t at, size_t out_channels, float ratio, const int8_t *in,
		       int8_t *out)
{
	const int32_t times = lb_fixed16(ratio);

	for (size_t i = 0; i < plane; i++)
		for (size_t c = 0; c < channels; c++)
			out[i * out_channels + at + c] =
				lb_clamp8((in[i * channels + c] * times + HALF) >> 16, -128, 127);
}
