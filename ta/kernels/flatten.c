#include "lb_kernels.h"

void lb_flatten(size_t n, const float *in, float *out)
{
	if (out != in)
		__builtin_memcpy(out, in, n * sizeof(float));
}
