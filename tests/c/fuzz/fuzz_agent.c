/*
 * The agent with the TA behind it: a stream of frames on its input, from the first to the last byte what the fuzzer
 * says. Promises: whatever comes, the agent answers in whole frames, ends, and leaves nothing in either world.
 */
#include <errno.h>
#include <sys/uio.h>

#include "agent_protocol.h"
#include "fuzz.h"
#include "fuzz_tee.h"
#include "lb_sealed_check.h"
#include "model_store.h"
#include "secure_world.h"

#define TEE_LIMIT 524288u
#define MOST_BYTES 16384u

/* Before the frames. */
struct settings {
	uint8_t seals;      /* bit 0: tags are put right, bit 1: keys, too */
	uint8_t fail_after; /* storage and cryptography of the TEE */
	uint8_t pieces;     /* reads and writes give and take no more at once; 0: any number */
	uint8_t last_write; /* then the host is gone; 0: never */
};

static struct {
	struct settings settings;
	uint8_t bytes[MOST_BYTES];
	size_t size, at;
	struct lb_frame answer; /* that is being written */
	size_t answered;
	uint32_t writes;
} stream;

int agent_main(void);
ssize_t fuzz_read(int fd, void *to, size_t bytes);
ssize_t fuzz_writev(int fd, const struct iovec *vector, int n);
void (*fuzz_signal(int number, void (*handler)(int)))(int);

void (*fuzz_signal(int number, void (*handler)(int)))(int)
{
	(void)number;
	return handler;
}

static size_t piece(size_t bytes)
{
	return stream.settings.pieces && bytes > stream.settings.pieces ? stream.settings.pieces : bytes;
}

ssize_t fuzz_read(int fd, void *to, size_t bytes)
{
	size_t n = piece(bytes < stream.size - stream.at ? bytes : stream.size - stream.at);

	(void)fd;
	if (n)
		memcpy(to, stream.bytes + stream.at, n);
	stream.at += n;
	return (ssize_t)n;
}

/* Where a frame begins and ends in what is written, piece by piece. */
static void answered(const uint8_t *data, size_t bytes)
{
	while (bytes) {
		size_t n = stream.answered < sizeof(stream.answer)
				   ? sizeof(stream.answer) - stream.answered
				   : sizeof(stream.answer) + stream.answer.bytes - stream.answered;

		n = n < bytes ? n : bytes;
		if (stream.answered < sizeof(stream.answer))
			memcpy((uint8_t *)&stream.answer + stream.answered, data, n);
		else
			FUZZ_PROMISE(n);
		stream.answered += n;
		data += n;
		bytes -= n;
		if (stream.answered < sizeof(stream.answer))
			continue;
		FUZZ_PROMISE(stream.answer.magic == LB_FRAME_MAGIC && stream.answer.version == LB_FRAME_VERSION);
		FUZZ_PROMISE(stream.answer.type & LB_FRAME_ANSWER);
		FUZZ_PROMISE(stream.answer.bytes <= LB_FRAME_MAX_BYTES);
		if (stream.answered == sizeof(stream.answer) + stream.answer.bytes)
			stream.answered = 0;
	}
}

ssize_t fuzz_writev(int fd, const struct iovec *vector, int n)
{
	size_t left = piece(SIZE_MAX / 2), done = 0;

	(void)fd;
	if (stream.settings.last_write && ++stream.writes >= stream.settings.last_write) {
		errno = EPIPE;
		return -1;
	}
	for (int i = 0; i < n && left; i++) {
		size_t bytes = vector[i].iov_len < left ? vector[i].iov_len : left;

		answered(vector[i].iov_base, bytes);
		left -= bytes;
		done += bytes;
	}
	return (ssize_t)done;
}

/* The frame at `at`; 0 when what is left is none. */
static int frame_at(size_t at, struct lb_frame *frame)
{
	if (stream.size - at < sizeof(*frame))
		return 0;
	memcpy(frame, stream.bytes + at, sizeof(*frame));
	return frame->bytes <= stream.size - at - sizeof(*frame);
}

