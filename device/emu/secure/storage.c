/* Persistent objects: files of a directory that only this process knows. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "secure_world.h"

#define MAX_OBJECT_ID 64u

struct emu_object {
	int fd;
	size_t size, position;
	uint32_t flags;
};

static char *storage;

void storage_start(const char *directory)
{
	free(storage);
	storage = directory ? strdup(directory) : NULL;
}

/* The object's file, or a name beside it; NULL when it cannot be made. The caller frees it. */
static char *path_of(const void *id, size_t id_bytes, const char *suffix)
{
	const unsigned char *bytes = id;
	char name[2 * MAX_OBJECT_ID + 1] = "", *path = NULL;

	for (size_t i = 0; i < id_bytes; i++)
		snprintf(name + 2 * i, 3, "%02x", bytes[i]);
	if (!storage || asprintf(&path, "%s/%s%s", storage, name, suffix) < 0)
		return NULL;
	return path;
}

static TEE_Result open_file(const char *path, uint32_t flags, TEE_ObjectHandle *object)
{
	struct stat info;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? TEE_ERROR_ITEM_NOT_FOUND : TEE_ERROR_ACCESS_DENIED;
	if (fstat(fd, &info) || !S_ISREG(info.st_mode)) {
		close(fd);
		return TEE_ERROR_CORRUPT_OBJECT;
	}
	*object = TEE_Malloc(sizeof(**object), TEE_MALLOC_FILL_ZERO);
	if (!*object) {
		close(fd);
		return TEE_ERROR_OUT_OF_MEMORY;
	}
	**object = (struct emu_object){.fd = fd, .size = (size_t)info.st_size, .flags = flags};
	return TEE_SUCCESS;
}

TEE_Result TEE_OpenPersistentObject(uint32_t storageID, const void *objectID, size_t objectIDLen, uint32_t flags,
				    TEE_ObjectHandle *object)
{
	TEE_Result result;
	char *path;

	*object = TEE_HANDLE_NULL;
	if (storageID != TEE_STORAGE_PRIVATE)
		return TEE_ERROR_ITEM_NOT_FOUND;
	if (objectIDLen > MAX_OBJECT_ID || (flags & ~TEE_DATA_FLAG_ACCESS_READ))
		TEE_Panic(TEE_ERROR_BAD_PARAMETERS);
	path = path_of(objectID, objectIDLen, "");
	if (!path)
		return TEE_ERROR_ITEM_NOT_FOUND;
	result = open_file(path, flags, object);
	free(path);
	return result;
}

static int write_all(int fd, const unsigned char *data, size_t bytes)
{
	while (bytes) {
		ssize_t n = write(fd, data, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		data += n;
		bytes -= (size_t)n;
	}
	return 1;
}

TEE_Result TEE_CreatePersistentObject(uint32_t storageID, const void *objectID, size_t objectIDLen, uint32_t flags,
				      TEE_ObjectHandle attributes, const void *initialData, size_t initialDataLen,
				      TEE_ObjectHandle *object)
{
	TEE_Result result = TEE_ERROR_OUT_OF_MEMORY;
	char *path, *aside;
	int fd, written;

	if (object)
		*object = TEE_HANDLE_NULL;
	if (storageID != TEE_STORAGE_PRIVATE || !storage)
		return TEE_ERROR_ITEM_NOT_FOUND;
	if (objectIDLen > MAX_OBJECT_ID || attributes)
		TEE_Panic(TEE_ERROR_BAD_PARAMETERS);
	path = path_of(objectID, objectIDLen, "");
	aside = path_of(objectID, objectIDLen, ".new");
	if (!path || !aside)
		goto out;
	result = TEE_ERROR_ACCESS_CONFLICT;
	if (!(flags & TEE_DATA_FLAG_OVERWRITE) && access(path, F_OK) == 0)
		goto out;
	result = TEE_ERROR_STORAGE_NO_SPACE;
	fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		goto out;
	written = write_all(fd, initialData, initialDataLen) && fsync(fd) == 0;
	if (close(fd) || !written || rename(aside, path))
		goto out;
	result = object ? open_file(path, flags, object) : TEE_SUCCESS;
out:
	free(path);
	free(aside);
	return result;
}

TEE_Result TEE_GetObjectInfo1(TEE_ObjectHandle object, TEE_ObjectInfo *objectInfo)
{
	*objectInfo = (TEE_ObjectInfo){
		.objectType = TEE_TYPE_DATA,
		.dataSize = object->size,
		.dataPosition = object->position,
		.handleFlags = TEE_HANDLE_FLAG_PERSISTENT | TEE_HANDLE_FLAG_INITIALIZED | object->flags,
	};
	return TEE_SUCCESS;
}

TEE_Result TEE_ReadObjectData(TEE_ObjectHandle object, void *buffer, size_t size, size_t *count)
{
	*count = 0;
	if (!(object->flags & TEE_DATA_FLAG_ACCESS_READ))
		TEE_Panic(TEE_ERROR_ACCESS_DENIED);
	while (*count < size) {
		ssize_t n = pread(object->fd, (unsigned char *)buffer + *count, size - *count, (off_t)object->position);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return TEE_ERROR_CORRUPT_OBJECT;
		if (n == 0)
			break;
		*count += (size_t)n;
		object->position += (size_t)n;
	}
	return TEE_SUCCESS;
}

void TEE_CloseObject(TEE_ObjectHandle object)
{
	if (!object)
		return;
	close(object->fd);
	TEE_Free(object);
}
