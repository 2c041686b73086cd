/*
 * Graphs of consistent shapes, built from the input: what random words seldom hit. Every one must be accepted, and its
 * kernels run under the sanitizers at shapes, strides, paddings and channel counts that no victim has.
 */
#include "fuzz.h"

#include "geometry.h"

#define MOST_OPS 6u
#define MOST_TENSORS 32u
#define MOST_FLOATS 8192u /* of all weights */

struct builder {
	struct lb_tensor tensors[MOST_TENSORS];
	struct lb_op ops[MOST_OPS + 1u];
	uint32_t refs[2u * MOST_OPS + 4u];
	uint32_t n_tensors, n_ops, n_refs;
	uint32_t arena_bytes, weights_bytes;
	uint32_t current; /* the newest activation */
};

static uint32_t add_tensor(struct builder *b, uint32_t kind, uint32_t rank, uint32_t d0, uint32_t d1, uint32_t d2,
			   uint32_t d3, uint32_t bytes)
{
	uint32_t *room = kind == LB_TENSOR_WEIGHT ? &b->weights_bytes : &b->arena_bytes;

	b->tensors[b->n_tensors] = (struct lb_tensor){
		.kind = kind, .rank = rank, .dims = {d0, d1, d2, d3}, .offset = *room, .bytes = bytes};
	*room += (bytes + LB_ALIGN - 1u) / LB_ALIGN * LB_ALIGN;
	return b->n_tensors++;
}

static uint32_t add_activation(struct builder *b, uint32_t c, uint32_t h, uint32_t w)
{
	return add_tensor(b, LB_TENSOR_ACTIVATION, 3, c, h, w, 1, c * h * w * 4u);
}

static uint32_t add_vector(struct builder *b, uint32_t kind, uint32_t n)
{
	return add_tensor(b, kind, 1, n, 1, 1, 1, n * 4u);
}

static struct lb_op *add_op(struct builder *b, uint32_t kind, uint32_t fused)
{
	struct lb_op *op = &b->ops[b->n_ops++];

	*op = (struct lb_op){.kind = kind,
			     .fused = fused % 3 == 1   ? LB_OP_RELU
				      : fused % 3 == 2 ? LB_OP_RELU6
						       : 0,
			     .first_input = b->n_refs,
			     .n_inputs = 1,
			     .weight = LB_NONE,
			     .bias = LB_NONE,
			     .multiplier = LB_NONE};
	b->refs[b->n_refs++] = b->current;
	return op;
}

/* PyTorch's formula; 0: the window does not fit. */
static uint32_t slide(uint32_t in, uint32_t kernel, uint32_t stride, uint32_t pad, uint32_t dilation, uint32_t ceil)
{
	uint32_t extent = dilation * (kernel - 1u) + 1u, out;

	if (in + 2u * pad < extent)
		return 0;
	out = (in + 2u * pad - extent + (ceil ? stride - 1u : 0)) / stride + 1u;
	return ceil && (out - 1u) * stride >= in + pad ? out - 1u : out;
}

static void add_conv(struct builder *b, struct input *input)
{
	const struct lb_tensor in = b->tensors[b->current];
	const uint32_t style = take8(input), fused = take8(input), out_each = 1u + take8(input) % 40u;
	const uint32_t kernel_h = 1u + take8(input) % 5u, kernel_w = 1u + take8(input) % 5u;
	uint32_t attr[6], groups = 1, out_c, out_h, out_w, plain = 0, bytes;
	struct lb_op *op;

	for (uint32_t i = 0; i < 6; i++) /* stride, pad, dilation */
		attr[i] = (i / 2 == 1 ? 0u : 1u) + take8(input) % 4u;
	if (style % 4 == 1 && in.dims[0] % 2 == 0)
		groups = 2;
	if (style % 4 >= 2)
		groups = in.dims[0];
	plain = style % 4 == 3;
	out_c = groups == in.dims[0] ? groups * (1u + out_each % 3u) : groups * out_each;
	out_h = slide(in.dims[1], kernel_h, attr[0], attr[2], attr[4], 0);
	out_w = slide(in.dims[2], kernel_w, attr[1], attr[3], attr[5], 0);
	bytes = 4u * (plain ? out_c : groups * ((out_c / groups + 7u) / 8u * 8u)) * (in.dims[0] / groups) * kernel_h *
		kernel_w;
	if (!out_h || !out_w || b->weights_bytes + bytes > 4u * MOST_FLOATS)
		return;
	op = add_op(b, LB_OP_CONV2D, fused);
	memcpy(op->attr, attr, sizeof(attr));
	op->attr[6] = groups;
	op->weight = add_tensor(b, LB_TENSOR_WEIGHT, 4, out_c, in.dims[0] / groups, kernel_h, kernel_w, bytes);
	b->tensors[op->weight].layout = plain ? LB_LAYOUT_PLAIN : LB_LAYOUT_PACKED8;
	op->bias = add_vector(b, LB_TENSOR_WEIGHT, out_c);
	op->output = b->current = add_activation(b, out_c, out_h, out_w);
}

