/*
 * The secure world of a real board, through Linux's TEE driver (linux/tee.h). Together with emu/client/client_api.c it
 * is a GlobalPlatform TEE Client API without any library of the board's, so that the agent can be linked statically.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/tee.h>

#include "../emu/client/world.h"

#define PAGE_BYTES 4096u
#define DEVICES 4 /* /dev/tee0 and on; the first that is an OP-TEE is taken */

/*
 * Registered memory lives as long as its descriptor: that is kept in a page of its own before the memory, which the
 * secure world does not see. TEEC_Context has `socket` for the driver and `child` for whether it registers memory.
 */
struct keeper {
	int fd;
};

union open_argument {
	struct tee_ioctl_open_session_arg head;
	unsigned char space[sizeof(struct tee_ioctl_open_session_arg) + 4 * sizeof(struct tee_ioctl_param)];
};

union invoke_argument {
	struct tee_ioctl_invoke_arg head;
	unsigned char space[sizeof(struct tee_ioctl_invoke_arg) + 4 * sizeof(struct tee_ioctl_param)];
};

TEEC_Result world_start(TEEC_Context *context)
{
	char path[sizeof("/dev/tee0")];

	*context = (TEEC_Context){.socket = -1};
	for (int i = 0; i < DEVICES; i++) {
		struct tee_ioctl_version_data version;
		int fd;

		snprintf(path, sizeof(path), "/dev/tee%d", i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			if (errno != ENOENT)
				fprintf(stderr, "cannot open %s: %s\n", path, strerror(errno));
			continue;
		}
		if (ioctl(fd, TEE_IOC_VERSION, &version) == 0 && version.impl_id == TEE_IMPL_ID_OPTEE) {
			context->socket = fd;
			context->child = (version.gen_caps & TEE_GEN_CAP_REG_MEM) != 0;
			return TEEC_SUCCESS;
		}
		close(fd);
	}
	fprintf(stderr, "no OP-TEE behind /dev/tee0 to /dev/tee%d\n", DEVICES - 1);
	return TEEC_ERROR_ITEM_NOT_FOUND;
}

void world_stop(TEEC_Context *context)
{
	if (context->socket >= 0)
		close(context->socket);
	context->socket = -1;
}

/* What the driver itself said, in GlobalPlatform's codes. */
static TEEC_Result result_of(int error)
{
	switch (error) {
	case ENOMEM: return TEEC_ERROR_OUT_OF_MEMORY;
	case EINVAL: return TEEC_ERROR_BAD_PARAMETERS;
	case EBUSY: return TEEC_ERROR_BUSY;
	default: return TEEC_ERROR_COMMUNICATION;
	}
}

static void params_out(const struct emu_request *request, struct tee_ioctl_param params[4])
{
	for (uint32_t i = 0; i < 4; i++) {
		const struct emu_param *from = &request->params[i];
		uint32_t type = EMU_PARAM_TYPE_GET(request->param_types, i);

		/* The numbers of the types are the same on either side. */
		params[i] = (struct tee_ioctl_param){.attr = type};
		if (type == EMU_PARAM_VALUE_INPUT || type == EMU_PARAM_VALUE_INOUT) {
			params[i].a = from->a;
			params[i].b = from->b;
		} else if (type & 4u) {
			params[i].a = from->offset;
			params[i].b = from->size;
			params[i].c = from->memory ? from->memory : TEE_MEMREF_NULL;
		}
	}
}

static void params_back(const struct tee_ioctl_param params[4], struct emu_reply *reply)
{
	for (uint32_t i = 0; i < 4; i++) {
		reply->params[i].a = (uint32_t)params[i].a;
		reply->params[i].b = (uint32_t)params[i].b;
		reply->params[i].size = params[i].b;
	}
}

/* The driver wants the UUID as RFC 4122 writes it, most significant byte first. */
static void uuid_out(const struct emu_uuid *uuid, unsigned char to[16])
{
	to[0] = (unsigned char)(uuid->timeLow >> 24);
	to[1] = (unsigned char)(uuid->timeLow >> 16);
	to[2] = (unsigned char)(uuid->timeLow >> 8);
	to[3] = (unsigned char)uuid->timeLow;
	to[4] = (unsigned char)(uuid->timeMid >> 8);
	to[5] = (unsigned char)uuid->timeMid;
	to[6] = (unsigned char)(uuid->timeHiAndVersion >> 8);
	to[7] = (unsigned char)uuid->timeHiAndVersion;
	memcpy(to + 8, uuid->clockSeqAndNode, sizeof(uuid->clockSeqAndNode));
}

