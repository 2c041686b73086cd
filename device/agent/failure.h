/* Why something could not be done, on its way to the host. */
#ifndef LB_AGENT_FAILURE_H
#define LB_AGENT_FAILURE_H

#include <stdint.h>

struct failure {
	uint32_t code; /* enum lb_agent_error, 0: none */
	uint32_t detail;
	char text[256];
};

/* Fills it in printf's way and returns 0, so that a function that returns success can `return fail(...)`. */
int fail(struct failure *failure, uint32_t code, uint32_t detail, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
