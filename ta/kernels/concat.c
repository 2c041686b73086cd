#include "lb_kernels.h"

void lb_concat_part(size_t n, size_t at, const float *in, float *out)
{
	__builtin_memcpy(out + at, in, n * sizeof(float));
}
