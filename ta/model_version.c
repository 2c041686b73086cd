#include "model_version.h"

#include "leakboard_ta.h"

#define ID_BYTES (LEAKBOARD_VERSION_PREFIX_BYTES + LEAKBOARD_MODEL_ID_BYTES)

static void make_id(uint8_t id[ID_BYTES], const uint32_t model_id[4])
{
	TEE_MemMove(id, LEAKBOARD_VERSION_PREFIX, LEAKBOARD_VERSION_PREFIX_BYTES);
	TEE_MemMove(id + LEAKBOARD_VERSION_PREFIX_BYTES, model_id, LEAKBOARD_MODEL_ID_BYTES);
}

TEE_Result lb_model_version_read(const uint32_t model_id[4], uint32_t *version)
{
	uint8_t id[ID_BYTES];
	TEE_ObjectHandle object;
	size_t bytes = 0;
	TEE_Result result;

	*version = 0;
	make_id(id, model_id);
	result = TEE_OpenPersistentObject(TEE_STORAGE_PRIVATE, id, sizeof(id), TEE_DATA_FLAG_ACCESS_READ, &object);
	if (result == TEE_ERROR_ITEM_NOT_FOUND)
		return TEE_SUCCESS;
	if (result)
		return result;
	result = TEE_ReadObjectData(object, version, sizeof(*version), &bytes);
	TEE_CloseObject(object);
	if (result == TEE_SUCCESS && bytes != sizeof(*version))
		result = TEE_ERROR_CORRUPT_OBJECT;
	return result;
}

TEE_Result lb_model_version_write(const uint32_t model_id[4], uint32_t version)
{
	uint8_t id[ID_BYTES];
	TEE_ObjectHandle object;
	TEE_Result result;

	make_id(id, model_id);
	/* Overwriting is atomic: the old version or the new one survives a loss of power. */
	result = TEE_CreatePersistentObject(TEE_STORAGE_PRIVATE, id, sizeof(id),
					    TEE_DATA_FLAG_ACCESS_WRITE | TEE_DATA_FLAG_OVERWRITE, TEE_HANDLE_NULL,
					    &version, sizeof(version), &object);
	if (result == TEE_SUCCESS)
		TEE_CloseObject(object);
	return result;
}
