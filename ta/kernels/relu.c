#include "lb_kernels.h"
#include "lb_vector.h"

void lb_relu(size_t n, const float *in, float *out)
{
	for (size_t i = 0; i < n; i++)
		out[i] = lb_activate(in[i], LB_ACTIVATION_RELU);
}

void lb_relu6(size_t n, const float *in, float *out)
{
	for (size_t i = 0; i < n; i++)
		out[i] = lb_activate(in[i], LB_ACTIVATION_RELU6);
}

void lb_leaky_relu(size_t n, float slope, const float *in, float *out)
{
	for (size_t i = 0; i < n; i++)
		out[i] = in[i] < 0.0f ? slope * in[i] : in[i];
}
