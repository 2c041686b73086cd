/*
 * One tile of a convolution: up to 16 output channels of up to LB_TILE_PIXELS pixels, over the taps of one pass.
 * lb_conv2d() makes tiles; LB_RUN_TILE() of the file that is included at the end computes them.
 */
#ifndef CONV2D_TILE_H
#define CONV2D_TILE_H

#include "lb_kernels.h"
#include "lb_vector.h"

#define LB_TILE_PIXELS 6u /* 16 x 6 sums fill 24 of NEON's 32 registers, and 12 of AVX2's 16 */
#define LB_TILE_BLOCKS 2u /* of LB_V channels */
#define LB_TILE_SLACK 8u  /* floats behind a panel's last row that may be read, though not used */

/* Taps whose weights lie side by side. */
struct lb_run {
	uint32_t weight; /* floats from the block's first weight to the run's */
	uint32_t taps;
};

struct lb_tile {
	const float *weight; /* of the tile's first block */
	size_t block_stride; /* floats from one block of 8 channels to the next */
	const struct lb_run *runs;
	size_t n_runs;
	const float *panel; /* the tile's inputs: panel[tap * width + pixel], taps in the order of the runs */
	size_t width;       /* floats from one tap's inputs to the next one's */
	const float *bias;  /* [16]: the first pass starts from it; NULL: from `partial` */
	float *partial;     /* [blocks of the tile][width][8], at the tile's first pixel */
	int last;           /* the last pass stores to `out` instead of `partial` */
	float *out;         /* the tile's first channel and pixel */
	size_t plane;       /* floats from one output channel to the next */
	size_t channels;    /* valid ones, at most 8 * blocks */
	enum lb_activation activation;
};

/* `blocks` and `pixels` are constants in each function, so that the sums are registers. */
#define LB_TILE_FUNCTION(blocks, pixels)                                                                               \
	static __attribute__((noinline)) void tile_##blocks##x##pixels(const struct lb_tile *tile)                     \
	{                                                                                                              \
		run_tile(tile, blocks, pixels);                                                                        \
	}
#define LB_TILE_FUNCTIONS                                                                                              \
	LB_TILE_FUNCTION(1, 1)                                                                                         \
	LB_TILE_FUNCTION(1, 2)                                                                                         \
	LB_TILE_FUNCTION(1, 3)                                                                                         \
	LB_TILE_FUNCTION(1, 4)                                                                                         \
	LB_TILE_FUNCTION(1, 5)                                                                                         \
	LB_TILE_FUNCTION(1, 6)                                                                                         \
	LB_TILE_FUNCTION(2, 1)                                                                                         \
	LB_TILE_FUNCTION(2, 2)                                                                                         \
	LB_TILE_FUNCTION(2, 3)                                                                                         \
	LB_TILE_FUNCTION(2, 4)                                                                                         \
	LB_TILE_FUNCTION(2, 5)                                                                                         \
	LB_TILE_FUNCTION(2, 6)                                                                                         \
	static void (*const run_tile_of[LB_TILE_BLOCKS][LB_TILE_PIXELS])(const struct lb_tile *) = {                   \
		{tile_1x1, tile_1x2, tile_1x3, tile_1x4, tile_1x5, tile_1x6},                                          \
		{tile_2x1, tile_2x2, tile_2x3, tile_2x4, tile_2x5, tile_2x6},                                          \
	};

#if defined(LB_NEON)
#include "conv2d_tile_neon.h"
#elif defined(LB_VECTOR)
#include "conv2d_tile_vector.h"
#else
#include "conv2d_tile_plain.h"
#endif

#endif
