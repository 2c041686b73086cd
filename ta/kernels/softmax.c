/*
 * Softmax in double precision: an exponential of a float needs more than a float to keep tiny probabilities right, and
 * the vector is short.
 */
#include "lb_kernels.h"

/*
 * e^x for x <= 0 or NaN, about 1e-11 relative; 0 below -700, far under the smallest float.
 *
 * x = n ln 2 + r with |r| <= ln 2 / 2, then the Taylor series of e^r to r^10 (the first term left out is below 3e-13).
 */
static double exp_negative(double x)
{
	static const double coefficient[] = {
		1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120,
		1.0 / 24,      1.0 / 6,      0.5,         1.0,        1.0,
	};
	int32_t n;
	double r, power, result = 0.0;
	uint64_t bits;

	if (x != x)
		return x;
	if (x < -700.0)
		return 0.0;
	n = (int32_t)(x * 1.4426950408889634 - 0.5);
	r = x - n * 6.93147180369123816490e-01; /* ln 2 in two parts: n times the first is exact */
	r = r - n * 1.90821492927058770002e-10;
	for (size_t i = 0; i < sizeof(coefficient) / sizeof(coefficient[0]); i++)
		result = result * r + coefficient[i];
	bits = (uint64_t)(n + 1023) << 52;
	__builtin_memcpy(&power, &bits, sizeof(power));
	return result * power;
}

void lb_softmax(size_t n, const float *in, float *out)
{
	float largest = in[0];
	double sum = 0.0;

	for (size_t i = 1; i < n; i++)
		if (in[i] > largest || in[i] != in[i])
			largest = in[i];
	/* A NaN, or an infinity of which none can be subtracted, makes every probability NaN, as in PyTorch. */
	for (size_t i = 0; i < n; i++)
		sum += exp_negative((double)in[i] - (double)largest);
	for (size_t i = 0; i < n; i++)
		out[i] = (float)(exp_negative((double)in[i] - (double)largest) / sum);
}