/* A sealed file that is whole: to this device, with tags that fit. */
static void seal(uint8_t *file, size_t bytes)
{
	struct lb_sealed_header header;
	size_t at = sizeof(header), record;

	if (bytes < sizeof(header))
		return;
	memcpy(&header, file, sizeof(header));
	if (stream.settings.seals & 2) {
		fuzz_tee_device_id(header.device_id);
		fuzz_generator(header.ephemeral_key);
		memcpy(file, &header, sizeof(header));
	}
	for (uint32_t i = 0; i < header.n_chunks; i++, at += record) {
		record = lb_sealed_record_bytes(&header, i);
		if (record > bytes - at || record <= sizeof(struct lb_sealed_chunk) + LB_SEALED_TAG_BYTES)
			return;
		fuzz_tee_seal(&header, i, file + at, record);
	}
}

/* Rounds of timing cost time and nothing else: few will do. A sealed file that comes in one piece is sealed. */
static void prepare(void)
{
	struct lb_frame frame;
	struct lb_load load = {0};
	struct lb_time time;
	size_t received = 0;

	for (size_t at = 0; frame_at(at, &frame); at += sizeof(frame) + frame.bytes) {
		uint8_t *body = stream.bytes + at + sizeof(frame);

		if (frame.type == LB_FRAME_LOAD && frame.bytes == sizeof(load)) {
			memcpy(&load, body, sizeof(load));
			received = 0;
		} else if (frame.type == LB_FRAME_LOAD_DATA) {
			size_t public = received < load.public_bytes ? load.public_bytes - received : 0;

			if (stream.settings.seals & 1 && public <= frame.bytes && received <= load.public_bytes &&
			    frame.bytes - public >= load.sealed_bytes && load.sealed_bytes)
				seal(body + public, load.sealed_bytes);
			received += frame.bytes;
		} else if (frame.type == LB_FRAME_TIME && frame.bytes >= sizeof(time)) {
			memcpy(&time, body, sizeof(time));
			if (time.rounds > 3 && time.rounds <= LB_MAX_ROUNDS)
				time.rounds = 1 + time.rounds % 3;
			if (time.noops > 3 && time.noops <= LB_MAX_ROUNDS)
				time.noops %= 4;
			memcpy(body, &time, sizeof(time));
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	int status;

	memset(&stream, 0, sizeof(stream));
	take(&input, &stream.settings, sizeof(stream.settings));
	stream.size = input.left < MOST_BYTES ? input.left : MOST_BYTES;
	take(&input, stream.bytes, stream.size);
	prepare();
	fuzz_tee_reset();
	fuzz_tee_fail_after(stream.settings.fail_after);
	fuzz_work_begins();
	memory_start(TEE_LIMIT, 0);
	status = agent_main();
	FUZZ_PROMISE(status == 0 || status == 3);
	FUZZ_PROMISE(stream.answered == 0 || stream.settings.last_write);
	FUZZ_PROMISE(lb_heap_now() == 0 && memory_now() == 0 && fuzz_tee_handles() == 0);
	return 0;
}

/* Every frame begins as one and ends within the input, unless that is what is tried. */
static void repair(uint8_t *data, size_t size)
{
	struct lb_frame frame;

	for (size_t at = sizeof(struct settings); size >= at + sizeof(frame); at += sizeof(frame) + frame.bytes) {
		memcpy(&frame, data + at, sizeof(frame));
		frame.magic = LB_FRAME_MAGIC;
		frame.version = LB_FRAME_VERSION;
		if (frame.bytes > size - at - sizeof(frame))
			frame.bytes = (uint32_t)(size - at - sizeof(frame));
		memcpy(data + at, &frame, sizeof(frame));
	}
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	if (seed % 3 == 0 || size < sizeof(struct settings) + sizeof(struct lb_frame)) {
		size = LLVMFuzzerMutate(data, size, max_size);
	} else {
		size_t at = sizeof(struct settings);

		for (uint32_t i = 0; i <= seed / 3 % 3; i++)
			fuzz_mutate_word(data + at, size - at, seed / 9 + i);
	}
	if (seed % 32)
		repair(data, size);
	return size;
}
