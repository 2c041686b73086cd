/* The first look at a file: header, sections, tensors, refs, segments. Ops and data flow have files of their own. */
#include "geometry.h"

static enum lb_error check_header(const struct lb_model_header *h, size_t file_bytes)
{
	if (h->magic != LB_MODEL_MAGIC)
		return LB_ERROR_MAGIC;
	if (h->version != LB_MODEL_VERSION)
		return LB_ERROR_VERSION;
	if (h->file_bytes != file_bytes)
		return LB_ERROR_FILE_SIZE;
	if (h->world != LB_WORLD_REE && h->world != LB_WORLD_TEE)
		return LB_ERROR_WORLD;
	if (h->n_tensors > LB_MAX_TENSORS || h->n_ops > LB_MAX_OPS || h->n_segments > LB_MAX_SEGMENTS ||
	    h->n_segments == 0 || h->n_refs > LB_MAX_REFS || h->n_slices > LB_MAX_SLICES)
		return LB_ERROR_COUNT;
	if (h->n_classes == 0 || h->n_classes > LB_MAX_DIM)
		return LB_ERROR_CLASSES;
	if (!h->n_slices && (h->slice_key_off || h->slice_bytes))
		return LB_ERROR_RESERVED;
	for (size_t i = 0; i < sizeof(h->reserved) / sizeof(h->reserved[0]); i++)
		if (h->reserved[i])
			return LB_ERROR_RESERVED;
	return LB_OK;
}

static enum lb_error check_sections(const struct lb_model_header *h)
{
	const struct {
		uint64_t at, bytes;
	} section[] = {
		{0, sizeof(*h)},
		{h->tensors_off, h->n_tensors * (uint64_t)sizeof(struct lb_tensor)},
		{h->ops_off, h->n_ops * (uint64_t)sizeof(struct lb_op)},
		{h->segments_off, h->n_segments * (uint64_t)sizeof(struct lb_segment)},
		{h->refs_off, h->n_refs * (uint64_t)sizeof(uint32_t)},
		{h->weights_off, h->weights_bytes},
		{h->slices_off, h->n_slices * (uint64_t)sizeof(struct lb_slice)},
		{h->slice_key_off, h->n_slices ? LB_SLICE_KEY_BYTES : 0},
	};
	const size_t n = sizeof(section) / sizeof(section[0]);

	for (size_t i = 0; i < n; i++) {
		if (section[i].at % LB_ALIGN || section[i].at + section[i].bytes > h->file_bytes)
			return LB_ERROR_SECTION;
		for (size_t j = 0; j < i; j++)
			if (section[i].bytes && section[j].bytes && section[i].at < section[j].at + section[j].bytes &&
			    section[j].at < section[i].at + section[i].bytes)
				return LB_ERROR_SECTION;
	}
	return LB_OK;
}

static enum lb_error check_policy(const struct lb_model *model)
{
	const struct lb_model_header *h = model->header;
	uint32_t last_world = model->segments[h->n_segments - 1u].world;

	switch (h->policy) {
	case 0:
		/* Who makes the answer states the policy: a normal-world end of a public file must. */
		if (h->policy_arg || (h->world == LB_WORLD_REE && last_world == LB_WORLD_REE))
			return LB_ERROR_POLICY;
		return LB_OK;
	case LB_POLICY_PROBS:
	case LB_POLICY_LABEL:
		if (h->policy_arg)
			return LB_ERROR_POLICY;
		break;
	case LB_POLICY_ROUNDED:
		if (h->policy_arg > 6)
			return LB_ERROR_POLICY;
		break;
	case LB_POLICY_TOPK:
		if (h->policy_arg == 0 || h->policy_arg > h->n_classes)
			return LB_ERROR_POLICY;
		break;
	default: return LB_ERROR_POLICY;
	}
	return h->world == last_world ? LB_OK : LB_ERROR_POLICY;
}

/* Which layouts there are for each element type and kind. */
static enum lb_error check_dtype(const struct lb_tensor *t)
{
	const int is_activation = t->kind == LB_TENSOR_ACTIVATION, is_plain = t->layout == LB_LAYOUT_PLAIN;

