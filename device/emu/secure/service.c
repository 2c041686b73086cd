/*
 * Requests of the normal world to TA entry points. The other side is untrusted here as on a real board: ids, ranges
 * and sizes are checked before a TA sees them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "emu_memory_pta.h"
#include "leakboard_ta.h"
#include "secure_world.h"

#define MAX_SESSIONS 16u

struct application {
	TEE_UUID uuid;
	TEE_Result (*create)(void);
	void (*destroy)(void);
	TEE_Result (*open)(uint32_t types, TEE_Param params[4], void **session);
	void (*close)(void *session);
	TEE_Result (*invoke)(void *session, uint32_t command, uint32_t types, TEE_Param params[4]);
	uint32_t sessions;
};

static struct application applications[] = {
	{
		.uuid = LEAKBOARD_TA_UUID,
		.create = TA_CreateEntryPoint,
		.destroy = TA_DestroyEntryPoint,
		.open = TA_OpenSessionEntryPoint,
		.close = TA_CloseSessionEntryPoint,
		.invoke = TA_InvokeCommandEntryPoint,
	},
	{.uuid = EMU_MEMORY_PTA_UUID, .invoke = memory_pta_invoke},
};

static struct session {
	struct application *application; /* NULL: free */
	void *context;
} sessions[MAX_SESSIONS];

static int is_value(uint32_t type)
{
	return type >= EMU_PARAM_VALUE_INPUT && type <= EMU_PARAM_VALUE_INOUT;
}

static int is_memref(uint32_t type)
{
	return type >= EMU_PARAM_MEMREF_INPUT && type <= EMU_PARAM_MEMREF_INOUT;
}

static TEE_Result take_params(const struct emu_request *request, TEE_Param params[4])
{
	if (request->param_types >> 16)
		return TEE_ERROR_BAD_PARAMETERS;
	for (uint32_t i = 0; i < 4; i++) {
		const struct emu_param *from = &request->params[i];
		uint32_t type = EMU_PARAM_TYPE_GET(request->param_types, i);

		memset(&params[i], 0, sizeof(params[i]));
		if (type == EMU_PARAM_VALUE_INPUT || type == EMU_PARAM_VALUE_INOUT) {
			params[i].value.a = from->a;
			params[i].value.b = from->b;
		} else if (is_memref(type)) {
			params[i].memref.size = from->size;
			if (from->memory == 0 && from->size == 0)
				continue; /* a null reference */
			params[i].memref.buffer = shared_range(from->memory, from->offset, from->size);
			if (!params[i].memref.buffer)
				return TEE_ERROR_BAD_PARAMETERS;
		} else if (type != EMU_PARAM_NONE && !is_value(type)) {
			return TEE_ERROR_BAD_PARAMETERS;
		}
	}
	return TEE_SUCCESS;
}

static void give_params(const struct emu_request *request, const TEE_Param params[4], struct emu_reply *reply)
{
	for (uint32_t i = 0; i < 4; i++) {
		uint32_t type = EMU_PARAM_TYPE_GET(request->param_types, i);

		if (type == EMU_PARAM_VALUE_OUTPUT || type == EMU_PARAM_VALUE_INOUT) {
			reply->params[i].a = params[i].value.a;
			reply->params[i].b = params[i].value.b;
		} else if (is_memref(type)) {
			reply->params[i].size = params[i].memref.size;
		}
	}
}