static TEEC_Result open_session(int fd, const struct emu_request *request, struct emu_reply *reply)
{
	union open_argument argument = {0};
	struct tee_ioctl_buf_data buffer = {.buf_ptr = (uintptr_t)&argument, .buf_len = sizeof(argument)};

	uuid_out(&request->uuid, argument.head.uuid);
	argument.head.clnt_login = TEE_IOCTL_LOGIN_PUBLIC;
	argument.head.num_params = 4;
	params_out(request, argument.head.params);
	if (ioctl(fd, TEE_IOC_OPEN_SESSION, &buffer))
		return result_of(errno);
	params_back(argument.head.params, reply);
	reply->session = argument.head.session;
	reply->origin = argument.head.ret_origin;
	return argument.head.ret;
}

static TEEC_Result invoke(int fd, const struct emu_request *request, struct emu_reply *reply)
{
	union invoke_argument argument = {0};
	struct tee_ioctl_buf_data buffer = {.buf_ptr = (uintptr_t)&argument, .buf_len = sizeof(argument)};

	argument.head.func = request->command;
	argument.head.session = request->session;
	argument.head.num_params = 4;
	params_out(request, argument.head.params);
	if (ioctl(fd, TEE_IOC_INVOKE, &buffer))
		return result_of(errno);
	params_back(argument.head.params, reply);
	reply->origin = argument.head.ret_origin;
	return argument.head.ret;
}

TEEC_Result world_call(TEEC_Context *context, const struct emu_request *request, int fd, struct emu_reply *reply)
{
	struct tee_ioctl_close_session_arg closed = {.session = request->session};

	(void)fd; /* memory comes by world_map() alone */
	memset(reply, 0, sizeof(*reply));
	reply->origin = TEEC_ORIGIN_COMMS;
	switch (request->call) {
	case EMU_CALL_OPEN_SESSION: reply->result = open_session(context->socket, request, reply); break;
	case EMU_CALL_INVOKE: reply->result = invoke(context->socket, request, reply); break;
	case EMU_CALL_CLOSE_SESSION:
		reply->result =
			ioctl(context->socket, TEE_IOC_CLOSE_SESSION, &closed) ? result_of(errno) : TEEC_SUCCESS;
		break;
	default: reply->result = TEEC_ERROR_NOT_SUPPORTED;
	}
	return reply->result;
}

static size_t pages(size_t bytes)
{
	return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

/* Of the driver's own memory: for an OP-TEE that cannot take any page of the normal world's. */
static TEEC_Result map_allocated(int driver, size_t bytes, uint32_t *id, void **mapping)
{
	struct tee_ioctl_shm_alloc_data data = {.size = bytes};
	int fd = ioctl(driver, TEE_IOC_SHM_ALLOC, &data);
	TEEC_Result result = TEEC_SUCCESS;

	if (fd < 0)
		return result_of(errno);
	*mapping = mmap(NULL, pages(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*mapping == MAP_FAILED)
		result = result_of(errno);
	close(fd); /* the mapping holds it */
	*id = (uint32_t)data.id;
	return result;
}

TEEC_Result world_map(TEEC_Context *context, size_t bytes, uint32_t *id, void **mapping)
{
	struct tee_ioctl_shm_register_data data = {0};
	unsigned char *base;
	int fd;

	if (bytes == 0 || bytes > SIZE_MAX / 2)
		return TEEC_ERROR_BAD_PARAMETERS;
	if (!context->child)
		return map_allocated(context->socket, bytes, id, mapping);
	base = mmap(NULL, PAGE_BYTES + pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		return TEEC_ERROR_OUT_OF_MEMORY;
	data.addr = (uintptr_t)(base + PAGE_BYTES);
	data.length = bytes;
	fd = ioctl(context->socket, TEE_IOC_SHM_REGISTER, &data);
	if (fd < 0) {
		TEEC_Result result = result_of(errno);

		munmap(base, PAGE_BYTES + pages(bytes));
		return result;
	}
	memcpy(base, &(struct keeper){fd}, sizeof(struct keeper));
	*id = (uint32_t)data.id;
	*mapping = base + PAGE_BYTES;
	return TEEC_SUCCESS;
}

void world_unmap(TEEC_Context *context, size_t bytes, uint32_t id, void *mapping)
{
	unsigned char *base = (unsigned char *)mapping - PAGE_BYTES;
	struct keeper keeper;

	(void)id;
	if (!context->child) {
		munmap(mapping, pages(bytes));
		return;
	}
	memcpy(&keeper, base, sizeof(keeper));
	close(keeper.fd);
	munmap(base, PAGE_BYTES + pages(bytes));
}
