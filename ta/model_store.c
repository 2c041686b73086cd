#include "model_store.h"

#include "device_key.h"
#include "lb_sealed_check.h"
#include "lb_train.h"
#include "leakboard_ta.h"
#include "slice_opening.h"

void lb_held_model_close(struct lb_held_model *held)
{
	lb_block_free(&held->slice);
	lb_block_free(&held->scratch);
	lb_block_free(&held->arena);
	lb_block_free(&held->file);
	TEE_MemFill(held, 0, sizeof(*held));
}

/* The file inside is as little trusted as one from outside: its owner may have sealed anything. */
static TEE_Result check_file(struct lb_held_model *held, size_t bytes, const uint32_t model_id[4],
			     struct lb_fault *fault)
{
	fault->model = lb_model_parse(&held->model, held->file.data, bytes);
	fault->index = held->model.fault;
	if (fault->model == LB_OK && held->model.header->world != LB_WORLD_TEE)
		fault->model = LB_ERROR_WORLD;
	if (fault->model)
		return TEE_ERROR_BAD_FORMAT;
	if (!TEE_MemCompare(held->model.header->model_id, model_id, LEAKBOARD_MODEL_ID_BYTES))
		return TEE_SUCCESS;
	fault->sealed = LB_SEALED_ERROR_MODEL_ID;
	return TEE_ERROR_SECURITY;
}

/*
 * What only this device and the owner know, for the day when tuned weights go out. It is made while the model is opened,
 * when secure storage is needed anyhow. A section that makes no sense is TRAIN_BEGIN's to refuse.
 */
static TEE_Result agree_with_owner(struct lb_held_model *held)
{
	const struct lb_training *section;
	const struct lb_dropout *dropouts;
	TEE_ObjectHandle device;
	TEE_Result result;

	if (lb_training_find(&held->model, &section, &dropouts) || !section || !lb_p256_is_point(section->owner_key))
		return TEE_SUCCESS;
	result = lb_device_key_open(&device, held->device_key);
	if (result)
		return result;
	result = lb_agree(device, section->owner_key, held->owner_secret);
	TEE_CloseObject(device);
	return result;
}

TEE_Result lb_held_model_open(struct lb_held_model *held, struct lb_loading *loading, const uint32_t model_id[4],
			      struct lb_fault *fault)
{
	struct lb_sealed_header header;
	TEE_Result result;

	*held = (struct lb_held_model){0};
	*fault = (struct lb_fault){0};
	result = lb_loading_finish(loading, &held->file, &fault->sealed);
	header = loading->header;
	lb_loading_drop(loading);
	if (result == TEE_SUCCESS && TEE_MemCompare(header.model_id, model_id, LEAKBOARD_MODEL_ID_BYTES)) {
		fault->sealed = LB_SEALED_ERROR_MODEL_ID;
		result = TEE_ERROR_SECURITY;
	}
	if (result == TEE_SUCCESS)
		result = check_file(held, header.model_bytes, model_id, fault);
	if (result == TEE_SUCCESS)
		result = lb_block_alloc(&held->arena, held->model.header->arena_bytes);
	if (result == TEE_SUCCESS)
		result = lb_block_alloc(&held->scratch, held->model.scratch_bytes);
	if (result == TEE_SUCCESS && held->model.header->n_slices)
		result = lb_block_alloc(&held->slice, lb_slice_buffer_bytes(&held->model));
	if (result == TEE_SUCCESS)
		result = agree_with_owner(held);
	if (result == TEE_SUCCESS) /* last: a model that cannot be opened must not shut out the one before it */
		result = lb_loading_commit(&header);
	if (result)
		lb_held_model_close(held);
	return result;
}
