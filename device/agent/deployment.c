#define _POSIX_C_SOURCE 200809L
#include "deployment.h"

#include <stdlib.h>
#include <string.h>

/* Aligned as the runtime wants it; at least one byte. Untouched: what the host only announces takes no memory yet. */
static void *reserve(size_t bytes)
{
	size_t rounded = bytes / LB_ALIGN * LB_ALIGN + LB_ALIGN;

	return bytes > SIZE_MAX - LB_ALIGN ? NULL : aligned_alloc(LB_ALIGN, rounded);
}

/* As above, and zeroed. */
static void *allocate(size_t bytes)
{
	void *memory = reserve(bytes);

	if (memory)
		memset(memory, 0, bytes);
	return memory;
}

static void drop_sealed(struct deployment *deployment)
{
	free(deployment->sealed);
	deployment->sealed = NULL;
}

void deployment_drop(struct deployment *deployment)
{
	struct tee tee;

	tee_drop_model(&deployment->tee);
	tee = deployment->tee;
	drop_sealed(deployment);
	free(deployment->file);
	free(deployment->arena);
	free(deployment->scratch);
	*deployment = (struct deployment){.tee = tee};
}

int deployment_begin(struct deployment *deployment, const struct lb_load *load, struct failure *failure)
{
	deployment_drop(deployment);
	if (load->public_bytes == 0)
		return fail(failure, LB_AGENT_PROTOCOL, 0, "LOAD of a public file of 0 bytes");
	deployment->file = reserve(load->public_bytes);
	if (load->sealed_bytes)
		deployment->sealed = malloc(load->sealed_bytes);
	if (!deployment->file || (load->sealed_bytes && !deployment->sealed)) {
		deployment_drop(deployment);
		return fail(failure, LB_AGENT_MEMORY, 0, "no memory for files of %u and %u bytes", load->public_bytes,
			    load->sealed_bytes);
	}
	deployment->file_bytes = load->public_bytes;
	deployment->sealed_bytes = load->sealed_bytes;
	return 1;
}

static int is_tee(const struct deployment *deployment, uint32_t segment)
{
	return deployment->model.segments[segment].world == LB_WORLD_TEE;
}

static int is_last(const struct deployment *deployment, uint32_t segment)
{
	return segment + 1u == deployment->model.header->n_segments;
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* What crosses, and the memory that it needs on the way. */
static int open_tee(struct deployment *deployment, struct failure *failure)
{
	const struct lb_model *model = &deployment->model;
	size_t most_in = 0, most_out = 0;
	uint32_t segments = 0;

	for (uint32_t s = 0; s < model->header->n_segments; s++) {
		size_t in = lb_segment_input_bytes(model, s), out = lb_segment_output_bytes(model, s);

		if (!is_tee(deployment, s))
			continue;
		segments++;
		most_in = larger(most_in, in);
		most_out = larger(most_out, out);
		deployment->bytes_to_tee += in;
		deployment->bytes_from_tee += out;
		deployment->boundary_bytes += in + (is_last(deployment, s) ? 0 : out);
		deployment->n_crossings +=
			model->segments[s].n_inputs + (is_last(deployment, s) ? 0 : model->segments[s].n_outputs);
	}
	deployment->switches = segments;
	if (segments && !deployment->sealed_bytes)
		return fail(failure, LB_AGENT_MODEL, 0,
			    "the public file has %u TEE segments, but no sealed file was given", segments);
	if (!segments && deployment->sealed_bytes)
		return fail(failure, LB_AGENT_MODEL, 0,
			    "a sealed file was given, but the public file has no TEE segment");
	if (!segments)
		return 1;
	if (!tee_load(&deployment->tee, deployment->sealed, deployment->sealed_bytes, failure))
		return 0;
	drop_sealed(deployment);
	return tee_open(&deployment->tee, model->header->model_id, segments, most_in, most_out, failure);
}

static int make_ready(struct deployment *deployment, struct failure *failure)
{
	struct lb_model *model = &deployment->model;
	enum lb_error error = lb_model_parse(model, deployment->file, deployment->file_bytes);
	uint32_t last;

	if (error == LB_OK && model->header->world != LB_WORLD_REE)
		error = LB_ERROR_WORLD;
	if (error)
		return fail(failure, LB_AGENT_MODEL, (uint32_t)error, "the public file is refused: %s (at %u)",
			    lb_strerror(error), model->fault);
	deployment->arena = allocate(model->header->arena_bytes);
	deployment->scratch = allocate(model->scratch_bytes);
	if (!deployment->arena || !deployment->scratch)
		return fail(failure, LB_AGENT_MEMORY, 0, "no memory for an arena of %u bytes",
			    model->header->arena_bytes);
	last = model->header->n_segments - 1u;
	deployment->image_bytes = lb_segment_input_bytes(model, 0);
	if (!open_tee(deployment, failure))
		return 0;
	deployment->policy = is_tee(deployment, last) ? deployment->tee.policy : model->header->policy;
	deployment->output_bytes = lb_policy_bytes(deployment->policy, model->header->n_classes);
	if (is_tee(deployment, last) &&
	    (!deployment->policy || lb_segment_output_bytes(model, last) != deployment->output_bytes))
		return fail(failure, LB_AGENT_SEALED, 0,
			    "the sealed model gives another kind of answer than the public file says");
	if (deployment->boundary_bytes + deployment->output_bytes + sizeof(struct lb_result) > LB_FRAME_MAX_BYTES)
		return fail(failure, LB_AGENT_MODEL, 0,
			    "%zu bytes cross the boundary in a query, more than a frame holds",
			    deployment->boundary_bytes);
	deployment->is_ready = 1;
	return 1;
}

/* The part of `bytes` that one file still takes. */
static size_t take(unsigned char *file, size_t file_bytes, size_t *received, const unsigned char *data, size_t bytes)
{
	size_t missing = file_bytes - *received, taken = bytes < missing ? bytes : missing;

	if (taken)
		memcpy(file + *received, data, taken);
	*received += taken;
	return taken;
}

int deployment_add(struct deployment *deployment, const void *data, size_t bytes, struct failure *failure)
{
	size_t missing, taken;

	if (!deployment->file || deployment->is_ready)
		return fail(failure, LB_AGENT_STATE, 0, "LOAD_DATA without LOAD");
	missing = deployment->file_bytes - deployment->received;
	missing += deployment->sealed_bytes - deployment->sealed_received;
	if (bytes == 0 || bytes > missing) {
		fail(failure, LB_AGENT_PROTOCOL, 0, "LOAD_DATA of %zu bytes where %zu are missing", bytes, missing);
		deployment_drop(deployment);
		return 0;
	}
	taken = take(deployment->file, deployment->file_bytes, &deployment->received, data, bytes);
	take(deployment->sealed, deployment->sealed_bytes, &deployment->sealed_received,
	     (const unsigned char *)data + taken, bytes - taken);
	if (bytes < missing || make_ready(deployment, failure))
		return 1;
	deployment_drop(deployment);
	return 0;
}

static void list_tensors(const struct deployment *deployment, uint32_t segment, uint32_t from_tee, uint32_t first,
			 uint32_t n, struct lb_crossing *crossings)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct lb_tensor *tensor = &deployment->model.tensors[deployment->model.refs[first + i]];

		crossings[i] =
			(struct lb_crossing){.step = segment, .from_tee = from_tee, .index = i, .rank = tensor->rank};
		memcpy(crossings[i].dims, tensor->dims, sizeof(tensor->dims));
	}
}

