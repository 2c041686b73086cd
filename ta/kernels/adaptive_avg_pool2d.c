#include "lb_kernels.h"

void lb_adaptive_avg_pool2d(size_t channels, uint32_t in_h, uint32_t in_w, uint32_t out_h, uint32_t out_w,
			    const float *in, float *out)
{
	for (size_t c = 0; c < channels; c++, in += (size_t)in_h * in_w)
		for (uint64_t oh = 0; oh < out_h; oh++) {
			size_t top = (size_t)(oh * in_h / out_h);
			size_t bottom = (size_t)(((oh + 1u) * in_h + out_h - 1u) / out_h);

			for (uint64_t ow = 0; ow < out_w; ow++) {
				size_t left = (size_t)(ow * in_w / out_w);
				size_t right = (size_t)(((ow + 1u) * in_w + out_w - 1u) / out_w);
				float sum = 0.0f;

				for (size_t y = top; y < bottom; y++)
					for (size_t x = left; x < right; x++)
						sum += in[y * in_w + x];
				*out++ = sum / (float)((bottom - top) * (right - left));
			}
		}
}
