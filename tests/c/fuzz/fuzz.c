#define _POSIX_C_SOURCE 200809L
#include "fuzz.h"

#include "geometry.h"

void *fuzz_block(size_t bytes, int fill)
{
	void *memory = NULL;

	if (posix_memalign(&memory, LB_ALIGN, bytes ? bytes : 1))
		abort();
	memset(memory, fill, bytes ? bytes : 1);
	return memory;
}

/* Products of 32-bit words: saturated, so that no file can make a large one look small. */
static uint64_t times(uint64_t a, uint64_t b)
{
	uint64_t product;

	return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t op_work(const struct lb_model *model, const struct lb_op *op)
{
	const struct lb_tensor *in = lb_input(model, op, 0), *out = &model->tensors[op->output], *w;
	uint64_t each = 4;

	switch (op->kind) {
	case LB_OP_CONV2D:
		w = &model->tensors[op->weight];
		each = times(w->dims[1], times(w->dims[2], w->dims[3]));
		/* Rows and columns of padding are walked, too. */
		each = times(each + 1, 1 + (op->attr[2] + op->attr[3]) / 4);
		break;
	case LB_OP_LINEAR: each = in->dims[0]; break;
	case LB_OP_MAX_POOL2D:
	case LB_OP_AVG_POOL2D: each = times(op->attr[0], op->attr[1]); break;
	case LB_OP_ADAPTIVE_AVG_POOL2D: each = 1 + lb_elements(in) / out->dims[0]; break;
	default: break;
	}
	return times(each, lb_elements(out) + lb_elements(in));
}

uint64_t fuzz_work(const struct lb_model *model, uint32_t segment)
{
	uint64_t work = 0;

	if (segment >= model->header->n_segments)
		return 0;
	for (uint32_t i = 0; i < model->segments[segment].n_ops; i++) {
		uint64_t more = op_work(model, &model->ops[model->segments[segment].first_op + i]);

		work = more > UINT64_MAX - work ? UINT64_MAX : work + more;
	}
	return work;
}

static uint64_t work_left;

void fuzz_work_begins(void)
{
	work_left = FUZZ_MOST_WORK;
}

enum lb_error fuzz_segment_run(const struct lb_model *model, uint32_t segment, void *arena, void *scratch)
{
	uint64_t work = fuzz_work(model, segment);

	if (work > work_left)
		return LB_OK;
	work_left -= work;
	return lb_segment_run(model, segment, arena, scratch);
}

void fuzz_cursor_advance(const struct lb_model *model, struct lb_cursor *cursor, void *arena, void *scratch)
{
	uint64_t work = 0;

	for (uint32_t op = cursor->op; op < cursor->end && work <= work_left; op++) {
		uint64_t more = op_work(model, &model->ops[op]);

		work = more > UINT64_MAX - work ? UINT64_MAX : work + more;
	}
	if (work > work_left) {
		cursor->op = cursor->end;
		cursor->waiting = 0;
		return;
	}
	work_left -= work;
	lb_cursor_advance(model, cursor, arena, scratch);
}

enum lb_error fuzz_train_plan(const struct lb_model *model, struct lb_train_plan *plan)
{
	enum lb_error error = lb_train_plan(model, plan);

	return error == LB_OK && plan->bytes > FUZZ_MOST_TRAIN_BYTES ? LB_ERROR_SCRATCH : error;
}

/* Whether there is time left for a segment, so many times. */
static int spend(const struct lb_model *model, uint32_t segment, uint64_t factor)
{
	uint64_t work = times(fuzz_work(model, segment), factor);

	if (work > work_left)
		return 0;
	work_left -= work;
	return 1;
}

void fuzz_train_forward(struct lb_train *train, uint32_t segment)
{
	if (spend(&train->model, segment, 1))
		lb_train_forward(train, segment);
}

void fuzz_train_backward(struct lb_train *train, uint32_t segment)
{
	if (spend(&train->model, segment, 2))
		lb_train_backward(train, segment);
}

static uint32_t next_random(unsigned int *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

void fuzz_mutate_word(uint8_t *data, size_t size, unsigned int seed)
{
	uint32_t word, other, r = next_random(&seed);
	size_t words = size / sizeof(word), at;

	if (words == 0)
		return;
	at = next_random(&seed) % words * sizeof(word);
	memcpy(&word, data + at, sizeof(word));
	memcpy(&other, data + next_random(&seed) % words * sizeof(other), sizeof(other));
	switch (r % 8) {
	case 0: word = next_random(&seed) % 17; break;
	case 1: word++; break;
	case 2: word--; break;
	case 3: word = other; break;
	case 4: word = LB_ALIGN * (next_random(&seed) % 64); break;
	case 5: word = 1u << next_random(&seed) % 32; break;
	case 6: word = UINT32_MAX - next_random(&seed) % 64; break;
	default: word += other; break;
	}
	memcpy(data + at, &word, sizeof(word));
}

size_t fuzz_mutate_model(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	unsigned int state = seed;
	uint32_t bytes;

	if (next_random(&state) % 4 == 0 || size < sizeof(struct lb_model_header)) {
		size = LLVMFuzzerMutate(data, size, max_size);
	} else {
		/* Sizes and shapes must agree with each other in several places: one change is seldom enough. */
		for (uint32_t i = 1 + next_random(&state) % 3; i > 0; i--)
			fuzz_mutate_word(data, size, next_random(&state));
	}
	if (size >= sizeof(struct lb_model_header) && next_random(&state) % 16) {
		bytes = (uint32_t)size;
		memcpy(data + offsetof(struct lb_model_header, file_bytes), &bytes, sizeof(bytes));
	}
	return size;
}
