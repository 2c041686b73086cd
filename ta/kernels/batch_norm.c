#include "lb_kernels.h"
#include "lb_vector.h"

void lb_batch_norm(size_t channels, size_t plane, enum lb_activation activation, const float *in, const float *scale,
		   const float *shift, float *out)
{
	for (size_t c = 0; c < channels; c++)
		for (size_t i = 0; i < plane; i++, in++, out++)
			*out = lb_activate(*in * scale[c] + shift[c], activation);
}
