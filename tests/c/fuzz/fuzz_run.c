/* Runs what the parser accepted, twice, in memory filled differently: equal results show that nothing old is read. */
#include "fuzz.h"

#define MOST_MEMORY 262144u

struct memory {
	unsigned char *arena, *scratch;
};

static void *outputs(const struct lb_model *model, uint32_t segment, const struct memory *memory, size_t bytes)
{
	const struct lb_model_header *h = model->header;
	const struct lb_tensor *answer = &model->tensors[model->refs[model->segments[segment].first_output]];
	size_t answer_bytes = lb_policy_bytes(h->policy, h->n_classes);
	unsigned char *out;

	if (!h->policy || segment + 1u < h->n_segments) {
		out = fuzz_block(bytes, 0);
		lb_segment_get_outputs(model, segment, memory->arena, out);
		return out;
	}
	out = fuzz_block(answer_bytes, 0);
	FUZZ_PROMISE(lb_policy_apply(h->policy, h->policy_arg, (const float *)(void *)(memory->arena + answer->offset),
				     h->n_classes, out) == LB_OK);
	return out;
}

/* With slices of zeros, where it takes any. */
static void compute(const struct lb_model *model, uint32_t segment, const struct memory *memory)
{
	struct lb_cursor cursor;

	if (!model->header->n_slices) {
		FUZZ_PROMISE(lb_segment_run(model, segment, memory->arena, memory->scratch) == LB_OK);
		return;
	}
	FUZZ_PROMISE(lb_cursor_begin(model, segment, &cursor) == LB_OK);
	for (lb_cursor_advance(model, &cursor, memory->arena, memory->scratch); cursor.waiting;
	     lb_cursor_advance(model, &cursor, memory->arena, memory->scratch)) {
		size_t bytes = model->slices[cursor.slice].bytes;
		unsigned char *slice = fuzz_block(bytes, 0);

		FUZZ_PROMISE(lb_cursor_take(model, &cursor, memory->arena, memory->scratch, slice, bytes) == LB_OK);
		free(slice);
	}
}

/* One segment in one memory; what it gives, for the caller to free. */
static unsigned char *run(const struct lb_model *model, uint32_t segment, const struct memory *memory)
{
	const struct lb_segment *s = &model->segments[segment];
	const int is_elsewhere = model->header->world == LB_WORLD_REE && s->world == LB_WORLD_TEE;
	size_t in_bytes = lb_segment_input_bytes(model, segment), out_bytes = lb_segment_output_bytes(model, segment);
	unsigned char *in = fuzz_block(in_bytes, 0x3e), *out;

	if (model->header->world == LB_WORLD_TEE || segment == 0)
		lb_segment_put_inputs(model, segment, memory->arena, in);
	lb_segment_get_inputs(model, segment, memory->arena, in);
	free(in);
	compute(model, segment, memory);
	if (!is_elsewhere)
		return outputs(model, segment, memory, out_bytes);
	out = fuzz_block(out_bytes, 0x3d);
	lb_segment_put_outputs(model, segment, memory->arena, out);
	return out;
}

static void run_twice(const struct lb_model *model)
{
	const struct lb_model_header *h = model->header;
	struct memory memories[2];

	for (int i = 0; i < 2; i++) {
		memories[i].arena = fuzz_block(h->arena_bytes, i ? 0xff : 0);
		memories[i].scratch = fuzz_block(model->scratch_bytes, i ? 0xff : 0);
	}
	for (uint32_t s = 0; s < h->n_segments; s++) {
		const int is_answer = h->policy && s + 1u == h->n_segments;
		size_t bytes = is_answer ? lb_policy_bytes(h->policy, h->n_classes) : lb_segment_output_bytes(model, s);
		unsigned char *a = run(model, s, &memories[0]), *b = run(model, s, &memories[1]);

		FUZZ_PROMISE(memcmp(a, b, bytes) == 0);
		free(a);
		free(b);
	}
	for (int i = 0; i < 2; i++) {
		free(memories[i].arena);
		free(memories[i].scratch);
	}
}

void fuzz_run_model(const struct lb_model *model)
{
	uint64_t work = 0;

	if (model->header->arena_bytes > MOST_MEMORY || model->scratch_bytes > MOST_MEMORY)
		return;
	for (uint32_t s = 0; s < model->header->n_segments; s++) {
		uint64_t more = fuzz_work(model, s);

		if (more > FUZZ_MOST_WORK - work)
			return;
		work += more;
	}
	run_twice(model);
	fuzz_train_model(model);
}

uint32_t fuzz_tiny_model(uint8_t *file, size_t room)
{
	struct {
		struct lb_model_header header;
		_Alignas(LB_ALIGN) struct lb_tensor tensors[2];
		_Alignas(LB_ALIGN) struct lb_op op;
		_Alignas(LB_ALIGN) struct lb_segment segment;
		_Alignas(LB_ALIGN) uint32_t refs[2];
	} tiny;

	FUZZ_PROMISE(sizeof(tiny) <= room);
	memset(&tiny, 0, sizeof(tiny));
	tiny.header = (struct lb_model_header){
		.magic = LB_MODEL_MAGIC,
		.version = LB_MODEL_VERSION,
		.file_bytes = sizeof(tiny),
		.world = LB_WORLD_TEE,
		.n_tensors = 2,
		.tensors_off = (uint32_t)((char *)tiny.tensors - (char *)&tiny),
		.n_ops = 1,
		.ops_off = (uint32_t)((char *)&tiny.op - (char *)&tiny),
		.n_segments = 1,
		.segments_off = (uint32_t)((char *)&tiny.segment - (char *)&tiny),
		.n_refs = 2,
		.refs_off = (uint32_t)((char *)tiny.refs - (char *)&tiny),
		.weights_off = sizeof(tiny),
		.arena_bytes = 2u * LB_ALIGN,
		.policy = LB_POLICY_PROBS,
		.n_classes = 2,
		.model_id = {0x54494e59u, 1, 2, 3},
	};
	for (uint32_t i = 0; i < 2; i++)
		tiny.tensors[i] = (struct lb_tensor){.kind = LB_TENSOR_ACTIVATION,
						     .rank = 1,
						     .dims = {2, 1, 1, 1},
						     .offset = i * LB_ALIGN,
						     .bytes = FUZZ_TINY_IN_BYTES};
	tiny.op = (struct lb_op){.kind = LB_OP_SOFTMAX,
				 .n_inputs = 1,
				 .output = 1,
				 .weight = LB_NONE,
				 .bias = LB_NONE,
				 .multiplier = LB_NONE};
	tiny.segment = (struct lb_segment){
		.world = LB_WORLD_TEE, .n_ops = 1, .n_inputs = 1, .first_output = 1, .n_outputs = 1};
	tiny.refs[1] = 1;
	memcpy(file, &tiny, sizeof(tiny));
	return sizeof(tiny);
}
