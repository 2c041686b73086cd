/* Runs of a segment that stop where a filter comes in slices. */
#include "geometry.h"

enum lb_error lb_cursor_begin(const struct lb_model *model, uint32_t segment, struct lb_cursor *cursor)
{
	const struct lb_segment *s;

	*cursor = (struct lb_cursor){0};
	if (segment >= model->header->n_segments)
		return LB_ERROR_ARGUMENT;
	s = &model->segments[segment];
	cursor->op = s->first_op;
	cursor->end = s->first_op + s->n_ops;
	while (cursor->slice < model->header->n_slices && model->slices[cursor->slice].op < cursor->op)
		cursor->slice++;
	return LB_OK;
}

uint32_t lb_cursor_missing(const struct lb_model *model, const struct lb_cursor *cursor)
{
	uint32_t slice = cursor->slice;

	while (slice < model->header->n_slices && model->slices[slice].op < cursor->end)
		slice++;
	return slice - cursor->slice;
}

void lb_cursor_advance(const struct lb_model *model, struct lb_cursor *cursor, void *arena, void *scratch)
{
	while (!cursor->waiting && cursor->op < cursor->end) {
		const struct lb_op *op = &model->ops[cursor->op];

		if (lb_is_streamed(model, op)) {
			cursor->waiting = 1;
		} else {
			lb_run_op(model, op, arena, scratch);
			cursor->op++;
		}
	}
}

enum lb_error lb_cursor_take(const struct lb_model *model, struct lb_cursor *cursor, void *arena, void *scratch,
			     const void *data, size_t bytes)
{
	const struct lb_slice *slice;
	const struct lb_op *op;

	if (!cursor->waiting)
		return LB_ERROR_ARGUMENT;
	slice = &model->slices[cursor->slice];
	op = &model->ops[cursor->op];
	if (bytes != slice->bytes)
		return LB_ERROR_ARGUMENT;
	if (!lb_weights_in_range(data, bytes))
		return LB_ERROR_OP_RANGE;
	lb_run_slice(model, op, slice->first, slice->count, data, arena, scratch);
	cursor->slice++;
	if (slice->first + slice->count == model->tensors[op->output].dims[0]) {
		cursor->waiting = 0;
		cursor->op++;
	}
	return LB_OK;
}
