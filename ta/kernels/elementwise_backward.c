#include "lb_backward.h"

void lb_relu_backward(size_t n, enum lb_activation activation, const float *out, float *d_out)
{
	if (activation == LB_ACTIVATION_RELU)
		for (size_t i = 0; i < n; i++)
			d_out[i] = out[i] > 0.0f ? d_out[i] : 0.0f;
	if (activation == LB_ACTIVATION_RELU6)
		for (size_t i = 0; i < n; i++)
			d_out[i] = out[i] > 0.0f && out[i] < 6.0f ? d_out[i] : 0.0f;
}

void lb_leaky_relu_backward(size_t n, float slope, const float *in, const float *d_out, float *d_in)
{
	for (size_t i = 0; i < n; i++)
		d_in[i] = in[i] > 0.0f ? d_out[i] : slope * d_out[i];
}

void lb_batch_norm_backward(size_t channels, size_t plane, const float *d_out, const float *scale, float *d_in)
{
	for (size_t c = 0; c < channels; c++)
		for (size_t i = 0; i < plane; i++)
			*d_in++ = *d_out++ * scale[c];
}

void lb_softmax_backward(size_t n, const float *out, const float *d_out, float *d_in)
{
	double sum = 0.0;

	for (size_t i = 0; i < n; i++)
		sum += (double)out[i] * (double)d_out[i];
	for (size_t i = 0; i < n; i++)
		d_in[i] = (float)((double)out[i] * ((double)d_out[i] - sum));
}

void lb_cross_entropy_backward(size_t n, const float *out, size_t label, float *d_in)
{
	for (size_t i = 0; i < n; i++)
		d_in[i] = i == label ? out[i] - 1.0f : out[i];
}
