/* Slices: each streamed filter comes whole, in order, and only where it is hidden. */
#include "geometry.h"

static enum lb_error check_slice(const struct lb_model *model, const struct lb_slice *slice, const struct lb_op *op,
				 uint32_t first)
{
	const struct lb_tensor *w = &model->tensors[op->weight];
	const uint64_t taps = (uint64_t)w->dims[1] * w->dims[2] * w->dims[3];

	if (slice->first != first || slice->first % LB_I8_LANES || slice->count == 0 ||
	    slice->count > w->dims[0] - first || slice->bytes != lb_dot4_bytes(slice->count, taps))
		return LB_ERROR_SLICE;
	return LB_OK;
}

enum lb_error lb_check_slices(struct lb_model *model)
{
	const struct lb_model_header *h = model->header;
	uint32_t next = 0, largest = 0;

	for (uint32_t i = 0; i < h->n_ops; i++) {
		const struct lb_op *op = &model->ops[i];
		uint32_t done = 0;

		if (!lb_is_streamed(model, op))
			continue;
		while (done < model->tensors[op->weight].dims[0]) {
			const struct lb_slice *slice = &model->slices[next];

			model->fault = next;
			if (next == h->n_slices || slice->op != i || check_slice(model, slice, op, done))
				return LB_ERROR_SLICE;
			done += slice->count;
			largest = slice->bytes > largest ? slice->bytes : largest;
			next++;
		}
	}
	model->fault = next;
	if (next != h->n_slices || largest != h->slice_bytes)
		return LB_ERROR_SLICE;
	model->fault = 0;
	return LB_OK;
}