static TEE_Result open_session(const struct emu_request *request, TEE_Param params[4], struct emu_reply *reply)
{
	struct application *application = NULL;
	uint32_t slot = 0;
	TEE_Result result = TEE_SUCCESS;

	for (size_t i = 0; i < sizeof(applications) / sizeof(applications[0]); i++)
		if (!memcmp(&applications[i].uuid, &request->uuid, sizeof(request->uuid)))
			application = &applications[i];
	if (!application)
		return TEE_ERROR_ITEM_NOT_FOUND;
	while (slot < MAX_SESSIONS && sessions[slot].application)
		slot++;
	if (slot == MAX_SESSIONS)
		return TEE_ERROR_OUT_OF_MEMORY;
	if (application->sessions == 0 && application->create)
		result = application->create();
	reply->origin = EMU_ORIGIN_TRUSTED_APP;
	if (result)
		return result;
	if (application->open)
		result = application->open(request->param_types, params, &sessions[slot].context);
	if (result) {
		if (application->sessions == 0 && application->destroy)
			application->destroy();
		return result;
	}
	application->sessions++;
	sessions[slot].application = application;
	reply->session = slot + 1u;
	return TEE_SUCCESS;
}

static struct session *find_session(uint32_t id)
{
	if (id == 0 || id > MAX_SESSIONS || !sessions[id - 1u].application)
		return NULL;
	return &sessions[id - 1u];
}

static void close_session(struct session *session)
{
	struct application *application = session->application;

	if (application->close)
		application->close(session->context);
	application->sessions--;
	if (application->sessions == 0 && application->destroy)
		application->destroy();
	*session = (struct session){0};
}

static void answer(const struct emu_request *request, int fd, struct emu_reply *reply)
{
	struct session *session;
	TEE_Param params[4];

	reply->origin = EMU_ORIGIN_TEE;
	switch (request->call) {
	case EMU_CALL_OPEN_SESSION:
		reply->result = take_params(request, params);
		if (reply->result == TEE_SUCCESS) {
			reply->result = open_session(request, params, reply);
			give_params(request, params, reply);
		}
		break;
	case EMU_CALL_INVOKE:
		session = find_session(request->session);
		reply->result = session ? take_params(request, params) : TEE_ERROR_ITEM_NOT_FOUND;
		if (reply->result == TEE_SUCCESS) {
			reply->origin = EMU_ORIGIN_TRUSTED_APP;
			reply->result = session->application->invoke(session->context, request->command,
								     request->param_types, params);
			give_params(request, params, reply);
		}
		break;
	case EMU_CALL_CLOSE_SESSION:
		session = find_session(request->session);
		if (session)
			close_session(session);
		else
			reply->result = TEE_ERROR_ITEM_NOT_FOUND;
		break;
	case EMU_CALL_ADD_MEMORY:
		reply->result = shared_add(request->session, request->params[0].size, fd);
		fd = -1;
		break;
	case EMU_CALL_REMOVE_MEMORY: reply->result = shared_remove(request->session); break;
	default: reply->result = TEE_ERROR_NOT_SUPPORTED;
	}
	if (fd >= 0)
		close(fd);
}

/* 0 when the other side is gone. `fd` gets a descriptor that came along, else -1. */
static int receive(int socket, struct emu_request *request, int *fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec data = {.iov_base = request, .iov_len = sizeof(*request)};
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	const struct cmsghdr *header;
	ssize_t n;

	*fd = -1;
	do {
		n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return 0;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
	    header->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(header), sizeof(*fd));
	if ((size_t)n != sizeof(*request) || (message.msg_flags & MSG_TRUNC)) {
		fprintf(stderr, "secure world: a request of %zd bytes, expected %zu\n", n, sizeof(*request));
		return 0;
	}
	return 1;
}

void serve(int socket)
{
	struct emu_request request;
	struct emu_reply reply;
	int fd;

	while (receive(socket, &request, &fd)) {
		memset(&reply, 0, sizeof(reply));
		answer(&request, fd, &reply);
		if (send(socket, &reply, sizeof(reply), MSG_NOSIGNAL) != (ssize_t)sizeof(reply))
			break;
	}
	/* What a real TEE does when a client dies: sessions are closed, and the TA wipes what they held. */
	for (size_t i = 0; i < MAX_SESSIONS; i++)
		if (sessions[i].application)
			close_session(&sessions[i]);
}
