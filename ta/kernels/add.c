#include "lb_kernels.h"
#include "lb_vector.h"

void lb_add(size_t n, enum lb_activation activation, const float *a, const float *b, float *out)
{
	for (size_t i = 0; i < n; i++)
		out[i] = lb_activate(a[i] + b[i], activation);
}
