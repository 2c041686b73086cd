#define _POSIX_C_SOURCE 200809L
#include "deployment.h"

#include <stdlib.h>
#include <string.h>

#include "training.h"

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

	training_drop(deployment);
	tee_drop_model(&deployment->tee);
	tee = deployment->tee;
	drop_sealed(deployment);
	free(deployment->slices.file);
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
	if (load->slices_bytes)
		deployment->slices.file = malloc(load->slices_bytes);
	if (!deployment->file || (load->sealed_bytes && !deployment->sealed) ||
	    (load->slices_bytes && !deployment->slices.file)) {
		deployment_drop(deployment);
		return fail(failure, LB_AGENT_MEMORY, 0, "no memory for files of %u, %u and %u bytes",
			    load->public_bytes, load->sealed_bytes, load->slices_bytes);
	}
	deployment->file_bytes = load->public_bytes;
	deployment->sealed_bytes = load->sealed_bytes;
	deployment->slices.bytes = load->slices_bytes;
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
	if (!slices_read(&deployment->slices, model->header->model_id, failure))
		return 0;
	if (!segments && deployment->slices.bytes)
		return fail(failure, LB_AGENT_SLICES, 0,
			    "sealed slices were given, but the public file has no TEE segment");
	if (!segments)
		return 1;
	deployment->unseal_ns = now_ns(CLOCK_MONOTONIC);
	deployment->unseal_cpu_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID);
	if (!tee_load(&deployment->tee, deployment->sealed, deployment->sealed_bytes, failure))
		return 0;
	deployment->unseal_ns = now_ns(CLOCK_MONOTONIC) - deployment->unseal_ns;
	deployment->unseal_cpu_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID) - deployment->unseal_cpu_ns;
	drop_sealed(deployment);
	/* Slices come through the block of the inputs, which lie in the TA by then. */
	most_in = larger(most_in, deployment->slices.largest);
	if (!tee_open(&deployment->tee, model->header->model_id, segments, most_in, most_out, failure))
		return 0;
	if (deployment->tee.slices != deployment->slices.n ||
	    deployment->tee.largest_slice != deployment->slices.largest)
		return fail(failure, LB_AGENT_SLICES, 0,
			    "the sealed model takes %u slices of at most %u bytes, given are %u of at most %zu",
			    deployment->tee.slices, deployment->tee.largest_slice, deployment->slices.n,
			    deployment->slices.largest);
	deployment->bytes_to_tee += deployment->slices.payload;
	slices_rewind(&deployment->slices);
	while (slices_next(&deployment->slices, UINT32_MAX, deployment->tee.in.buffer, deployment->tee.in.size))
		deployment->switches++;
	return 1;
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
	const unsigned char *from = data;
	size_t missing, taken;

	if (!deployment->file || deployment->is_ready)
		return fail(failure, LB_AGENT_STATE, 0, "LOAD_DATA without LOAD");
	missing = deployment->file_bytes - deployment->received;
	missing += deployment->sealed_bytes - deployment->sealed_received;
	missing += deployment->slices.bytes - deployment->slices.received;
	if (bytes == 0 || bytes > missing) {
		fail(failure, LB_AGENT_PROTOCOL, 0, "LOAD_DATA of %zu bytes where %zu are missing", bytes, missing);
		deployment_drop(deployment);
		return 0;
	}
	taken = take(deployment->file, deployment->file_bytes, &deployment->received, from, bytes);
	taken += take(deployment->sealed, deployment->sealed_bytes, &deployment->sealed_received, from + taken,
		      bytes - taken);
	take(deployment->slices.file, deployment->slices.bytes, &deployment->slices.received, from + taken,
	     bytes - taken);
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
		crossings[i].dtype = tensor->dtype;
		crossings[i].scale = tensor->scale;
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

/* One TEE segment, whose inputs lie in the block of shared memory, with all slices that it takes. */
static int run_in_tee(struct deployment *deployment, uint32_t segment, size_t in_bytes, size_t out_bytes,
		      uint64_t *switches, clockid_t clock, uint64_t *ns, struct failure *failure)
{
	struct tee *tee = &deployment->tee;
	uint32_t missing;

	if (!tee_run(tee, segment, in_bytes, out_bytes, &missing, clock, ns, failure))
		return 0;
	for (++*switches; missing; ++*switches) {
		uint32_t first = deployment->slices.next;
		size_t bytes = slices_next(&deployment->slices, missing, tee->in.buffer, tee->in.size);

		if (!bytes)
			return fail(failure, LB_AGENT_SLICES, first, "the TA wants %u slices more than there are",
				    missing);
		if (!tee_feed(tee, segment, bytes, out_bytes, &missing, clock, ns, failure))
			return 0;
	}
	return 1;
}

int deployment_query(struct deployment *deployment, const void *image, void *output, void *boundary, clockid_t clock,
		     uint64_t *invoke_ns, struct failure *failure)
{
	const struct lb_model *model = &deployment->model;
	const struct lb_model_header *header = model->header;
	unsigned char *recorded = boundary;
	uint32_t tee_segment = 0;
	uint64_t switches = 0;
	const struct lb_tensor *answer;

	slices_rewind(&deployment->slices);
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
		if (!run_in_tee(deployment, tee_segment++, in, out, &switches, clock, invoke_ns, failure))
			return 0;
		deployment->switches = switches > deployment->switches ? switches : deployment->switches;
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
	return deployment->file_bytes + deployment->slices.bytes + deployment->model.header->arena_bytes +
	       deployment->model.scratch_bytes;
}
