#include "frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_PIECES 8

/* Bytes read: fewer than asked for only at the end of input. */
static size_t read_fully(int fd, void *to, size_t bytes)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = read(fd, (unsigned char *)to + done, bytes - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

static int reserve(struct request *request, size_t bytes)
{
	unsigned char *grown;

	if (bytes <= request->room)
		return 1;
	grown = realloc(request->body, bytes);
	if (!grown)
		return 0;
	request->body = grown;
	request->room = bytes;
	return 1;
}

enum read_result read_request(int fd, struct request *request, struct failure *failure)
{
	const struct lb_frame *frame = &request->frame;
	size_t n = read_fully(fd, &request->frame, sizeof(request->frame));

	if (n == 0)
		return READ_END;
	if (n < sizeof(request->frame)) {
		fail(failure, LB_AGENT_PROTOCOL, 0, "the input ends within a frame's header");
		return READ_BROKEN;
	}
	if (frame->magic != LB_FRAME_MAGIC) {
		fail(failure, LB_AGENT_PROTOCOL, 0, "not a frame (magic 0x%08x)", frame->magic);
		return READ_BROKEN;
	}
	if (frame->version != LB_FRAME_VERSION) {
		fail(failure, LB_AGENT_PROTOCOL, 0, "protocol version %u, this agent speaks %u", frame->version,
		     LB_FRAME_VERSION);
		return READ_BROKEN;
	}
	if (frame->bytes > LB_FRAME_MAX_BYTES) {
		fail(failure, LB_AGENT_PROTOCOL, 0, "a frame of %u bytes, at most %u are allowed", frame->bytes,
		     LB_FRAME_MAX_BYTES);
		return READ_BROKEN;
	}
	if (!reserve(request, frame->bytes)) {
		fail(failure, LB_AGENT_MEMORY, 0, "no memory for a frame of %u bytes", frame->bytes);
		return READ_BROKEN;
	}
	if (read_fully(fd, request->body, frame->bytes) < frame->bytes) {
		fail(failure, LB_AGENT_PROTOCOL, 0, "the input ends within a frame's body");
		return READ_BROKEN;
	}
	return READ_FRAME;
}

static int write_vectors(int fd, struct iovec *vector, int n)
{
	while (n > 0) {
		ssize_t written = writev(fd, vector, n);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return 0;
		while (n > 0 && (size_t)written >= vector->iov_len) {
			written -= (ssize_t)vector->iov_len;
			vector++;
			n--;
		}
		if (n > 0) {
			vector->iov_base = (unsigned char *)vector->iov_base + written;
			vector->iov_len -= (size_t)written;
		}
	}
	return 1;
}

static int write_frame(int fd, struct lb_frame frame, const struct piece *pieces, size_t n_pieces)
{
	struct iovec vector[MAX_PIECES + 1] = {{.iov_base = &frame, .iov_len = sizeof(frame)}};
	size_t bytes = 0;

	if (n_pieces > MAX_PIECES)
		return 0;
	for (size_t i = 0; i < n_pieces; i++) {
		union { /* writev() does not write, but iov_base is not const */
			const void *read_only;
			void *data;
		} base = {.read_only = pieces[i].data};

		vector[i + 1] = (struct iovec){.iov_base = base.data, .iov_len = pieces[i].bytes};
		bytes += pieces[i].bytes;
	}
	if (bytes > LB_FRAME_MAX_BYTES)
		return 0;
	frame.magic = LB_FRAME_MAGIC;
	frame.version = LB_FRAME_VERSION;
	frame.bytes = (uint32_t)bytes;
	return write_vectors(fd, vector, (int)n_pieces + 1);
}

int write_answer(int fd, const struct request *request, const struct piece *pieces, size_t n_pieces)
{
	struct lb_frame frame = request->frame;

	frame.type = (uint16_t)(frame.type | LB_FRAME_ANSWER);
	return write_frame(fd, frame, pieces, n_pieces);
}

int write_failure(int fd, const struct request *request, const struct failure *failure)
{
	struct lb_frame frame = request->frame;
	struct lb_failure body = {.code = failure->code, .detail = failure->detail};
	const struct piece pieces[] = {{&body, sizeof(body)}, {failure->text, strlen(failure->text)}};

	frame.type = LB_FRAME_ERROR;
	return write_frame(fd, frame, pieces, 2);
}
