#include "lb_runtime.h"

size_t lb_policy_bytes(uint32_t policy, size_t n)
{
	return policy == LB_POLICY_LABEL ? sizeof(uint32_t) : n * sizeof(float);
}

static uint32_t label(const float *in, size_t n)
{
	size_t best = 0;

	for (size_t i = 1; i < n; i++)
		if (in[best] == in[best] && (in[i] > in[best] || in[i] != in[i]))
			best = i;
	return (uint32_t)best;
}

/* Half to even. The product is exact: 24 bits of a float times 20 bits of a power of ten. */
static float rounded(float x, uint32_t decimals)
{
	const double ulp_is_1 = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to an integer */
	double power = 1.0, scaled;

	for (uint32_t i = 0; i < decimals; i++)
		power *= 10.0;
	scaled = (double)x * power;
	if (!(scaled > -2251799813685248.0 && scaled < 2251799813685248.0))
		return x; /* an integer already, or not a number */
	scaled += ulp_is_1;
	scaled -= ulp_is_1;
	return (float)(scaled / power);
}

/* Whether (value, index) comes before another in falling order; NaN last. */
static int before(float value, size_t index, float other, size_t other_index)
{
	if (value != value || other != other)
		return value == value || (other != other && index < other_index);
	return value > other || (value == other && index < other_index);
}

static void put_float(unsigned char *out, size_t i, float value)
{
	__builtin_memcpy(out + i * sizeof(value), &value, sizeof(value));
}

/* Finds the k-th in falling order by k passes, which needs no memory, then clears what comes after it. */
static void top_k(const float *in, size_t n, uint32_t k, unsigned char *out)
{
	size_t last = n;
	float threshold = 0.0f;

	for (uint32_t rank = 0; rank < k && rank < n; rank++) {
		size_t best = n;

		for (size_t i = 0; i < n; i++)
			if ((last == n || before(in[last], last, in[i], i)) && i != last &&
			    (best == n || before(in[i], i, in[best], best)))
				best = i;
		last = best;
	}
	threshold = in[last];
	for (size_t i = 0; i < n; i++) {
		float value = in[i];

		put_float(out, i, i == last || before(value, i, threshold, last) ? value : 0.0f);
	}
}

enum lb_error lb_policy_apply(uint32_t policy, uint32_t arg, const float *in, size_t n, void *out)
{
	uint32_t index;

	switch (policy) {
	case LB_POLICY_PROBS:
		if (arg)
			return LB_ERROR_POLICY;
		__builtin_memmove(out, in, n * sizeof(float));
		return LB_OK;
	case LB_POLICY_ROUNDED:
		if (arg > 6)
			return LB_ERROR_POLICY;
		for (size_t i = 0; i < n; i++)
			put_float(out, i, rounded(in[i], arg));
		return LB_OK;
	case LB_POLICY_TOPK:
		if (arg == 0 || arg > n)
			return LB_ERROR_POLICY;
		top_k(in, n, arg, out);
		return LB_OK;
	case LB_POLICY_LABEL:
		if (arg)
			return LB_ERROR_POLICY;
		index = label(in, n);
		__builtin_memcpy(out, &index, sizeof(index));
		return LB_OK;
	default: return LB_ERROR_POLICY;
	}
}
