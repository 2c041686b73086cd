/* Frames in and out. */
#ifndef LB_AGENT_FRAMES_H
#define LB_AGENT_FRAMES_H

#include <stddef.h>

#include "agent_protocol.h"
#include "failure.h"

/* A request; `body` belongs to the reader and is good until the next one, aligned for any type. */
struct request {
	struct lb_frame frame;
	unsigned char *body;
	size_t room;
};

enum read_result {
	READ_FRAME,
	READ_END,    /* stdin is closed */
	READ_BROKEN, /* `failure` says why: no later frame can be found */
};

enum read_result read_request(int fd, struct request *request, struct failure *failure);

/* A piece of an answer's body. */
struct piece {
	const void *data;
	size_t bytes;
};

/* One frame from at most 8 pieces; 0 when the host is gone. */
int write_answer(int fd, const struct request *request, const struct piece *pieces, size_t n_pieces);
int write_failure(int fd, const struct request *request, const struct failure *failure);

#endif
