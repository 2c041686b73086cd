#include "slices.h"

#include <string.h>

#include "agent_protocol.h"
#include "lb_slices.h"

static size_t record_bytes(const struct slices *slices, uint32_t index)
{
	uint32_t bytes;

	memcpy(&bytes, slices->file + sizeof(struct lb_slices_header) + sizeof(bytes) * (size_t)index, sizeof(bytes));
	return (size_t)bytes + LB_SLICE_TAG_BYTES;
}

static size_t first_record(const struct slices *slices)
{
	return sizeof(struct lb_slices_header) + sizeof(uint32_t) * (size_t)slices->n;
}

int slices_read(struct slices *slices, const uint32_t model_id[4], struct failure *failure)
{
	struct lb_slices_header header;

	if (!slices->bytes)
		return 1;
	if (slices->bytes < sizeof(header))
		return fail(failure, LB_AGENT_SLICES, 0, "the sealed slices end within their header (%zu bytes)",
			    slices->bytes);
	memcpy(&header, slices->file, sizeof(header));
	if (header.magic != LB_SLICES_MAGIC || header.format != LB_SLICES_FORMAT || header.reserved)
		return fail(failure, LB_AGENT_SLICES, 0, "the sealed slices are no such file, or of another format");
	if (memcmp(header.model_id, model_id, sizeof(header.model_id)))
		return fail(failure, LB_AGENT_SLICES, 0, "the sealed slices are another model's");
	if (header.n_slices > (slices->bytes - sizeof(header)) / sizeof(uint32_t))
		return fail(failure, LB_AGENT_SLICES, 0, "the table of %u sealed slices is cut short", header.n_slices);
	slices->n = header.n_slices;
	for (uint32_t i = 0; i < slices->n; i++) {
		size_t bytes = record_bytes(slices, i);

		if (bytes > slices->bytes - first_record(slices) - slices->payload)
			return fail(failure, LB_AGENT_SLICES, i,
				    "the sealed slices are cut short: slice %u is not whole", i);
		slices->payload += bytes;
		slices->largest = bytes > slices->largest ? bytes : slices->largest;
	}
	if (slices->payload != slices->bytes - first_record(slices))
		return fail(failure, LB_AGENT_SLICES, 0, "the file of sealed slices goes on behind its last slice");
	return 1;
}

void slices_rewind(struct slices *slices)
{
	slices->next = 0;
	slices->at = 0;
}

size_t slices_next(struct slices *slices, uint32_t most, void *to, size_t room)
{
	const size_t from = slices->at;
	uint32_t taken = 0;

	for (; slices->next < slices->n && taken < most; slices->next++, taken++) {
		size_t bytes = record_bytes(slices, slices->next);

		if (bytes > room - (slices->at - from))
			break;
		slices->at += bytes;
	}
	if (slices->at > from)
		memcpy(to, slices->file + first_record(slices) + from, slices->at - from);
	return slices->at - from;
}