void deployment_crossings(const struct deployment *deployment, struct lb_crossing *crossings)
{
	for (uint32_t s = 0; s < deployment->model.header->n_segments; s++) {
		const struct lb_segment *segment = &deployment->model.segments[s];

		if (!is_tee(deployment, s))
			continue;
		list_tensors(deployment, s, 0, segment->first_input, segment->n_inputs, crossings);
		crossings += segment->n_inputs;
		if (is_last(deployment, s))
			continue;
		list_tensors(deployment, s, 1, segment->first_output, segment->n_outputs, crossings);
		crossings += segment->n_outputs;
	}
}

int deployment_query(struct deployment *deployment, const void *image, void *output, void *boundary, clockid_t clock,
		     uint64_t *invoke_ns, struct failure *failure)
{
	const struct lb_model *model = &deployment->model;
	const struct lb_model_header *header = model->header;
	unsigned char *recorded = boundary;
	uint32_t tee_segment = 0;
	const struct lb_tensor *answer;

	lb_segment_put_inputs(model, 0, deployment->arena, image);
	for (uint32_t s = 0; s < header->n_segments; s++) {
		size_t in = lb_segment_input_bytes(model, s), out = lb_segment_output_bytes(model, s);

		if (!is_tee(deployment, s)) {
			lb_segment_run(model, s, deployment->arena, deployment->scratch);
			continue;
		}
		lb_segment_get_inputs(model, s, deployment->arena, deployment->tee.in.buffer);
		if (recorded) {
			memcpy(recorded, deployment->tee.in.buffer, in);
			recorded += in;
		}
		if (!tee_run(&deployment->tee, tee_segment++, in, out, clock, invoke_ns, failure))
			return 0;
		if (is_last(deployment, s)) {
			memcpy(output, deployment->tee.out.buffer, deployment->output_bytes);
			return 1;
		}
		lb_segment_put_outputs(model, s, deployment->arena, deployment->tee.out.buffer);
		if (recorded) {
			memcpy(recorded, deployment->tee.out.buffer, out);
			recorded += out;
		}
	}
	answer = &model->tensors[model->refs[model->segments[header->n_segments - 1u].first_output]];
	lb_policy_apply(header->policy, header->policy_arg,
			(const float *)(const void *)((unsigned char *)deployment->arena + answer->offset),
			header->n_classes, output);
	return 1;
}

size_t deployment_ree_bytes(const struct deployment *deployment)
{
	return deployment->file_bytes + deployment->model.header->arena_bytes + deployment->model.scratch_bytes;
}
