/*
 * The binary model format, version 2: what suite/graph/format.py writes and what agent and TA read.
 *
 * Everything is little-endian, every field a 32-bit word, every section starts on a 64-byte boundary of the file.
 * A reader trusts nothing: lb_model_parse() (ta/runtime) checks every count, offset, shape and attribute before the
 * first use. A public file (world REE) lists every step of a query in order; its TEE segments have no ops, only the
 * shapes that cross. A sealed file (world TEE) holds the ops of the TEE segments, in the same order.
 *
 * Tensors have no batch dimension: (C,H,W) or (F,). Float32 activations are row-major, int8 ones channels last; an int8
 * activation stands for q * scale. Weight tensors are stored as below. What an operator on int8 computes, bit for bit,
 * lb_kernels_i8.h says.
 *
 * Filters of int8 operators may be left out of a sealed file: they are cut along the operator's output channels into
 * slices, which the normal world hands over, sealed each by itself, when their turn comes (struct lb_slice). So a layer
 * of any size runs in a TEE that holds its activations and one slice.
 *
 * The first segment has one input, the query's image; the last one has one output, the answer. In a public file a
 * tensor that several segments name is one entry at one place in the arena, so that what one segment leaves there the
 * next one finds. In a sealed file every segment has entries of its own; the segments share the arena's bytes, because
 * they run one after the other and keep nothing between two calls.
 *
 * Only the file that makes the answer states the output policy; the other one says 0. If the last segment is in the
 * TEE, its output in the sealed file is the whole float[n_classes], to which the TA applies the policy, and in the
 * public file it is what comes back: float[n_classes], or for LABEL a tensor with dims (1), whose 4 bytes are the
 * uint32 index. If it is in the REE, the agent applies the policy to the float[n_classes] that the segment leaves.
 * n_classes is the same in both files.
 */
#ifndef LB_MODEL_H
#define LB_MODEL_H

#include <stdint.h>

#define LB_MODEL_MAGIC 0x314D424Cu /* "LBM1" */
#define LB_MODEL_VERSION 2u
#define LB_ALIGN 64u   /* sections, and every tensor offset in arena and weights */
#define LB_LANES 8u    /* output channels packed side by side */
#define LB_I8_LANES 4u /* the same of int8, ... */
#define LB_I8_STEP 16u /* ... with this many inputs each */
#define LB_SLICE_KEY_BYTES 32u

enum lb_world { LB_WORLD_REE = 0, LB_WORLD_TEE = 1 };

enum lb_op_kind {
	LB_OP_CONV2D = 1,
	LB_OP_LINEAR = 2,
	LB_OP_BATCH_NORM = 3,
	LB_OP_RELU = 4,
	LB_OP_RELU6 = 5,
	LB_OP_MAX_POOL2D = 6,
	LB_OP_AVG_POOL2D = 7,
	LB_OP_ADAPTIVE_AVG_POOL2D = 8,
	LB_OP_ADD = 9,
	LB_OP_CONCAT = 10,
	LB_OP_FLATTEN = 11,
	LB_OP_SOFTMAX = 12,
	LB_OP_LEAKY_RELU = 13,
	LB_OP_QUANTIZE = 14,   /* float32 to int8 */
	LB_OP_DEQUANTIZE = 15, /* int8 to float32 */
};

/* What leaves the last segment. arg: decimals for ROUNDED, k for TOPK, else 0. */
enum lb_policy {
	LB_POLICY_PROBS = 1,   /* float[n_classes] */
	LB_POLICY_ROUNDED = 2, /* float[n_classes], rounded half to even to `arg` decimals (0..6) */
	LB_POLICY_TOPK = 3,    /* float[n_classes], all but the k largest set to 0 (ties: lower index wins) */
	LB_POLICY_LABEL = 4,   /* uint32 index of the largest (ties: lower index wins) */
};

enum lb_tensor_kind {
	LB_TENSOR_ACTIVATION = 1,
	LB_TENSOR_WEIGHT = 2,
	LB_TENSOR_STREAMED = 3, /* a filter that is not in the file: offset 0, and `bytes` of all its slices */
};

enum lb_dtype {
	LB_DTYPE_FLOAT32 = 0,
	LB_DTYPE_INT8 = 1,
	LB_DTYPE_INT32 = 2, /* biases of int8 operators */
};