static void add_pool(struct builder *b, struct input *input, uint32_t kind)
{
	const struct lb_tensor in = b->tensors[b->current];
	uint32_t attr[9] = {0}, out_h, out_w, ceil = take8(input) % 2u, more = take8(input);
	struct lb_op *op;

	for (uint32_t i = 0; i < 6; i++)
		attr[i] = i < 4 ? 1u + take8(input) % 6u : take8(input) % (attr[i - 4] / 2u + 1u);
	if (kind == LB_OP_MAX_POOL2D) {
		attr[6] = 1u + more % 3u;
		attr[7] = 1u + more / 3u % 3u;
		attr[8] = ceil;
	} else {
		attr[6] = ceil;
		attr[7] = more % 2u;
	}
	out_h = slide(in.dims[1], attr[0], attr[2], attr[4], kind == LB_OP_MAX_POOL2D ? attr[6] : 1, ceil);
	out_w = slide(in.dims[2], attr[1], attr[3], attr[5], kind == LB_OP_MAX_POOL2D ? attr[7] : 1, ceil);
	if (!out_h || !out_w)
		return;
	op = add_op(b, kind, 0);
	memcpy(op->attr, attr, sizeof(attr));
	op->output = b->current = add_activation(b, in.dims[0], out_h, out_w);
}

/* Ops that keep the shape, or nearly; in place where the input says so. */
static void add_other(struct builder *b, struct input *input, uint32_t kind)
{
	const struct lb_tensor in = b->tensors[b->current];
	const uint32_t fused = take8(input), in_place = take8(input) % 2u, from = b->current;
	uint32_t channels = in.dims[0], height = in.dims[1], width = in.dims[2];
	struct lb_op *op = add_op(b, kind, kind == LB_OP_ADD || kind == LB_OP_BATCH_NORM ? fused : 0);

	if (kind == LB_OP_ADAPTIVE_AVG_POOL2D) {
		op->attr[0] = height = 1u + fused % 9u;
		op->attr[1] = width = 1u + fused / 9u % 9u;
	} else if (kind == LB_OP_ADD || kind == LB_OP_CONCAT) {
		b->refs[b->n_refs++] = from;
		op->n_inputs = 2;
	} else if (kind == LB_OP_BATCH_NORM) {
		op->weight = add_vector(b, LB_TENSOR_WEIGHT, channels);
		op->bias = add_vector(b, LB_TENSOR_WEIGHT, channels);
	}
	if (kind == LB_OP_CONCAT)
		channels *= 2u;
	b->current = add_activation(b, channels, height, width);
	op->output = b->current;
	if (in_place && kind != LB_OP_CONCAT && kind != LB_OP_ADAPTIVE_AVG_POOL2D)
		b->tensors[b->current].offset = in.offset;
}

static void add_end(struct builder *b, struct input *input)
{
	const struct lb_tensor *in = &b->tensors[b->current];
	uint32_t features = (uint32_t)lb_elements(in), classes = 1u + take8(input) % 40u, fused = take8(input);
	uint32_t bytes = 4u * ((classes + 7u) / 8u * 8u) * features;
	struct lb_op *op = add_op(b, LB_OP_FLATTEN, 0);

	op->output = b->current = add_vector(b, LB_TENSOR_ACTIVATION, features);
	if (features && b->weights_bytes + bytes <= 4u * MOST_FLOATS) {
		op = add_op(b, LB_OP_LINEAR, fused);
		op->weight = add_tensor(b, LB_TENSOR_WEIGHT, 2, classes, features, 1, 1, bytes);
		b->tensors[op->weight].layout = LB_LAYOUT_PACKED8;
		op->bias = add_vector(b, LB_TENSOR_WEIGHT, classes);
		op->output = b->current = add_vector(b, LB_TENSOR_ACTIVATION, classes);
	}
	op = add_op(b, LB_OP_SOFTMAX, 0);
	op->output = b->current = add_vector(b, LB_TENSOR_ACTIVATION, b->tensors[b->current].dims[0]);
}