	if (t->kind != LB_TENSOR_ACTIVATION && t->kind != LB_TENSOR_WEIGHT && t->kind != LB_TENSOR_STREAMED)
		return LB_ERROR_TENSOR_KIND;
	if (t->layout > LB_LAYOUT_DOT4)
		return LB_ERROR_TENSOR_KIND;
	if (t->kind == LB_TENSOR_STREAMED && (t->dtype != LB_DTYPE_INT8 || t->layout != LB_LAYOUT_DOT4))
		return LB_ERROR_TENSOR_DTYPE;
	switch (t->dtype) {
	case LB_DTYPE_FLOAT32:
		return is_plain || (t->layout == LB_LAYOUT_PACKED8 && !is_activation) ? LB_OK : LB_ERROR_TENSOR_KIND;
	case LB_DTYPE_INT8:
		if (is_activation)
			return t->layout == (t->rank == 3 ? LB_LAYOUT_CHANNELS_LAST : LB_LAYOUT_PLAIN)
				       ? LB_OK
				       : LB_ERROR_TENSOR_KIND;
		return t->layout >= LB_LAYOUT_CHANNELS_LAST ? LB_OK : LB_ERROR_TENSOR_KIND;
	case LB_DTYPE_INT32: return is_plain && !is_activation ? LB_OK : LB_ERROR_TENSOR_DTYPE;
	default: return LB_ERROR_TENSOR_DTYPE;
	}
}

static enum lb_error check_scale(const struct lb_tensor *t)
{
	uint32_t bits;

	if (t->kind == LB_TENSOR_ACTIVATION && t->dtype == LB_DTYPE_INT8)
		return t->scale >= LB_MIN_SCALE && t->scale <= LB_MAX_SCALE ? LB_OK : LB_ERROR_TENSOR_SCALE;
	__builtin_memcpy(&bits, &t->scale, sizeof(bits));
	return bits ? LB_ERROR_TENSOR_SCALE : LB_OK;
}

static enum lb_error check_tensor(const struct lb_tensor *t, const struct lb_model_header *h)
{
	uint64_t bytes = lb_dtype_bytes(t->dtype), room;
	enum lb_error error = check_dtype(t);

	if (error == LB_OK)
		error = check_scale(t);
	if (error)
		return error;
	if (t->rank < 1 || t->rank > 4 || (t->kind == LB_TENSOR_ACTIVATION && t->rank != 1 && t->rank != 3))
		return LB_ERROR_TENSOR_SHAPE;
	for (uint32_t i = 0; i < 4; i++) {
		if (t->dims[i] < 1 || t->dims[i] > LB_MAX_DIM || (i >= t->rank && t->dims[i] != 1))
			return LB_ERROR_TENSOR_SHAPE;
		bytes *= t->dims[i]; /* below 2^30 * 2^24 */
		if (bytes > LB_MAX_TENSOR_BYTES)
			return LB_ERROR_TENSOR_SHAPE;
	}
	/* A packed tensor's size also depends on its groups, which the op knows. */
	if (t->layout == LB_LAYOUT_PACKED8 || t->layout == LB_LAYOUT_DOT4 ? t->bytes < bytes : t->bytes != bytes)
		return LB_ERROR_TENSOR_BYTES;
	if (t->kind == LB_TENSOR_STREAMED)
		return h->world == LB_WORLD_TEE && t->offset == 0 ? LB_OK : LB_ERROR_TENSOR_PLACE;
	room = t->kind == LB_TENSOR_ACTIVATION ? h->arena_bytes : h->weights_bytes;
	if (t->offset % LB_ALIGN || t->offset + (uint64_t)t->bytes > room)
		return LB_ERROR_TENSOR_PLACE;
	return LB_OK;
}

/* A range of refs that name activations; at least one, none twice. */
static enum lb_error check_io(const struct lb_model *model, uint32_t first, uint32_t n)
{
	if (n == 0 || n > LB_MAX_SEGMENTS)
		return LB_ERROR_SEGMENT_IO;
	if (first > model->header->n_refs || n > model->header->n_refs - first)
		return LB_ERROR_REF;
	for (uint32_t i = 0; i < n; i++) {
		const struct lb_tensor *a = &model->tensors[model->refs[first + i]];

		if (a->kind != LB_TENSOR_ACTIVATION)
			return LB_ERROR_SEGMENT_IO;
		for (uint32_t j = 0; j < i; j++) {
			const struct lb_tensor *b = &model->tensors[model->refs[first + j]];

			if (a->offset < (uint64_t)b->offset + b->bytes && b->offset < (uint64_t)a->offset + a->bytes)
				return LB_ERROR_SEGMENT_IO;
		}
	}
	return LB_OK;
}