/* How a tensor's elements are laid out; `dims` always holds the logical PyTorch shape. */
enum lb_layout {
	LB_LAYOUT_PLAIN = 0, /* row-major dims; biases, batch norm, filters with groups = C_in = C_out */
	/* conv (O, I/g, KH, KW), K = I/g*KH*KW, Og = O/g: float[g][ceil(Og/8)][K][8], missing channels 0.
	 * linear (O, I): the same with g = 1, K = I. */
	LB_LAYOUT_PACKED8 = 1,
	/* int8 activations: (H,W,C). int8 filters with groups = C_in = C_out: (KH,KW,O). */
	LB_LAYOUT_CHANNELS_LAST = 2,
	/* int8 conv, K = KH*KW*I/g in that order: int8[g][ceil(Og/4)][ceil(K/16)][4][16], what is missing 0.
	 * int8 linear: the same with g = 1, K = I. */
	LB_LAYOUT_DOT4 = 3,
};

struct lb_model_header {
	uint32_t magic;
	uint32_t version;
	uint32_t file_bytes; /* of the whole file */
	uint32_t world;
	uint32_t n_tensors, tensors_off;
	uint32_t n_ops, ops_off;
	uint32_t n_segments, segments_off;
	uint32_t n_refs, refs_off; /* uint32 tensor indices that ops and segments refer to by range */
	uint32_t weights_off, weights_bytes;
	uint32_t arena_bytes;        /* activations; the writer's planner assigns offsets in it */
	uint32_t policy, policy_arg; /* 0 in the file that does not make the answer */
	uint32_t n_classes;
	uint32_t model_id[4]; /* the same in the public and the sealed file of one deployment */
	uint32_t n_slices, slices_off;
	uint32_t slice_bytes;   /* of the largest slice */
	uint32_t slice_key_off; /* LB_SLICE_KEY_BYTES, a section like the others; 0 when there are no slices */
	uint32_t reserved[6];   /* 0 */
};

struct lb_tensor {
	uint32_t kind;
	uint32_t layout;
	uint32_t dtype;
	uint32_t rank;    /* 1..4 */
	uint32_t dims[4]; /* unused ones 1 */
	uint32_t offset;  /* bytes, into arena or weights */
	uint32_t bytes;
	float scale; /* of int8 activations, above 0 and finite; else 0 */
};

/* Attributes in `attr`, unused ones 0:
 *   CONV2D               stride_h stride_w pad_h pad_w dilation_h dilation_w groups
 *   MAX_POOL2D           kernel_h kernel_w stride_h stride_w pad_h pad_w dilation_h dilation_w ceil
 *   AVG_POOL2D           kernel_h kernel_w stride_h stride_w pad_h pad_w ceil count_include_pad
 *   ADAPTIVE_AVG_POOL2D  out_h out_w
 *   LEAKY_RELU           slope_bits
 * slope_bits are a float's, from 0 to 1.
 */
struct lb_op {
	uint32_t kind;
	uint32_t fused; /* 0, LB_OP_RELU or LB_OP_RELU6: applied to the result of CONV2D, LINEAR, BATCH_NORM, ADD */
	uint32_t first_input, n_inputs; /* range in refs */
	uint32_t output;
	uint32_t weight, bias; /* tensor indices; UINT32_MAX where the op has none (BATCH_NORM: scale, shift) */
	uint32_t multiplier;   /* float[O] of an int8 CONV2D or LINEAR; else UINT32_MAX */
	uint32_t attr[9];
};

struct lb_segment {
	uint32_t world;
	uint32_t first_op, n_ops;       /* n_ops = 0 for a TEE segment in a public file */
	uint32_t first_input, n_inputs; /* ranges in refs; the order in which tensors are passed */
	uint32_t first_output, n_outputs;
	uint32_t reserved;
};

/*
 * A part of a streamed filter: LB_LAYOUT_DOT4 of output channels first .. first + count - 1 of an op with groups = 1;
 * `first` is a multiple of 4. Slices lie in the order in which they are used: by op, then by channel, without a gap.
 */
struct lb_slice {
	uint32_t op;
	uint32_t first, count;
	uint32_t bytes;
};

#endif
