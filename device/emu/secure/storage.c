/*
 * Persistent objects: files of a directory that only this process knows. Nothing is encrypted, the device's private key
 * included: an emulated board is no TEE, and its directory lives no longer than a session unless a test keeps it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "object.h"
#include "secure_world.h"

#define MAX_OBJECT_ID 64u
#define MAX_DATA_BYTES 1024u

/* A file: this, then the data. The hash finds damage, as a TEE's authentication would. */
struct stored {
	uint8_t hash[32]; /* of what follows */
	struct emu_content content;
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

static int is_whole(int fd, struct stored *stored, size_t size)
{
	uint8_t data[MAX_DATA_BYTES], hash[32];

	return pread(fd, stored, sizeof(*stored), 0) == (ssize_t)sizeof(*stored) &&
	       pread(fd, data, size, sizeof(*stored)) == (ssize_t)size &&
	       crypto_sha256(&stored->content, sizeof(stored->content), data, size, hash) &&
	       !memcmp(hash, stored->hash, sizeof(hash)) && object_is_sound(&stored->content);
}

static TEE_Result open_file(const char *path, uint32_t flags, TEE_ObjectHandle *object)
{
	struct stored stored;
	struct stat info;
	size_t size;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? TEE_ERROR_ITEM_NOT_FOUND : TEE_ERROR_ACCESS_DENIED;
	if (fstat(fd, &info) || !S_ISREG(info.st_mode) || info.st_size < (off_t)sizeof(stored) ||
	    info.st_size > (off_t)(sizeof(stored) + MAX_DATA_BYTES)) {
		close(fd);
		return TEE_ERROR_CORRUPT_OBJECT;
	}
	size = (size_t)info.st_size - sizeof(stored);
	if (!is_whole(fd, &stored, size)) {
		close(fd);
		return TEE_ERROR_CORRUPT_OBJECT;
	}
	*object = object_new(stored.content.type);
	if (!*object) {
		close(fd);
		return TEE_ERROR_OUT_OF_MEMORY;
	}
	(*object)->content = stored.content;
	(*object)->handle_flags = TEE_HANDLE_FLAG_PERSISTENT | TEE_HANDLE_FLAG_INITIALIZED | flags;
	(*object)->fd = fd;
	(*object)->size = size;
	TEE_MemFill(&stored, 0, sizeof(stored));
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

static int write_file(const char *path, const struct stored *stored, const void *data, size_t bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), done;

	if (fd < 0)
		return 0;
	done = write_all(fd, (const unsigned char *)stored, sizeof(*stored)) && write_all(fd, data, bytes) &&
	       fsync(fd) == 0;
	return close(fd) == 0 && done;
}

/* The new object is there as a whole or not at all; without OVERWRITE never in the place of an old one. */
static TEE_Result put_file(const char *aside, const char *path, uint32_t flags)
{
	if (flags & TEE_DATA_FLAG_OVERWRITE)
		return rename(aside, path) ? TEE_ERROR_STORAGE_NO_SPACE : TEE_SUCCESS;
	if (link(aside, path) == 0)
		return TEE_SUCCESS;
	return errno == EEXIST ? TEE_ERROR_ACCESS_CONFLICT : TEE_ERROR_STORAGE_NO_SPACE;
}

TEE_Result TEE_CreatePersistentObject(uint32_t storageID, const void *objectID, size_t objectIDLen, uint32_t flags,
				      TEE_ObjectHandle attributes, const void *initialData, size_t initialDataLen,
				      TEE_ObjectHandle *object)
{
	struct stored stored = {.content.type = TEE_TYPE_DATA, .content.usage = 0xFFFFFFFFu};
	TEE_Result result = TEE_ERROR_OUT_OF_MEMORY;
	char *path, *aside, suffix[32];

	if (object)
		*object = TEE_HANDLE_NULL;
	if (storageID != TEE_STORAGE_PRIVATE || !storage)
		return TEE_ERROR_ITEM_NOT_FOUND;
	if (objectIDLen > MAX_OBJECT_ID || initialDataLen > MAX_DATA_BYTES)
		TEE_Panic(TEE_ERROR_BAD_PARAMETERS);
	if (attributes)
		stored.content = attributes->content;
	if (!object_is_sound(&stored.content) ||
	    !crypto_sha256(&stored.content, sizeof(stored.content), initialData, initialDataLen, stored.hash))
		TEE_Panic(TEE_ERROR_BAD_PARAMETERS);
	snprintf(suffix, sizeof(suffix), ".%ld", (long)getpid());
	path = path_of(objectID, objectIDLen, "");
	aside = path_of(objectID, objectIDLen, suffix);
	if (path && aside) {
		result = write_file(aside, &stored, initialData, initialDataLen) ? put_file(aside, path, flags)
										 : TEE_ERROR_STORAGE_NO_SPACE;
		unlink(aside);
		if (result == TEE_SUCCESS && object)
			result = open_file(path, flags & TEE_DATA_FLAG_ACCESS_READ, object);
	}
	free(path);
	free(aside);
	TEE_MemFill(&stored, 0, sizeof(stored));
	return result;
}

TEE_Result TEE_ReadObjectData(TEE_ObjectHandle object, void *buffer, size_t size, size_t *count)
{
	*count = 0;
	if (!(object->handle_flags & TEE_DATA_FLAG_ACCESS_READ))
		TEE_Panic(TEE_ERROR_ACCESS_DENIED);
	while (*count < size) {
		ssize_t n = pread(object->fd, (unsigned char *)buffer + *count, size - *count,
				  (off_t)(sizeof(struct stored) + object->position));

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
	if (object->fd >= 0)
		close(object->fd);
	TEE_MemFill(object, 0, sizeof(*object));
	TEE_Free(object);
}
