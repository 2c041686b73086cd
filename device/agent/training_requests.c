#define _POSIX_C_SOURCE 200809L
#include "training_requests.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lb_training.h"
#include "training.h"

#define OUT STDOUT_FILENO

int train_begin_request(struct deployment *deployment, const struct request *request, struct failure *failure)
{
	struct lb_train_begin body;
	struct lb_train_begun begun;

	memcpy(&body, request->body, sizeof(body));
	if (body.n_dropouts > LB_MAX_DROPOUTS ||
	    body.n_dropouts * sizeof(struct lb_dropout) != request->frame.bytes - sizeof(body))
		return fail(failure, LB_AGENT_PROTOCOL, 0, "TRAIN_BEGIN of %u dropouts with a body of %u bytes",
			    body.n_dropouts, request->frame.bytes);
	return training_begin(deployment, &body, request->body + sizeof(body), &begun, failure) &&
	       write_answer(OUT, request, &(struct piece){&begun, sizeof(begun)}, 1);
}

int train_batch_request(struct deployment *deployment, const struct request *request, struct failure *failure)
{
	struct lb_train_batch body;
	struct lb_trained trained;
	const unsigned char *images = request->body + sizeof(body);
	struct shown shown;
	size_t crossing_bytes, boundary_bytes, bytes;
	unsigned char *block;
	int done;

	memcpy(&body, request->body, sizeof(body));
	if (body.n_images == 0 || body.update > 1 || body.crossings > 1 || body.boundary > 1 || body.gradients > 1 ||
	    (body.clock != LB_CLOCK_MONOTONIC && body.clock != LB_CLOCK_PROCESS_CPU) ||
	    body.n_images * (deployment->image_bytes + (uint64_t)sizeof(uint32_t)) !=
		    request->frame.bytes - sizeof(body))
		return fail(failure, LB_AGENT_PROTOCOL, 0, "TRAIN_BATCH of %u images with a body of %u bytes",
			    body.n_images, request->frame.bytes);
	crossing_bytes = body.crossings ? body.n_images * deployment->boundary_bytes : 0;
	boundary_bytes = body.boundary ? body.n_images * deployment->boundary_bytes : 0;
	bytes = crossing_bytes + boundary_bytes + (body.gradients ? deployment->model.header->weights_bytes : 0);
	if (bytes + sizeof(trained) > LB_FRAME_MAX_BYTES)
		return fail(failure, LB_AGENT_PROTOCOL, 0,
			    "what crosses and gradients of %zu bytes are more than a frame holds", bytes);
	block = calloc(1, bytes + 1);
	if (!block)
		return fail(failure, LB_AGENT_MEMORY, 0, "no memory for gradients of %zu bytes", bytes);
	shown = (struct shown){
		.crossings = body.crossings ? block : NULL,
		.boundary = body.boundary ? block + crossing_bytes : NULL,
		.gradients = body.gradients ? block + crossing_bytes + boundary_bytes : NULL,
	};
	done = training_batch(deployment, &body, images, images + body.n_images * deployment->image_bytes, &shown,
			      &trained, failure);
	if (done)
		done = write_answer(OUT, request, (struct piece[]){{&trained, sizeof(trained)}, {block, bytes}}, 2);
	free(block);
	return done;
}

int train_export_request(struct deployment *deployment, const struct request *request, struct failure *failure)
{
	struct lb_exported exported = {.public_bytes = (uint32_t)deployment->file_bytes};
	unsigned char *sealed;
	size_t bytes;
	int done;

	if (!training_export(deployment, &sealed, &bytes, failure))
		return 0;
	exported.sealed_bytes = (uint32_t)bytes;
	if (sizeof(exported) + deployment->file_bytes + bytes > LB_FRAME_MAX_BYTES)
		done = fail(failure, LB_AGENT_PROTOCOL, 0, "the tuned model has %zu bytes, more than a frame holds",
			    deployment->file_bytes + bytes);
	else
		done = write_answer(OUT, request,
				    (struct piece[]){{&exported, sizeof(exported)},
						     {deployment->file, deployment->file_bytes},
						     {sealed, bytes}},
				    3);
	free(sealed);
	return done;
}
