/*
 * The operators that agent, TA and emulator share.
 *
 * Freestanding C11: no allocation, no libm, no libc. Common to every kernel, unless it says otherwise:
 *
 *   dtype    float32 in and out; all values are allowed, NaN propagates as in PyTorch
 *   layout   no batch; activations are row-major (C,H,W) or (F,); weights as lb_model.h's enum lb_layout says
 *   align    4 bytes suffice for tensors; `scratch` wants 64
 *   aliasing `out` overlaps no other argument, except that kernels marked "in place" accept out == in
 *   scratch  owned by the caller, uninitialised on entry, undefined on return (the caller wipes it if it holds
 *            secrets); its size comes from the kernel's *_scratch_bytes() twin, which returns LB_SCRATCH_OVERFLOW
 *            when the size cannot be represented: such a shape must not be run
 *   checks   none: shapes come from lb_model_parse(), which has proved them consistent
 */
#ifndef LB_KERNELS_H
#define LB_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define LB_SCRATCH_OVERFLOW SIZE_MAX

/* Applied to each result before it is stored. */
enum lb_activation {
	LB_ACTIVATION_NONE = 0,
	LB_ACTIVATION_RELU = 1,  /* max(x, 0) */
	LB_ACTIVATION_RELU6 = 2, /* min(max(x, 0), 6) */
};

/*
 * A two-dimensional cross-correlation. `out_h` and `out_w` follow from the rest (PyTorch's Conv2d formula) and are
 * stored so that every user has the same. in_c and out_c are multiples of groups.
 */
struct lb_conv2d {
	uint32_t in_c, in_h, in_w;
	uint32_t out_c, out_h, out_w;
	uint32_t kernel_h, kernel_w;
	uint32_t stride_h, stride_w;
	uint32_t pad_h, pad_w;
	uint32_t dilation_h, dilation_w;
	uint32_t groups;
	enum lb_activation activation;
};

/* weight: LB_LAYOUT_PACKED8, float[groups][ceil(out_c/groups/8)][in_c/groups*kernel_h*kernel_w][8]. bias: out_c. */
size_t lb_conv2d_scratch_bytes(const struct lb_conv2d *conv);
void lb_conv2d(const struct lb_conv2d *conv, const float *in, const float *weight, const float *bias, float *out,
	       void *scratch);

/* in_c == groups (one input channel per filter). weight: LB_LAYOUT_PLAIN, float[out_c][kernel_h][kernel_w]. */
size_t lb_conv2d_depthwise_scratch_bytes(const struct lb_conv2d *conv);
void lb_conv2d_depthwise(const struct lb_conv2d *conv, const float *in, const float *weight, const float *bias,
			 float *out, void *scratch);

/* weight: LB_LAYOUT_PACKED8, float[ceil(out_features/8)][in_features][8]. bias: out_features. No scratch. */
void lb_linear(size_t in_features, size_t out_features, enum lb_activation activation, const float *in,
	       const float *weight, const float *bias, float *out);

/* out = scale[c] * in + shift[c]. in, out: channels x plane (plane = H*W, or 1 for (F,)). In place. */
void lb_batch_norm(size_t channels, size_t plane, enum lb_activation activation, const float *in, const float *scale,
		   const float *shift, float *out);

/* n elements. In place. */
void lb_relu(size_t n, const float *in, float *out);
void lb_relu6(size_t n, const float *in, float *out);
/* slope * x where x is negative. */
void lb_leaky_relu(size_t n, float slope, const float *in, float *out);

/* n elements; out may equal a or b, and a may equal b. */
void lb_add(size_t n, enum lb_activation activation, const float *a, const float *b, float *out);

/*
 * Windows as in PyTorch's MaxPool2d and AvgPool2d: out_h and out_w are given (ceil mode is in them), a window that
 * leaves the padded input is cut. dilation is 1 for the average.
 */
struct lb_pool2d {
	uint32_t channels;
	uint32_t in_h, in_w;
	uint32_t out_h, out_w;
	uint32_t kernel_h, kernel_w;
	uint32_t stride_h, stride_w;
	uint32_t pad_h, pad_w;
	uint32_t dilation_h, dilation_w;
	uint32_t count_include_pad; /* average only: 1 divides by the window with its padding, 0 by what was summed */
};

void lb_max_pool2d(const struct lb_pool2d *pool, const float *in, float *out);
void lb_avg_pool2d(const struct lb_pool2d *pool, const float *in, float *out);

/* Output cell i averages rows floor(i*in/out) to ceil((i+1)*in/out) - 1, and columns alike. */
void lb_adaptive_avg_pool2d(size_t channels, uint32_t in_h, uint32_t in_w, uint32_t out_h, uint32_t out_w,
			    const float *in, float *out);

/* Copies input `n` elements to out + at: called once for each input, in order. */
void lb_concat_part(size_t n, size_t at, const float *in, float *out);

/* Row-major data keep their order: a copy, or nothing at all when out == in. */
void lb_flatten(size_t n, const float *in, float *out);

/*
 * Softmax over n >= 1 elements, stable for logits of any size; each probability is the float nearest to the true
 * value to about 1e-7 relative, denormals included (attackers look at them). In place.
 */
void lb_softmax(size_t n, const float *in, float *out);

#endif
