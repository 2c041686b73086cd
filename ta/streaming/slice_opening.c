#include "slice_opening.h"
#include "slice_cipher.h"

size_t lb_slice_buffer_bytes(const struct lb_model *model)
{
	return model->header->n_slices ? (size_t)model->header->slice_bytes + LB_SLICE_TAG_BYTES : 0;
}

/* A store that no compiler leaves out. */
static void wipe(void *memory, size_t bytes)
{
	__builtin_memset(memory, 0, bytes);
	__asm__ volatile("" : : "r"(memory) : "memory");
}

static int open_in_place(const struct lb_model *model, uint32_t index, uint8_t *data)
{
	const struct lb_slice *slice = &model->slices[index];
	struct lb_slice_place place = {
		.magic = LB_SLICE_PLACE_MAGIC,
		.format = LB_SLICES_FORMAT,
		.n_slices = model->header->n_slices,
		.index = index,
		.slice = *slice,
	};
	uint8_t nonce[LB_SLICE_NONCE_BYTES] = {0};

	for (size_t i = 0; i < 4; i++) {
		place.model_id[i] = model->header->model_id[i];
		nonce[i] = (uint8_t)(index >> 8 * i);
	}
	return lb_slice_cipher_open(model->slice_key, nonce, &place, sizeof(place), data, slice->bytes);
}

enum lb_error lb_slice_feed(const struct lb_model *model, struct lb_cursor *cursor, void *arena, void *scratch,
			    void *buffer, const void *sealed, size_t bytes)
{
	enum lb_error error = LB_ERROR_SLICE;
	size_t plain;

	if (!cursor->waiting)
		return LB_ERROR_ARGUMENT;
	plain = model->slices[cursor->slice].bytes;
	if (bytes != plain + LB_SLICE_TAG_BYTES)
		return LB_ERROR_ARGUMENT;
	__builtin_memcpy(buffer, sealed, bytes);
	if (open_in_place(model, cursor->slice, buffer))
		error = lb_cursor_take(model, cursor, arena, scratch, buffer, plain);
	wipe(buffer, bytes);
	return error;
}
