#include "failure.h"

#include <stdarg.h>
#include <stdio.h>

int fail(struct failure *failure, uint32_t code, uint32_t detail, const char *format, ...)
{
	va_list arguments;

	failure->code = code;
	failure->detail = detail;
	va_start(arguments, format);
	vsnprintf(failure->text, sizeof(failure->text), format, arguments);
	va_end(arguments);
	return 0;
}
