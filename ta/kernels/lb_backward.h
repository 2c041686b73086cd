/*
 * The other direction of the operators in lb_kernels.h, for training, and one step of gradient descent.
 *
 * As there, and: `d_out` is the gradient of a loss with respect to the operator's result, `d_in` and `d_weight` those
 * with respect to input and weights. d_in is written over; d_weight and d_bias are added to, since a batch's gradients
 * are summed sample by sample. Weights' gradients lie as the weights do (lb_model.h's enum lb_layout), and lanes
 * without a channel stay 0. A fused activation is undone first, by lb_relu_backward() on d_out. `activation` of a
 * struct is not looked at.
 */
#ifndef LB_BACKWARD_H
#define LB_BACKWARD_H

#include "lb_kernels.h"

/* As lb_conv2d(). d_bias: out_c. */
size_t lb_conv2d_backward_input_scratch_bytes(const struct lb_conv2d *conv);
void lb_conv2d_backward_input(const struct lb_conv2d *conv, const float *d_out, const float *weight, float *d_in,
			      void *scratch);
size_t lb_conv2d_backward_weight_scratch_bytes(const struct lb_conv2d *conv);
void lb_conv2d_backward_weight(const struct lb_conv2d *conv, const float *in, const float *d_out, float *d_weight,
			       float *d_bias, void *scratch);

/* As lb_conv2d_depthwise(). No scratch. */
void lb_conv2d_depthwise_backward_input(const struct lb_conv2d *conv, const float *d_out, const float *weight,
					float *d_in);
void lb_conv2d_depthwise_backward_weight(const struct lb_conv2d *conv, const float *in, const float *d_out,
					 float *d_weight, float *d_bias);

/* As lb_linear(). No scratch. */
void lb_linear_backward_input(size_t in_features, size_t out_features, const float *d_out, const float *weight,
			      float *d_in);
void lb_linear_backward_weight(size_t in_features, size_t out_features, const float *in, const float *d_out,
			       float *d_weight, float *d_bias);

/* Clears d_out where `out`, the activation's result, is cut off: at 0, and for RELU6 at 6. In place. */
void lb_relu_backward(size_t n, enum lb_activation activation, const float *out, float *d_out);

/* `in`: what the activation was given. In place. */
void lb_leaky_relu_backward(size_t n, float slope, const float *in, const float *d_out, float *d_in);

/* The normalisation is frozen: scale and shift get no gradient. In place. */
void lb_batch_norm_backward(size_t channels, size_t plane, const float *d_out, const float *scale, float *d_in);

/* All to the first largest of a window (the last NaN, if there is one), as in PyTorch. */
void lb_max_pool2d_backward(const struct lb_pool2d *pool, const float *in, const float *d_out, float *d_in);
void lb_avg_pool2d_backward(const struct lb_pool2d *pool, const float *d_out, float *d_in);
void lb_adaptive_avg_pool2d_backward(size_t channels, uint32_t in_h, uint32_t in_w, uint32_t out_h, uint32_t out_w,
				     const float *d_out, float *d_in);

/* `out`: the probabilities. In place. */
void lb_softmax_backward(size_t n, const float *out, const float *d_out, float *d_in);

/* Of the cross-entropy of softmax(in) and class `label` < n, with respect to `in`. `out`: the probabilities. */
void lb_cross_entropy_backward(size_t n, const float *out, size_t label, float *d_in);

/*
 * Inverted dropout, forward and backward alike: element i becomes 0 or is divided by the probability of staying,
 * 1 - drop / 2^32. Which, depends on `seed` and i alone. In place.
 */
void lb_dropout(size_t n, uint32_t drop, uint64_t seed, float *data);

struct lb_sgd {
	float learning_rate;
	float momentum;     /* without dampening, not Nesterov's */
	float weight_decay; /* as an L2 penalty: times the weight, added to its gradient */
};

/* One step as of PyTorch's SGD, with `scale` times the summed gradients, which are cleared. velocity: 0 before the first. */
void lb_sgd_step(size_t n, const struct lb_sgd *sgd, float scale, float *d_weight, float *velocity, float *weight);

#endif
