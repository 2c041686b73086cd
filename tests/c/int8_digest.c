/*
 * Runs the int8 kernels on drawn shapes and numbers and prints a digest of each result: the same on every machine,
 * whatever the compiler made of the kernels.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lb_kernels_i8.h"

#define ROUNDS 400u
#define MAX_BYTES (1u << 20)

static uint64_t state = 1;
static int8_t *in, *other, *weight, *out;
static int32_t bias[256];
static float multiplier[256], *floats;

static uint32_t draw(uint32_t low, uint32_t high)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return low + (uint32_t)(state >> 33) % (high - low + 1u);
}

static void *allocate(size_t bytes)
{
	void *memory = NULL;

	if (posix_memalign(&memory, 64, bytes))
		exit(2);
	return memory;
}

static void fill(void)
{
	for (size_t i = 0; i < MAX_BYTES / 16; i++) {
		in[i] = (int8_t)draw(0, 255);
		other[i] = (int8_t)draw(0, 255);
		weight[i] = (int8_t)((int)draw(0, 254) - 127);
		floats[i] = (float)(int)draw(0, 2000) / 7.0f - 140.0f;
	}
	for (size_t i = 0; i < 256; i++) {
		bias[i] = (int32_t)draw(0, 200000) - 100000;
		multiplier[i] = (float)draw(1, 1000) * 1e-6f;
	}
	floats[draw(0, 99)] = __builtin_nanf("");
	floats[draw(0, 99)] = __builtin_inff();
}

static void print(const char *what, const void *bytes, size_t n)
{
	uint64_t digest = 14695981039346656037u;

	for (size_t i = 0; i < n; i++)
		digest = (digest ^ ((const unsigned char *)bytes)[i]) * 1099511628211u;
	printf("%s %016llx\n", what, (unsigned long long)digest);
}

static uint32_t slide(uint32_t size, uint32_t kernel, uint32_t stride, uint32_t pad, uint32_t dilation)
{
	uint32_t extent = dilation * (kernel - 1u) + 1u;

	return size + 2u * pad < extent ? 0 : (size + 2u * pad - extent) / stride + 1u;
}

static void convolve(void)
{
	static const uint32_t channels[] = {1, 3, 16, 32, 48, 20};
	uint32_t groups = draw(0, 3) ? 1 : 2, kernel = draw(1, 5), stride = draw(1, 2), pad = draw(0, 3);
	uint32_t dilation = draw(0, 3) ? 1 : 2, size = draw(1, 14), to = slide(size, kernel, stride, pad, dilation);
	struct lb_conv2d_i8 s = {{groups * channels[draw(0, 5)], size, size, groups * draw(1, 21), to, to, kernel,
				  kernel, stride, stride, pad, pad, dilation, dilation, groups, LB_ACTIVATION_NONE},
				 0,
				 0,
				 draw(0, 1) ? 0 : -128,
				 127};
	void *scratch;

	if (!to)
		return;
	s.count = s.conv.out_c;
	scratch = allocate(lb_conv2d_i8_scratch_bytes(&s) + 1);
	lb_conv2d_i8(&s, in, weight, bias, multiplier, out, scratch);
	print("conv2d", out, (size_t)s.conv.out_c * to * to);
	free(scratch);
	s.conv.groups = s.conv.out_c = s.count = s.conv.in_c;
	lb_conv2d_depthwise_i8(&s, in, weight, bias, multiplier, out);
	print("depthwise", out, (size_t)s.conv.out_c * to * to);
}

static void multiply(void)
{
	struct lb_linear_i8 s = {draw(1, 300), draw(1, 40), 0, 0, -128, 127};
	void *scratch = allocate(lb_linear_i8_scratch_bytes(s.in_features) + 1);

	s.count = s.out_features;
	lb_linear_i8(&s, in, weight, bias, multiplier, out, scratch);
	print("linear", out, s.out_features);
	lb_linear_i8_f32(&s, in, weight, bias, multiplier, floats + 4096, scratch);
	print("linear_f32", floats + 4096, s.out_features * sizeof(float));
	free(scratch);
}

static void pool(void)
{
	uint32_t size = draw(2, 11), kernel = draw(1, 4), stride = draw(1, 3), pad = draw(0, kernel / 2);
	uint32_t to = slide(size, kernel, stride, pad, 1), channels = draw(1, 40);
	struct lb_pool2d p = {channels, size, size, to, to, kernel, kernel, stride, stride, pad, pad, 1, 1, draw(0, 1)};

	if (to) {
		lb_max_pool2d_i8(&p, in, out);
		print("max_pool2d", out, (size_t)channels * to * to);
		lb_avg_pool2d_i8(&p, in, out);
		print("avg_pool2d", out, (size_t)channels * to * to);
	}
	to = draw(1, size);
	lb_adaptive_avg_pool2d_i8(channels, size, size, to, to, in, out);
	print("adaptive_avg_pool2d", out, (size_t)channels * to * to);
}

static void elementwise(void)
{
	size_t channels = draw(1, 20), plane = draw(1, 70), n = channels * plane;
	float ratio = (float)draw(1, 6400) / 100.0f;

	lb_add_i8(n, -128, 127, ratio, in, 1.0f / ratio, other, out);
	print("add", out, n);
	lb_concat_part_i8(plane, channels, 1, channels + 2, ratio, in, out);
	print("concat", out, 1 + (plane - 1) * (channels + 2) + channels);
	lb_quantize(channels, plane, ratio, floats, out);
	print("quantize", out, n);
	lb_dequantize(channels, plane, ratio, in, floats + 4096);
	print("dequantize", floats + 4096, n * sizeof(float));
}

int main(void)
{
	in = allocate(MAX_BYTES);
	other = allocate(MAX_BYTES);
	weight = allocate(MAX_BYTES);
	out = allocate(MAX_BYTES);
	floats = allocate(MAX_BYTES);
	memset(in, 0, MAX_BYTES);
	memset(weight, 0, MAX_BYTES);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		if (i % 50 == 0)
			fill();
		memset(out, 0x55, MAX_BYTES / 8);
		convolve();
		multiply();
		pool();
		elementwise();
	}
	return 0;
}
