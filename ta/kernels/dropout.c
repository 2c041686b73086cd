#include "lb_backward.h"

/* Which elements stay is a function of a counter, so that the mask needs no memory between forward and backward. */
static uint64_t mixed(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
	return x ^ (x >> 31);
}

void lb_dropout(size_t n, uint32_t drop, uint64_t seed, float *data)
{
	const float scale = (float)(4294967296.0 / (4294967296.0 - (double)drop));

	for (size_t i = 0; i < n; i++) {
		const uint64_t draw = mixed(mixed(seed) + (i + 1u) * 0x9E3779B97F4A7C15u) >> 32;

		data[i] = draw < drop ? 0.0f : data[i] * scale;
	}
}
