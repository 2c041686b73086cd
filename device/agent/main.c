/* The agent: reads requests on stdin, runs the public part itself, asks the TA for the rest, answers on stdout. */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deployment.h"
#include "frames.h"
#include "lb_sealed.h"
#include "training_requests.h"

#define IN STDIN_FILENO
#define OUT STDOUT_FILENO

/* A handler answers itself; 0: it could not, and `failure` says why, or has no code when the host is gone. */
typedef int handler(struct deployment *deployment, const struct request *request, struct failure *failure);

static int hello(struct deployment *deployment, const struct request *request, struct failure *failure)
{
	struct lb_hello body = {
		.protocol_version = LB_FRAME_VERSION,
		.model_version = LB_MODEL_VERSION,
		.frame_max_bytes = LB_FRAME_MAX_BYTES,
		.pid = (uint32_t)getpid(),
	};

	(void)deployment;
	(void)failure;
	return write_answer(OUT, request, &(struct piece){&body, sizeof(body)}, 1);
}

static int device_key(struct deployment *deployment, const struct request *request, struct failure *failure)
{
	uint8_t key[LB_SEALED_KEY_BYTES];

	return tee_device_key(&deployment->tee, key, failure) &&
	       write_answer(OUT, request, &(struct piece){key, sizeof(key)}, 1);
}

static int load(struct deployment *deployment, const struct request *request, struct failure *failure)
{
	struct lb_load body;

	memcpy(&body, request->body, sizeof(body));
	return deployment_begin(deployment, &body, failure) && write_answer(OUT, request, NULL, 0);
}

static int answer_loaded(const struct deployment *deployment, const struct request *request, struct failure *failure)
{
	const struct lb_model *model = &deployment->model;
	const struct lb_tensor *input = &model->tensors[model->refs[model->segments[0].first_input]];
	struct lb_loaded body = {
		.input_rank = input->rank,
		.n_classes = model->header->n_classes,
		.policy = deployment->policy,
		.n_crossings = deployment->n_crossings,
	};
	size_t bytes = deployment->n_crossings * sizeof(struct lb_crossing);
	struct lb_crossing *crossings = malloc(bytes + 1);
	int done;

	if (!crossings)
		return fail(failure, LB_AGENT_MEMORY, 0, "no memory for a list of %u tensors", body.n_crossings);
	memcpy(body.input_dims, input->dims, sizeof(input->dims));
	deployment_crossings(deployment, crossings);
	done = write_answer(OUT, request, (struct piece[]){{&body, sizeof(body)}, {crossings, bytes}}, 2);
	free(crossings);
	return done;
}

static int load_data(struct deployment *deployment, const struct request *request, struct failure *failure)
{
	if (!deployment_add(deployment, request->body, request->frame.bytes, failure))
		return 0;
	if (!deployment->is_ready)
		return write_answer(OUT, request, NULL, 0);
	return answer_loaded(deployment, request, failure);
}

static int infer(struct deployment *deployment, const struct request *request, struct failure *failure)
{
	struct lb_infer body;
	struct lb_result result = {.output_bytes = (uint32_t)deployment->output_bytes};
	const unsigned char *image = request->body + sizeof(body);
	unsigned char *output, *boundary = NULL;
	uint64_t invoke_ns = 0;
	int done = 0;

	memcpy(&body, request->body, sizeof(body));
	if (body.boundary > 1 || body.n_images == 0 ||
	    (uint64_t)body.n_images * deployment->image_bytes != request->frame.bytes - sizeof(body))
		return fail(failure, LB_AGENT_PROTOCOL, 0, "INFER of %u images of %zu bytes with a body of %u bytes",
			    body.n_images, deployment->image_bytes, request->frame.bytes);
	if (body.boundary)
		result.boundary_bytes = (uint32_t)deployment->boundary_bytes;
	output = malloc(deployment->output_bytes + result.boundary_bytes);
	if (!output)
		return fail(failure, LB_AGENT_MEMORY, 0, "no memory for an answer");
	if (body.boundary)
		boundary = output + deployment->output_bytes;
	for (uint32_t i = 0; i < body.n_images; i++, image += deployment->image_bytes) {
		done = deployment_query(deployment, image, output, boundary, CLOCK_MONOTONIC, &invoke_ns, failure) &&
		       write_answer(OUT, request,
				    (struct piece[]){{&result, sizeof(result)},
						     {output, deployment->output_bytes + result.boundary_bytes}},
				    2);
		if (!done)
			break;
	}
	free(output);
	return done;
}

/* Fills total and invoke [rounds], then noop [noops]. */
static int measure(struct deployment *deployment, const struct lb_time *time, const void *image, void *output,
		   uint64_t *ns, struct failure *failure)
{
	clockid_t clock = time->clock == LB_CLOCK_PROCESS_CPU ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
	uint64_t *total = ns, *invoke = ns + time->rounds, *noop = invoke + time->rounds;

	for (uint32_t i = 0; i < time->rounds; i++) {
		uint64_t start = now_ns(clock);

		if (!deployment_query(deployment, image, output, NULL, clock, &invoke[i], failure))
			return 0;
		total[i] = now_ns(clock) - start;
	}
	for (uint32_t i = 0; i < time->noops; i++)
		if (!tee_noop(&deployment->tee, clock, &noop[i], failure))
			return 0;
	return 1;
}

