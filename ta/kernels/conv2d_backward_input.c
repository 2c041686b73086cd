/*
 * The gradient of a convolution's input is a convolution of d_out with the filters turned by 180 degrees, inputs and
 * outputs exchanged: lb_conv2d() does it. Where the convolution has a stride, or pads more than its filter is long,
 * d_out is spread out first, with zeros where the stride leaps.
 */
#include "lb_backward.h"
#include "lb_move.h"

struct plan {
	struct lb_conv2d turned;
	size_t group_in, group_out, window;
	size_t blocks, turned_blocks; /* of 8 outputs, here and there */
	size_t weight_bytes, bias_bytes, spread_bytes, conv_bytes;
};

static int make_plan(const struct lb_conv2d *conv, struct plan *plan)
{
	const uint32_t span_h = conv->dilation_h * (conv->kernel_h - 1u);
	const uint32_t span_w = conv->dilation_w * (conv->kernel_w - 1u);
	const int spread = conv->stride_h != 1 || conv->stride_w != 1 || conv->pad_h > span_h || conv->pad_w > span_w;
	struct lb_conv2d *turned = &plan->turned;

	*turned = *conv;
	turned->in_c = conv->out_c;
	turned->out_c = conv->in_c;
	turned->in_h = spread ? conv->in_h + span_h : conv->out_h;
	turned->in_w = spread ? conv->in_w + span_w : conv->out_w;
	turned->out_h = conv->in_h;
	turned->out_w = conv->in_w;
	turned->stride_h = turned->stride_w = 1;
	turned->pad_h = spread ? 0 : span_h - conv->pad_h;
	turned->pad_w = spread ? 0 : span_w - conv->pad_w;
	turned->activation = LB_ACTIVATION_NONE;

	plan->group_in = conv->in_c / conv->groups;
	plan->group_out = conv->out_c / conv->groups;
	plan->blocks = (plan->group_out + LB_V - 1u) / LB_V;
	plan->turned_blocks = (plan->group_in + LB_V - 1u) / LB_V;
	plan->window = (size_t)conv->kernel_h * conv->kernel_w;
	plan->weight_bytes = plan->turned_blocks * conv->groups;
	plan->bias_bytes = conv->in_c;
	plan->spread_bytes = spread ? conv->out_c : 0;
	plan->conv_bytes = lb_conv2d_scratch_bytes(turned);
	return lb_mul_size(&plan->weight_bytes, plan->group_out) && lb_mul_size(&plan->weight_bytes, plan->window) &&
	       lb_mul_size(&plan->weight_bytes, LB_V * sizeof(float)) &&
	       lb_mul_size(&plan->bias_bytes, sizeof(float)) && lb_mul_size(&plan->spread_bytes, turned->in_h) &&
	       lb_mul_size(&plan->spread_bytes, turned->in_w) && lb_mul_size(&plan->spread_bytes, sizeof(float)) &&
	       plan->conv_bytes != LB_SCRATCH_OVERFLOW;
}

size_t lb_conv2d_backward_input_scratch_bytes(const struct lb_conv2d *conv)
{
	struct plan plan;
	size_t bytes = 0;

	if (!make_plan(conv, &plan) || !lb_add_aligned(&bytes, plan.weight_bytes) ||
	    !lb_add_aligned(&bytes, plan.bias_bytes) || !lb_add_aligned(&bytes, plan.spread_bytes) ||
	    !lb_add_aligned(&bytes, plan.conv_bytes))
		return LB_SCRATCH_OVERFLOW;
	return bytes;
}

/* From float[groups][blocks][group_in][window][8] to float[groups][turned_blocks][group_out][window][8], turned. */
static void turn_weights(const struct lb_conv2d *conv, const struct plan *plan, const float *weight, float *turned)
{
	const size_t taps = plan->group_in * plan->window;

	for (size_t g = 0; g < conv->groups; g++, weight += plan->blocks * taps * LB_V)
		for (size_t block = 0; block < plan->turned_blocks; block++) {
			const size_t left = plan->group_in - block * LB_V, valid = left < LB_V ? left : LB_V;

			for (size_t o = 0; o < plan->group_out; o++) {
				const float *from =
					weight + ((o / LB_V * taps) + block * LB_V * plan->window) * LB_V + o % LB_V;

				for (size_t k = plan->window; k-- > 0; turned += LB_V) {
					const float *tap = from + k * LB_V;

					for (size_t lane = 0; lane < valid; lane++, tap += plan->window * LB_V)
						turned[lane] = *tap;
					for (size_t lane = valid; lane < LB_V; lane++)
						turned[lane] = 0.0f;
				}
			}
		}
}

/* Each channel of d_out into one of turned->in_h rows and turned->in_w columns. */
static void spread_out(const struct lb_conv2d *conv, const struct lb_conv2d *turned, const float *d_out, float *to)
{
	const size_t before_h = (size_t)conv->dilation_h * (conv->kernel_h - 1u);
	const size_t before_w = (size_t)conv->dilation_w * (conv->kernel_w - 1u);

	for (size_t c = 0; c < conv->out_c; c++, to += (size_t)turned->in_h * turned->in_w) {
		lb_clear_floats(to, (size_t)turned->in_h * turned->in_w);
		for (size_t oh = 0; oh < conv->out_h; oh++, d_out += conv->out_w) {
			const size_t row = oh * conv->stride_h + before_h;

			if (row < conv->pad_h || row - conv->pad_h >= turned->in_h)
				continue; /* it saw nothing but padding */
			for (size_t ow = 0; ow < conv->out_w; ow++) {
				const size_t column = ow * conv->stride_w + before_w;

				if (column >= conv->pad_w && column - conv->pad_w < turned->in_w)
					to[(row - conv->pad_h) * turned->in_w + column - conv->pad_w] = d_out[ow];
			}
		}
	}
}

void lb_conv2d_backward_input(const struct lb_conv2d *conv, const float *d_out, const float *weight, float *d_in,
			      void *scratch)
{
	unsigned char *free = scratch;
	struct plan plan;
	float *turned = scratch, *bias, *spread;
	size_t at = 0;

	if (!make_plan(conv, &plan))
		return; /* lb_conv2d_backward_input_scratch_bytes() has refused it */
	lb_add_aligned(&at, plan.weight_bytes);
	bias = (float *)(void *)(free + at);
	lb_add_aligned(&at, plan.bias_bytes);
	spread = (float *)(void *)(free + at);
	lb_add_aligned(&at, plan.spread_bytes);

	turn_weights(conv, &plan, weight, turned);
	lb_clear_floats(bias, conv->in_c);
	if (plan.spread_bytes) {
		spread_out(conv, &plan.turned, d_out, spread);
		d_out = spread;
	}
	lb_conv2d(&plan.turned, d_out, turned, bias, d_in, free + at);
}
