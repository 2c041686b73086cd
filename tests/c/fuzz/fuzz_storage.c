/* Secure storage in memory, empty for each input. */
#include <tee_internal_api.h>

#include "fuzz.h"
#include "fuzz_store.h"

#define SLOTS 8u
#define ID_BYTES 64u
#define DATA_BYTES 64u

static struct slot {
	int is_used;
	uint8_t id[ID_BYTES];
	size_t id_bytes;
	uint32_t type;
	uint8_t data[DATA_BYTES];
	size_t bytes;
} slots[SLOTS];

void fuzz_store_reset(void)
{
	memset(slots, 0, sizeof(slots));
}

static uint32_t find(const void *id, size_t id_bytes)
{
	for (uint32_t i = 0; i < SLOTS; i++)
		if (slots[i].is_used && slots[i].id_bytes == id_bytes && !memcmp(slots[i].id, id, id_bytes))
			return i;
	return SLOTS;
}

static TEE_ObjectHandle open_slot(uint32_t slot, uint32_t flags)
{
	TEE_ObjectHandle object = fuzz_handle(sizeof(*object));

	*object = (struct emu_object){
		.type = slots[slot].type, .is_persistent = 1, .is_filled = 1, .slot = slot, .flags = flags};
	return object;
}

TEE_Result TEE_OpenPersistentObject(uint32_t storageID, const void *objectID, size_t objectIDLen, uint32_t flags,
				    TEE_ObjectHandle *object)
{
	uint32_t slot = find(objectID, objectIDLen);

	FUZZ_PROMISE(storageID == TEE_STORAGE_PRIVATE && objectIDLen <= ID_BYTES);
	*object = TEE_HANDLE_NULL;
	if (fuzz_tee_fails())
		return TEE_ERROR_CORRUPT_OBJECT;
	if (slot == SLOTS)
		return TEE_ERROR_ITEM_NOT_FOUND;
	*object = open_slot(slot, flags);
	return TEE_SUCCESS;
}

TEE_Result TEE_CreatePersistentObject(uint32_t storageID, const void *objectID, size_t objectIDLen, uint32_t flags,
				      TEE_ObjectHandle attributes, const void *initialData, size_t initialDataLen,
				      TEE_ObjectHandle *object)
{
	uint32_t slot = find(objectID, objectIDLen);

	FUZZ_PROMISE(storageID == TEE_STORAGE_PRIVATE && objectIDLen <= ID_BYTES && initialDataLen <= DATA_BYTES);
	if (object)
		*object = TEE_HANDLE_NULL;
	if (fuzz_tee_fails())
		return TEE_ERROR_STORAGE_NO_SPACE;
	if (slot < SLOTS && !(flags & TEE_DATA_FLAG_OVERWRITE))
		return TEE_ERROR_ACCESS_CONFLICT;
	for (uint32_t i = 0; slot == SLOTS && i < SLOTS; i++)
		if (!slots[i].is_used)
			slot = i;
	if (slot == SLOTS)
		return TEE_ERROR_STORAGE_NO_SPACE;
	slots[slot] =
		(struct slot){.is_used = 1, .id_bytes = objectIDLen, .type = TEE_TYPE_DATA, .bytes = initialDataLen};
	memcpy(slots[slot].id, objectID, objectIDLen);
	if (initialDataLen)
		memcpy(slots[slot].data, initialData, initialDataLen);
	if (attributes) {
		FUZZ_PROMISE(attributes->is_filled);
		slots[slot].type = attributes->type;
	}
	if (object)
		*object = open_slot(slot, flags);
	return TEE_SUCCESS;
}

TEE_Result TEE_GetObjectInfo1(TEE_ObjectHandle object, TEE_ObjectInfo *objectInfo)
{
	FUZZ_PROMISE(object);
	if (fuzz_tee_fails())
		return TEE_ERROR_CORRUPT_OBJECT;
	*objectInfo = (TEE_ObjectInfo){.objectType = object->type};
	if (object->is_persistent)
		objectInfo->dataSize = slots[object->slot].bytes;
	return TEE_SUCCESS;
}

TEE_Result TEE_ReadObjectData(TEE_ObjectHandle object, void *buffer, size_t size, size_t *count)
{
	size_t left;

	FUZZ_PROMISE(object && object->is_persistent && (object->flags & TEE_DATA_FLAG_ACCESS_READ));
	*count = 0;
	if (fuzz_tee_fails())
		return TEE_ERROR_CORRUPT_OBJECT;
	left = slots[object->slot].bytes - object->position;
	*count = size < left ? size : left;
	memcpy(buffer, slots[object->slot].data + object->position, *count);
	object->position += *count;
	return TEE_SUCCESS;
}

void TEE_CloseObject(TEE_ObjectHandle object)
{
	FUZZ_PROMISE(!object || object->is_persistent);
	if (object)
		fuzz_handle_free(object);
}
