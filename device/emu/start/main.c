/*
 * The emulated secure world: a process of its own, started by the client API (../client), that hosts the TA on a stack
 * of its declared size under the TEE's memory limit.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../secure/libcrypto.h"
#include "../secure/secure_world.h"
#include "user_ta_header_defines.h"

#ifndef EMU_EXTRA_STACK
#define EMU_EXTRA_STACK (96 * 1024) /* frames of this side, of libcrypto and the C library; sanitizers want more */
#endif

#define DEFAULT_LIMIT (16u * 1024u * 1024u)
#define CONFIG_MAX 8192

/* Set by the linker: what the executable's writable data spans. */
extern char __data_start, end;

static void die(const char *what)
{
	fprintf(stderr, "secure world: %s\n", what);
	exit(2);
}

static uint64_t read_config(void)
{
	char text[CONFIG_MAX + 1], *line, *rest = text;
	uint64_t limit = DEFAULT_LIMIT;
	ssize_t n = pread(EMU_CONFIG_FD, text, CONFIG_MAX, 0);

	if (n < 0)
		return limit; /* started without one */
	text[n] = '\0';
	close(EMU_CONFIG_FD);
	while ((line = strsep(&rest, "\n")) != NULL) {
		char *value = strchr(line, '='), *stop = NULL;

		if (!*line)
			continue;
		if (!value)
			die("a line of the configuration is not name=value");
		*value++ = '\0';
		if (!strcmp(line, "tee_limit_bytes")) {
			limit = strtoull(value, &stop, 10);
			if (!*value || *stop)
				die("tee_limit_bytes is not a number");
		} else if (!strcmp(line, "storage")) {
			storage_start(value);
		} else {
			die("the configuration has a name that is not known");
		}
	}
	return limit;
}

/* A second fence behind the accounting, for memory taken past it: the address space may grow by little more. */
static void fence(uint64_t limit)
{
#ifndef EMU_SANITIZED /* a sanitizer reserves terabytes */
	unsigned long long pages = 0;
	struct rlimit rlimit;
	FILE *statm = fopen("/proc/self/statm", "re");

	if (!statm)
		return;
	if (fscanf(statm, "%llu", &pages) == 1) {
		rlimit.rlim_cur = rlimit.rlim_max = pages * (rlim_t)sysconf(_SC_PAGESIZE) + limit + (4u << 20);
		setrlimit(RLIMIT_AS, &rlimit);
	}
	fclose(statm);
#else
	(void)limit;
#endif
}

static void *run(void *unused)
{
	serve(EMU_SOCKET_FD);
	return unused;
}

int main(void)
{
	pthread_attr_t attributes;
	pthread_t thread;
	const char *missing;
	uint64_t limit;

	/* The client asked for this before exec; once more, in case it was started by hand. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
#ifndef EMU_SANITIZED
	prctl(PR_SET_DUMPABLE, 0); /* no debugger and no /proc/<pid>/mem for the normal world; leak checks need them */
#endif
	mallopt(M_ARENA_MAX, 1);
	missing = libcrypto_start();
	if (missing)
		die(missing);
	limit = read_config();
	memory_start(limit, TA_STACK_SIZE + (uint64_t)(&end - &__data_start));
	if (memory_now() > limit)
		die("the TEE's memory limit does not even hold the TA's stack and static data");
	fence(limit);
	if (pthread_attr_init(&attributes) || pthread_attr_setstacksize(&attributes, TA_STACK_SIZE + EMU_EXTRA_STACK) ||
	    pthread_create(&thread, &attributes, run, NULL))
		die("cannot start the TA's thread");
	pthread_join(thread, NULL);
	return 0;
}
