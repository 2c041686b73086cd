/*
 * Checking and running a model file (lb_model.h): shared by agent and TA.
 *
 * Nothing here allocates or keeps state. The caller owns the file's bytes, which must not change while the model is
 * in use (a TA therefore parses its own copy, never shared memory), the arena and the scratch; all three are aligned
 * to LB_ALIGN. After lb_model_parse() has returned LB_OK no byte of the file can lead a later call outside of them.
 */
#ifndef LB_RUNTIME_H
#define LB_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#include "lb_kernels.h"
#include "lb_kernels_i8.h"
#include "lb_model.h"

/* Caps, far above any model in use: they bound the work of parsing and keep every product below 2^64. */
#define LB_MAX_TENSORS 8192u
#define LB_MAX_OPS 4096u
#define LB_MAX_SEGMENTS 256u
#define LB_MAX_REFS 65536u
#define LB_MAX_SLICES 65536u
#define LB_MAX_DIM (1u << 24)
#define LB_MAX_TENSOR_BYTES (1u << 30)
#define LB_MAX_ATTR 4096u /* kernel sizes, strides, padding, dilation */
#define LB_MAX_SCRATCH_BYTES (1u << 30)
#define LB_MIN_SCALE 0x1p-100f /* of int8 tensors */
#define LB_MAX_SCALE 0x1p100f

#define LB_NONE UINT32_MAX /* an op without weights */

/* Every way in which a file can be wrong; lb_strerror() has the words. The values are part of the protocols. */
enum lb_error {
	LB_OK = 0,
	LB_ERROR_ALIGNMENT = 1,
	LB_ERROR_TRUNCATED = 2,
	LB_ERROR_MAGIC = 3,
	LB_ERROR_VERSION = 4,
	LB_ERROR_FILE_SIZE = 5,
	LB_ERROR_WORLD = 6,
	LB_ERROR_COUNT = 7,
	LB_ERROR_SECTION = 8,
	LB_ERROR_RESERVED = 9,
	LB_ERROR_POLICY = 10,
	LB_ERROR_CLASSES = 11,
	LB_ERROR_REF = 12,
	LB_ERROR_TENSOR_KIND = 13,
	LB_ERROR_TENSOR_SHAPE = 14,
	LB_ERROR_TENSOR_BYTES = 15,
	LB_ERROR_TENSOR_PLACE = 16,
	LB_ERROR_SEGMENT_WORLD = 17,
	LB_ERROR_SEGMENT_RANGE = 18,
	LB_ERROR_SEGMENT_IO = 19,
	LB_ERROR_OP_KIND = 20,
	LB_ERROR_OP_FUSED = 21,
	LB_ERROR_OP_ATTR = 22,
	LB_ERROR_OP_INPUTS = 23,
	LB_ERROR_OP_WEIGHTS = 24,
	LB_ERROR_OP_SHAPE = 25,
	LB_ERROR_OP_OVERLAP = 26,
	LB_ERROR_UNWRITTEN = 27,
	LB_ERROR_SCRATCH = 28,
	LB_ERROR_ARGUMENT = 29,
	LB_ERROR_TENSOR_DTYPE = 30,
	LB_ERROR_TENSOR_SCALE = 31,
	LB_ERROR_OP_DTYPE = 32,
	LB_ERROR_OP_SCALE = 33,
	LB_ERROR_OP_RANGE = 34,
	LB_ERROR_SLICE = 35,
	LB_ERROR_SLICE_MISSING = 36,
	LB_ERROR_TRAINING = 37,
};

/* A sentence without full stop, for people; never NULL. */
const char *lb_strerror(enum lb_error error);

/* A parsed file: pointers into the caller's bytes. */
struct lb_model {
	const struct lb_model_header *header;
	const struct lb_tensor *tensors;
	const struct lb_op *ops;
	const struct lb_segment *segments;
	const uint32_t *refs;
	const unsigned char *weights;
	const struct lb_slice *slices;
	const unsigned char *slice_key; /* LB_SLICE_KEY_BYTES; NULL when there are no slices */
	size_t scratch_bytes;           /* enough for every op of the file */
	uint32_t fault;                 /* after an error: index of the tensor, op, segment or ref at fault, else 0 */
};

enum lb_error lb_model_parse(struct lb_model *model, const void *file, size_t file_bytes);

/* Sums over a segment's tensors: what crosses when they are passed, concatenated in order. */
size_t lb_segment_input_bytes(const struct lb_model *model, uint32_t segment);
size_t lb_segment_output_bytes(const struct lb_model *model, uint32_t segment);

/* Between the arena and concatenated tensors, lb_segment_*_bytes() of them. */
void lb_segment_put_inputs(const struct lb_model *model, uint32_t segment, void *arena, const void *from);
void lb_segment_get_inputs(const struct lb_model *model, uint32_t segment, const void *arena, void *to);
void lb_segment_put_outputs(const struct lb_model *model, uint32_t segment, void *arena, const void *from);
void lb_segment_get_outputs(const struct lb_model *model, uint32_t segment, const void *arena, void *to);

/*
 * Runs the ops of a segment, whose inputs lie in the arena. LB_ERROR_ARGUMENT: no such segment. A segment without ops
 * (the secure world's, in a public file) does nothing. LB_ERROR_SLICE_MISSING: it has streamed filters; use a cursor.
 */
enum lb_error lb_segment_run(const struct lb_model *model, uint32_t segment, void *arena, void *scratch);

/*
 * A run of a segment that stops where it needs a slice. begin, then: advance until `waiting` is 0, and while it is 1
 * hand over slice `slice` of the model, whose bytes must be authentic.
 */
struct lb_cursor {
	uint32_t op, end; /* the next op, and the one behind the segment's last */
	uint32_t slice;   /* the next slice: the first one of the segment's that was not taken yet */
	uint32_t waiting; /* for that slice */
};

/* LB_ERROR_ARGUMENT: no such segment. */
enum lb_error lb_cursor_begin(const struct lb_model *model, uint32_t segment, struct lb_cursor *cursor);

/* How many slices the segment still takes. */
uint32_t lb_cursor_missing(const struct lb_model *model, const struct lb_cursor *cursor);

/* Runs ops up to the end or to one that wants a slice. */
void lb_cursor_advance(const struct lb_model *model, struct lb_cursor *cursor, void *arena, void *scratch);

/*
 * Computes the output channels of the slice that is waited for. `data`: its filter, lb_slice.bytes, aligned to
 * LB_ALIGN; not read afterwards. LB_ERROR_ARGUMENT: none is waited for, or `bytes` is not its size.
 * LB_ERROR_OP_RANGE: it has a weight of -128.
 */
enum lb_error lb_cursor_take(const struct lb_model *model, struct lb_cursor *cursor, void *arena, void *scratch,
			     const void *data, size_t bytes);

/* Bytes that lb_policy_apply() writes: 4 * n, or 4 for the label. */
size_t lb_policy_bytes(uint32_t policy, size_t n);

/*
 * Writes what `policy` lets out of n >= 1 values; `out` (lb_policy_bytes(), any alignment) may be `in` itself.
 * Ties go to the lower index. A NaN counts as the largest for LABEL and as the smallest for TOPK, as in NumPy.
 * LB_ERROR_POLICY: no such policy, or its argument is out of range; nothing is written.
 */
enum lb_error lb_policy_apply(uint32_t policy, uint32_t arg, const float *in, size_t n, void *out);

#endif