static enum lb_error check_segments(struct lb_model *model)
{
	const struct lb_model_header *h = model->header;
	const struct lb_segment *last = &model->segments[h->n_segments - 1u];
	const struct lb_tensor *answer;
	uint32_t ops = 0;
	enum lb_error error;

	for (model->fault = 0; model->fault < h->n_segments; model->fault++) {
		const struct lb_segment *s = &model->segments[model->fault];

		if (s->reserved)
			return LB_ERROR_RESERVED;
		if (s->world != LB_WORLD_TEE && !(s->world == LB_WORLD_REE && h->world == LB_WORLD_REE))
			return LB_ERROR_SEGMENT_WORLD;
		if (h->world == LB_WORLD_REE && s->world == LB_WORLD_TEE) {
			if (s->n_ops || s->first_op > h->n_ops)
				return LB_ERROR_SEGMENT_RANGE;
		} else {
			/* A segment that only hands tensors on has no ops; its range may say 0. */
			if (s->n_ops > h->n_ops - ops || (s->n_ops && s->first_op != ops))
				return LB_ERROR_SEGMENT_RANGE;
			ops += s->n_ops;
		}
		error = check_io(model, s->first_input, s->n_inputs);
		if (error == LB_OK)
			error = check_io(model, s->first_output, s->n_outputs);
		if (error)
			return error;
	}
	model->fault = 0;
	if (ops != h->n_ops)
		return LB_ERROR_SEGMENT_RANGE;
	/* A query is one image, of floats. */
	if (h->world == LB_WORLD_REE &&
	    (model->segments[0].n_inputs != 1 ||
	     model->tensors[model->refs[model->segments[0].first_input]].dtype != LB_DTYPE_FLOAT32))
		return LB_ERROR_SEGMENT_IO;

	/* The answer: whole where the policy is applied; a label's 4 bytes may come from the TEE. */
	answer = &model->tensors[model->refs[last->first_output]];
	if (h->policy && (last->n_outputs != 1 || answer->rank != 1 || answer->dtype != LB_DTYPE_FLOAT32 ||
			  answer->dims[0] != h->n_classes))
		return LB_ERROR_CLASSES;
	if (h->world == LB_WORLD_REE && !h->policy &&
	    (last->n_outputs != 1 || answer->rank != 1 || answer->dtype != LB_DTYPE_FLOAT32 ||
	     (answer->dims[0] != h->n_classes && answer->dims[0] != 1)))
		return LB_ERROR_CLASSES;
	return LB_OK;
}

enum lb_error lb_model_parse(struct lb_model *model, const void *file, size_t file_bytes)
{
	const unsigned char *bytes = file;
	const struct lb_model_header *h = file;
	enum lb_error error;

	*model = (struct lb_model){.header = h};
	if ((uintptr_t)file % LB_ALIGN)
		return LB_ERROR_ALIGNMENT;
	if (file_bytes < sizeof(*h))
		return LB_ERROR_TRUNCATED;
	error = check_header(h, file_bytes);
	if (error == LB_OK)
		error = check_sections(h);
	if (error)
		return error;

	model->tensors = (const void *)(bytes + h->tensors_off);
	model->ops = (const void *)(bytes + h->ops_off);
	model->segments = (const void *)(bytes + h->segments_off);
	model->refs = (const void *)(bytes + h->refs_off);
	model->weights = bytes + h->weights_off;
	model->slices = (const void *)(bytes + h->slices_off);
	model->slice_key = h->n_slices ? bytes + h->slice_key_off : NULL;

	for (model->fault = 0; model->fault < h->n_tensors; model->fault++) {
		error = check_tensor(&model->tensors[model->fault], h);
		if (error)
			return error;
	}
	for (model->fault = 0; model->fault < h->n_refs; model->fault++)
		if (model->refs[model->fault] >= h->n_tensors)
			return LB_ERROR_REF;
	error = check_segments(model);
	if (error == LB_OK)
		error = check_policy(model);
	if (error)
		return error;
	for (model->fault = 0; model->fault < h->n_ops; model->fault++) {
		error = lb_check_op(model, &model->ops[model->fault]);
		if (error)
			return error;
	}
	error = lb_check_slices(model);
	return error ? error : lb_check_flow(model);
}
