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