static int time_rounds(struct deployment *deployment, const struct request *request, struct failure *failure)
{
	struct lb_time body;
	size_t n;
	uint64_t *ns;
	void *output;
	int done;

	memcpy(&body, request->body, sizeof(body));
	if (body.rounds == 0 || body.rounds > LB_MAX_ROUNDS || body.noops > LB_MAX_ROUNDS || body.reserved ||
	    (body.clock != LB_CLOCK_MONOTONIC && body.clock != LB_CLOCK_PROCESS_CPU) ||
	    request->frame.bytes - sizeof(body) != deployment->image_bytes)
		return fail(failure, LB_AGENT_PROTOCOL, 0,
			    "TIME of %u rounds and %u empty calls on clock %u with a body of %u bytes", body.rounds,
			    body.noops, body.clock, request->frame.bytes);
	if (!deployment->sealed_bytes)
		body.noops = 0;
	n = 2u * (size_t)body.rounds + body.noops;
	ns = calloc(n, sizeof(*ns));
	output = malloc(deployment->output_bytes);
	done = ns && output ? measure(deployment, &body, request->body + sizeof(body), output, ns, failure)
			    : fail(failure, LB_AGENT_MEMORY, 0, "no memory for %zu times", n);
	if (done)
		done = write_answer(OUT, request, (struct piece[]){{&body, sizeof(body)}, {ns, n * sizeof(*ns)}}, 2);
	free(output);
	free(ns);
	return done;
}

static int stats(struct deployment *deployment, const struct request *request, struct failure *failure)
{
	struct lb_stats body = {
		.switches_per_query = deployment->switches,
		.bytes_to_tee = deployment->bytes_to_tee,
		.bytes_from_tee = deployment->bytes_from_tee,
		.ree_bytes = deployment_ree_bytes(deployment),
		.shared_bytes = deployment->tee.in.size + deployment->tee.out.size,
		.unseal_ns = deployment->unseal_ns,
		.unseal_cpu_ns = deployment->unseal_cpu_ns,
	};

	if (deployment->sealed_bytes &&
	    !tee_memory(&deployment->tee, &body.tee_peak_bytes, &body.tee_limit_bytes, failure))
		return 0;
	return write_answer(OUT, request, &(struct piece){&body, sizeof(body)}, 1);
}

static const struct {
	handler *handle;
	uint32_t at_least, at_most; /* bytes of the body */
	int needs_model;
} handlers[] = {
	[LB_FRAME_HELLO] = {hello, 0, 0, 0},
	[LB_FRAME_LOAD] = {load, sizeof(struct lb_load), sizeof(struct lb_load), 0},
	[LB_FRAME_LOAD_DATA] = {load_data, 1, LB_FRAME_MAX_BYTES, 0},
	[LB_FRAME_INFER] = {infer, sizeof(struct lb_infer), LB_FRAME_MAX_BYTES, 1},
	[LB_FRAME_TIME] = {time_rounds, sizeof(struct lb_time), LB_FRAME_MAX_BYTES, 1},
	[LB_FRAME_STATS] = {stats, 0, 0, 1},
	[LB_FRAME_DEVICE_KEY] = {device_key, 0, 0, 0},
	[LB_FRAME_TRAIN_BEGIN] = {train_begin_request, sizeof(struct lb_train_begin), LB_FRAME_MAX_BYTES, 1},
	[LB_FRAME_TRAIN_BATCH] = {train_batch_request, sizeof(struct lb_train_batch), LB_FRAME_MAX_BYTES, 1},
	[LB_FRAME_TRAIN_EXPORT] = {train_export_request, 0, 0, 1},
};

static int handle(struct deployment *deployment, const struct request *request, struct failure *failure)
{
	uint32_t type = request->frame.type, bytes = request->frame.bytes;

	if (type >= sizeof(handlers) / sizeof(handlers[0]) || !handlers[type].handle)
		return fail(failure, LB_AGENT_PROTOCOL, 0, "no request of type %u", type);
	if (bytes < handlers[type].at_least || bytes > handlers[type].at_most)
		return fail(failure, LB_AGENT_PROTOCOL, 0, "a request of type %u cannot have %u bytes", type, bytes);
	if (handlers[type].needs_model && !deployment->is_ready)
		return fail(failure, LB_AGENT_STATE, 0, "no deployment is loaded");
	return handlers[type].handle(deployment, request, failure);
}

int main(void)
{
	struct deployment deployment = {0};
	struct request request = {0};
	int status = 0;

	signal(SIGINT, SIG_IGN);  /* Ctrl-C is the host's, which then closes stdin */
	signal(SIGPIPE, SIG_IGN); /* a closed stdout shows as a failed write */
	for (;;) {
		struct failure failure = {0};
		enum read_result read = read_request(IN, &request, &failure);

		if (read == READ_END)
			break;
		if (read == READ_BROKEN) {
			write_failure(OUT, &request, &failure);
			status = 3;
			break;
		}
		if (request.frame.type == LB_FRAME_QUIT) {
			write_answer(OUT, &request, NULL, 0);
			break;
		}
		if (!handle(&deployment, &request, &failure) &&
		    (failure.code == 0 || !write_failure(OUT, &request, &failure)))
			break;
	}
	deployment_drop(&deployment);
	tee_end(&deployment.tee);
	free(request.body);
	return status;
}
