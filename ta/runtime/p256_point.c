/* y^2 = x^3 - 3x + b modulo the prime of NIST P-256 (FIPS 186-4, D.1.2.3). Numbers are 8 words, the lowest first. */
#include "lb_sealed_check.h"

#define WORDS 8

static const uint32_t prime[WORDS] = {0xFFFFFFFFu, 0xFFFFFFFFu, 0xFFFFFFFFu, 0, 0, 0, 1, 0xFFFFFFFFu};
static const uint32_t curve_b[WORDS] = {0x27D2604Bu, 0x3BCE3C3Eu, 0xCC53B0F6u, 0x651D06B0u,
					0x769886BCu, 0xB3EBBD55u, 0xAA3A93E7u, 0x5AC635D8u};

static void load(uint32_t number[WORDS], const uint8_t bytes[4 * WORDS])
{
	for (unsigned i = 0; i < WORDS; i++) {
		const uint8_t *word = bytes + 4u * (WORDS - 1u - i);

		number[i] = (uint32_t)word[0] << 24 | (uint32_t)word[1] << 16 | (uint32_t)word[2] << 8 | word[3];
	}
}

/* to = a - b modulo 2^256; 1 when that borrowed. */
static uint32_t subtract(uint32_t to[WORDS], const uint32_t a[WORDS], const uint32_t b[WORDS])
{
	uint64_t borrow = 0;

	for (unsigned i = 0; i < WORDS; i++) {
		uint64_t difference = (uint64_t)a[i] - b[i] - borrow;

		to[i] = (uint32_t)difference;
		borrow = difference >> 63;
	}
	return (uint32_t)borrow;
}

static int is_reduced(const uint32_t number[WORDS])
{
	uint32_t ignored[WORDS];

	return (int)subtract(ignored, number, prime);
}

/* to = a + b modulo the prime; any of them may be the same. */
static void add(uint32_t to[WORDS], const uint32_t a[WORDS], const uint32_t b[WORDS])
{
	uint64_t carry = 0;

	for (unsigned i = 0; i < WORDS; i++) {
		carry += (uint64_t)a[i] + b[i];
		to[i] = (uint32_t)carry;
		carry >>= 32;
	}
	if (carry || !is_reduced(to))
		subtract(to, to, prime);
}

/* to = a * b modulo the prime, bit by bit: it runs three times a model. `to` is neither. */
static void multiply(uint32_t to[WORDS], const uint32_t a[WORDS], const uint32_t b[WORDS])
{
	__builtin_memset(to, 0, WORDS * sizeof(*to));
	for (unsigned bit = 32 * WORDS; bit-- > 0;) {
		add(to, to, to);
		if (b[bit / 32] >> bit % 32 & 1u)
			add(to, to, a);
	}
}

int lb_p256_is_point(const uint8_t key[LB_SEALED_KEY_BYTES])
{
	uint32_t x[WORDS], y[WORDS], left[WORDS], square[WORDS], right[WORDS], minus_x[WORDS], differs = 0;

	load(x, key);
	load(y, key + 4 * WORDS);
	if (!is_reduced(x) || !is_reduced(y))
		return 0;
	multiply(left, y, y);
	multiply(square, x, x);
	multiply(right, square, x);
	subtract(minus_x, prime, x); /* the prime itself for 0, which add() takes as well */
	for (int i = 0; i < 3; i++)
		add(right, right, minus_x);
	add(right, right, curve_b);
	for (unsigned i = 0; i < WORDS; i++)
		differs |= left[i] ^ right[i];
	return differs == 0;
}