/* Floats of both signs from 2^-3 to 2^3; every 61st as the input says: infinite, not a number, denormal, any. */
static void fill_weights(unsigned char *at, uint32_t bytes, uint32_t special)
{
	for (uint32_t i = 0; i < bytes / 4u; i++) {
		uint32_t r = (i + 1u) * 2654435761u, bits = (r & 0x807fffffu) | (124u + (r >> 24) % 7u) << 23;

		if (i % 61u == special % 61u)
			bits = special;
		memcpy(at + 4u * i, &bits, sizeof(bits));
	}
}

static uint32_t put(unsigned char *file, uint32_t *at, const void *data, size_t bytes)
{
	uint32_t start = *at;

	memcpy(file + start, data, bytes);
	*at = (uint32_t)((start + bytes + LB_ALIGN - 1u) / LB_ALIGN * LB_ALIGN);
	return start;
}

/* Everything in one segment of the secure world. */
static unsigned char *write_file(struct builder *b, uint32_t policy, uint32_t special, uint32_t *bytes)
{
	const uint32_t classes = b->tensors[b->current].dims[0];
	struct lb_segment segment = {.world = LB_WORLD_TEE, .n_ops = b->n_ops, .n_inputs = 1, .n_outputs = 1};
	struct lb_model_header h = {.magic = LB_MODEL_MAGIC, .version = LB_MODEL_VERSION, .world = LB_WORLD_TEE};
	unsigned char *file = fuzz_block(16384u + b->weights_bytes, 0), *exact;
	uint32_t at = sizeof(h);

	segment.first_input = b->n_refs;
	b->refs[b->n_refs++] = 0;
	segment.first_output = b->n_refs;
	b->refs[b->n_refs++] = b->current;
	h.n_tensors = b->n_tensors;
	h.tensors_off = put(file, &at, b->tensors, b->n_tensors * sizeof(b->tensors[0]));
	h.n_ops = b->n_ops;
	h.ops_off = put(file, &at, b->ops, b->n_ops * sizeof(b->ops[0]));
	h.n_segments = 1;
	h.segments_off = put(file, &at, &segment, sizeof(segment));
	h.n_refs = b->n_refs;
	h.refs_off = put(file, &at, b->refs, b->n_refs * sizeof(b->refs[0]));
	h.weights_off = at;
	h.weights_bytes = b->weights_bytes;
	fill_weights(file + at, b->weights_bytes, special);
	h.arena_bytes = b->arena_bytes;
	h.n_classes = classes;
	h.policy = 1u + policy % 4u;
	h.policy_arg = h.policy == LB_POLICY_ROUNDED ? policy / 4u % 7u
		       : h.policy == LB_POLICY_TOPK  ? 1u + policy / 4u % classes
						     : 0;
	h.file_bytes = *bytes = at + b->weights_bytes;
	memcpy(file, &h, sizeof(h));
	exact = fuzz_block(*bytes, 0);
	memcpy(exact, file, *bytes);
	free(file);
	return exact;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct builder b = {.n_refs = 0};
	struct lb_model model;
	uint32_t channels = 1u + take8(&input) % 24u, height = 1u + take8(&input) % 16u;
	uint32_t width = 1u + take8(&input) % 16u, policy = take8(&input), special = take32(&input), bytes;
	enum lb_error error;
	unsigned char *file;

	b.current = add_activation(&b, channels, height, width);
	while (b.n_ops < MOST_OPS - 2u && input.left) {
		uint32_t kind = 1u + take8(&input) % 10u;

		if (b.arena_bytes > 65536u)
			break;
		if (kind == LB_OP_CONV2D || kind == LB_OP_LINEAR)
			add_conv(&b, &input);
		else if (kind == LB_OP_MAX_POOL2D || kind == LB_OP_AVG_POOL2D)
			add_pool(&b, &input, kind);
		else
			add_other(&b, &input, kind);
	}
	add_end(&b, &input);
	file = write_file(&b, policy, special, &bytes);
	error = lb_model_parse(&model, file, bytes);
	FUZZ_PROMISE(error == LB_OK);
	fuzz_run_model(&model);
	free(file);
	return 0;
}
