#define _GNU_SOURCE
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The executable beside this one, unless the environment names another. */
static int secure_world_path(char path[PATH_MAX])
{
	static const char name[] = "secure_world";
	const char *given = getenv(EMU_SECURE_WORLD_ENV);
	char *slash;
	ssize_t n;

	if (given) {
		if (strlen(given) >= PATH_MAX)
			return 0;
		strcpy(path, given);
		return 1;
	}
	n = readlink("/proc/self/exe", path, PATH_MAX - sizeof(name) - 1);
	if (n <= 0)
		return 0;
	path[n] = '\0';
	slash = strrchr(path, '/');
	if (!slash)
		return 0;
	strcpy(slash + 1, name);
	return 1;
}

/* The inherited descriptor of the configuration, or -1. */
static int config_fd(void)
{
	const char *text = getenv(EMU_CONFIG_ENV);
	char *stop;
	long fd;

	if (!text || !*text)
		return -1;
	fd = strtol(text, &stop, 10);
	return *stop || fd < 0 || fd > INT_MAX || fcntl((int)fd, F_GETFD) < 0 ? -1 : (int)fd;
}

/* In the child: descriptors to where the secure world expects them, nothing else open, and off. */
__attribute__((noreturn)) static void become_secure_world(const char *path, int socket, int config, pid_t parent)
{
	int null = open("/dev/null", O_RDWR);

	/* Out of the way first: any of them may be 3 or 4. Copies below are not close-on-exec. */
	socket = fcntl(socket, F_DUPFD_CLOEXEC, 10);
	if (config >= 0)
		config = fcntl(config, F_DUPFD_CLOEXEC, 10);
	close(EMU_CONFIG_FD);
	if (null < 0 || socket < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup2(socket, EMU_SOCKET_FD) < 0 || (config >= 0 && dup2(config, EMU_CONFIG_FD) < 0))
		_exit(126);
	close_range(EMU_CONFIG_FD + 1, ~0u, 0);
	unsetenv(EMU_CONFIG_ENV);
	signal(SIGINT, SIG_IGN); /* Ctrl-C ends the client, and that ends this */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	execl(path, "secure_world", (char *)NULL);
	dprintf(STDERR_FILENO, "cannot start the secure world %s: %s\n", path, strerror(errno));
	_exit(127);
}

TEEC_Result world_start(TEEC_Context *context)
{
	char path[PATH_MAX];
	int pair[2], config = config_fd();
	pid_t parent = getpid();

	*context = (TEEC_Context){.socket = -1, .child = -1, .next_memory = 1};
	if (!secure_world_path(path))
		return TEEC_ERROR_ITEM_NOT_FOUND;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return TEEC_ERROR_COMMUNICATION;
	context->child = fork();
	if (context->child == 0)
		become_secure_world(path, pair[1], config, parent);
	close(pair[1]);
	/* The configuration says where sealed models lie: from here on this process cannot read it any more. */
	if (config >= 0)
		close(config);
	unsetenv(EMU_CONFIG_ENV);
	if (context->child < 0) {
		close(pair[0]);
		return TEEC_ERROR_OUT_OF_MEMORY;
	}
	context->socket = pair[0];
	return TEEC_SUCCESS;
}

/* Says on stderr how the secure world ended, unless it ended well. */
static void reap(TEEC_Context *context)
{
	int status = 0;

	if (context->child <= 0)
		return;
	while (waitpid(context->child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		fprintf(stderr, "secure world: killed by signal %d (%s)\n", WTERMSIG(status),
			strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status))
		fprintf(stderr, "secure world: exited with %d\n", WEXITSTATUS(status));
	context->child = -1;
}

void world_stop(TEEC_Context *context)
{
	if (context->socket >= 0)
		close(context->socket);
	context->socket = -1;
	reap(context);
}

static int send_request(int socket, const struct emu_request *request, int fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	union { /* sendmsg() does not write, but iov_base is not const */
		const struct emu_request *request;
		void *bytes;
	} data = {.request = request};
	struct iovec vector = {.iov_base = data.bytes, .iov_len = sizeof(*request)};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
	ssize_t n;

	if (fd >= 0) {
		struct cmsghdr *header;

		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	}
	do {
		n = sendmsg(socket, &message, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*request);
}

TEEC_Result world_call(TEEC_Context *context, const struct emu_request *request, int fd, struct emu_reply *reply)
{
	ssize_t n = -1;

	memset(reply, 0, sizeof(*reply));
	reply->origin = TEEC_ORIGIN_TEE;
	if (context->socket >= 0 && send_request(context->socket, request, fd))
		do {
			n = recv(context->socket, reply, sizeof(*reply), 0);
		} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(*reply))
		return reply->result;
	memset(reply, 0, sizeof(*reply));
	reply->origin = TEEC_ORIGIN_TEE;
	world_stop(context);
	return TEEC_ERROR_TARGET_DEAD;
}

TEEC_Result world_map(TEEC_Context *context, size_t bytes, uint32_t *id, void **mapping)
{
	struct emu_request request = {.call = EMU_CALL_ADD_MEMORY, .params[0].size = bytes};
	struct emu_reply reply;
	TEEC_Result result = TEEC_ERROR_OUT_OF_MEMORY;
	int fd;

	if (bytes == 0 || bytes > SIZE_MAX / 2)
		return TEEC_ERROR_BAD_PARAMETERS;
	fd = memfd_create("tee-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return result;
	if (ftruncate(fd, (off_t)bytes) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		goto out;
	*mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*mapping == MAP_FAILED)
		goto out;
	*id = request.session = context->next_memory++;
	result = world_call(context, &request, fd, &reply);
	if (result)
		munmap(*mapping, bytes);
out:
	close(fd);
	return result;
}

void world_unmap(TEEC_Context *context, size_t bytes, uint32_t id, void *mapping)
{
	struct emu_request request = {.call = EMU_CALL_REMOVE_MEMORY, .session = id};
	struct emu_reply reply;

	world_call(context, &request, -1, &reply);
	munmap(mapping, bytes);
}
