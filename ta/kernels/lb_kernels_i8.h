/*
 * The operators on 8-bit integers. What lb_kernels.h says of all kernels holds here too, except:
 *
 *   dtype    an int8 tensor stands for q * scale, one float32 scale a tensor, no zero point: 0 is 0, and padding adds
 *            nothing to a sum, so that it can be left out
 *   layout   activations of rank 3 are channels last, (H,W,C); (F,) as ever
 *   results  equal on every machine, bit for bit: sums are exact int32; they become int8 by one IEEE multiplication
 *            with a float32 multiplier, rounding half to even and saturation. No compiler can fuse that
 *            multiplication with anything, because nothing is added before the comparison that follows
 *   weights  int8 from -127 to 127 (two products then fit into int16); with -128 a sum is wrong, and no more than that
 *   sums     |bias| <= LB_I8_MAX_BIAS and at most LB_I8_MAX_TAPS products a sum: int32 cannot overflow
 */
#ifndef LB_KERNELS_I8_H
#define LB_KERNELS_I8_H

#include "lb_kernels.h"

#define LB_I8_MAX_TAPS 65536u
#define LB_I8_MAX_BIAS (1 << 30)
#define LB_I8_MAX_RATIO 64.0f /* of scales in lb_add_i8 and lb_concat_part_i8: in / out */

/*
 * The convolution of lb_kernels.h for output channels first .. first + count - 1 (a slice; the whole is 0 .. out_c - 1).
 * `first` is a multiple of 4; a slice of less than the whole has groups = 1. `activation` is not read: results lie in
 * low .. high, -128 <= low <= high <= 127, which is how a ReLU is applied.
 */
struct lb_conv2d_i8 {
	struct lb_conv2d conv;
	uint32_t first, count;
	int32_t low, high;
};

/*
 * weight: LB_LAYOUT_DOT4 of the slice, int8[groups][ceil(count/groups/4)][ceil(K/16)][4][16]; K = kernel_h*kernel_w*
 * in_c/groups in the order (row, column, channel), what is missing 0. bias, multiplier: out_c, of the whole operator.
 * out: all out_c channels of every pixel, of which the slice's are written.
 */
size_t lb_conv2d_i8_scratch_bytes(const struct lb_conv2d_i8 *slice);
void lb_conv2d_i8(const struct lb_conv2d_i8 *slice, const int8_t *in, const int8_t *weight, const int32_t *bias,
		  const float *multiplier, int8_t *out, void *scratch);

/* in_c = groups = out_c. weight: LB_LAYOUT_CHANNELS_LAST, int8[kernel_h*kernel_w][out_c]; always the whole. No scratch. */
void lb_conv2d_depthwise_i8(const struct lb_conv2d_i8 *whole, const int8_t *in, const int8_t *weight,
			    const int32_t *bias, const float *multiplier, int8_t *out);

/* Rows first .. first + count - 1 of a matrix times a vector; `first` is a multiple of 4. */
struct lb_linear_i8 {
	uint32_t in_features, out_features;
	uint32_t first, count;
	int32_t low, high;
};

/*
 * weight: LB_LAYOUT_DOT4 of the slice, int8[ceil(count/4)][ceil(in_features/16)][4][16]; bias, multiplier, out:
 * out_features. The second form leaves sum * multiplier as it is: float32 out, low and high are not read.
 * Scratch: a copy of `in`, filled up with zeros.
 */
size_t lb_linear_i8_scratch_bytes(size_t in_features);
void lb_linear_i8(const struct lb_linear_i8 *slice, const int8_t *in, const int8_t *weight, const int32_t *bias,
		  const float *multiplier, int8_t *out, void *scratch);
void lb_linear_i8_f32(const struct lb_linear_i8 *slice, const int8_t *in, const int8_t *weight, const int32_t *bias,
		      const float *multiplier, float *out, void *scratch);

/*
 * Between float32 (channels, plane) and int8 (plane, channels); plane = 1 for (F,). `inverse` is 1 / scale. Rounds half
 * to even and saturates; NaN becomes -128.
 */
void lb_quantize(size_t channels, size_t plane, float inverse, const float *in, int8_t *out);
void lb_dequantize(size_t channels, size_t plane, float scale, const int8_t *in, float *out);

/*
 * out = a * ratio_a + b * ratio_b in steps of 2^-16, rounded half up, kept in low .. high. A ratio is scale of the
 * input / scale of the output, 0 <= ratio <= LB_I8_MAX_RATIO. out may equal a or b, and a may equal b.
 */
void lb_add_i8(size_t n, int32_t low, int32_t high, float ratio_a, const int8_t *a, float ratio_b, const int8_t *b,
	       int8_t *out);

/* low for RELU is 0; `high` for RELU6 is 6 / scale, rounded. In place. */
void lb_clamp_i8(size_t n, int32_t low, int32_t high, const int8_t *in, int8_t *out);

/* Windows as for float32; input and output have one scale. The average is sum * (1.0f / divisor), rounded. */
void lb_max_pool2d_i8(const struct lb_pool2d *pool, const int8_t *in, int8_t *out);
void lb_avg_pool2d_i8(const struct lb_pool2d *pool, const int8_t *in, int8_t *out);
void lb_adaptive_avg_pool2d_i8(size_t channels, uint32_t in_h, uint32_t in_w, uint32_t out_h, uint32_t out_w,
			       const int8_t *in, int8_t *out);

/*
 * Puts (plane, channels) into channels at .. at + channels - 1 of (plane, out_channels), times `ratio` in steps of
 * 2^-16 as in lb_add_i8; ratio 1 copies. Called once for each input.
 */
void lb_concat_part_i8(size_t plane, size_t channels, size_t at, size_t out_channels, float ratio, const int8_t *in,
		       int8_t *out);

/* (plane, channels) to (channels * plane,) in PyTorch's order, channel by channel. */
void lb_flatten_i8(size_t channels, size_t plane, const int8_t *in, int8_t *out);

#endif
