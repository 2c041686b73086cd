/* Into int8 and out of it; also from rows of channels to channels last and back. */
#include "lb_requant.h"

#define LANES 16u

void lb_quantize(size_t channels, size_t plane, float inverse, const float *in, int8_t *out)
{
	for (size_t c = 0; c < channels; c++, in += plane) {
		size_t i = 0;

		for (; i + LANES <= plane; i += LANES) {
			int8_t some[LANES]; /* a loop without strides, for vector instructions */

			for (size_t lane = 0; lane < LANES; lane++)
				some[lane] = (int8_t)lb_round_within(in[i + lane] * inverse, -128.0f, 127.0f);
			LB_UNROLL16 for (size_t lane = 0; lane < LANES; lane++) out[(i + lane) * channels + c] =
				some[lane];
		}
		for (; i < plane; i++)
			out[i * channels + c] = (int8_t)lb_round_within(in[i] * inverse, -128.0f, 127.0f);
	}
}

void lb_dequantize(size_t channels, size_t plane, float scale, const int8_t *in, float *out)
{
	for (size_t c = 0; c < channels; c++)
		for (size_t i = 0; i < plane; i++)
			out[c * plane + i] = (float)in[i * channels + c] * scale;
}

void lb_flatten_i8(size_t channels, size_t plane, const int8_t *in, int8_t *out)
{
	if (plane == 1) {
		__builtin_memcpy(out, in, channels);
		return;
	}
	for (size_t c = 0; c < channels; c++)
		for (size_t i = 0; i < plane; i++)
			out[c * plane + i] = in[i * channels + c];
}
