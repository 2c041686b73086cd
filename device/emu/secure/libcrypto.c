#include "libcrypto.h"

#include <dlfcn.h>
#include <string.h>

struct libcrypto libcrypto;

static int find(void *library, const char *name, void *function)
{
	void *found = dlsym(library, name);

	memcpy(function, &found, sizeof(found)); /* POSIX lets a data pointer hold a function's address, C does not */
	return found != NULL;
}

const char *libcrypto_start(void)
{
	static const char missing[] = "OpenSSL's libcrypto.so.3 is missing or too old: apt-get install libssl3";
	void *library = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
	int found = library != NULL;

#define LIBCRYPTO_FIND(result, name, parameters) found = found && find(library, #name, &libcrypto.name);
	LIBCRYPTO_FUNCTIONS(LIBCRYPTO_FIND)
#undef LIBCRYPTO_FIND
	if (!found || libcrypto.OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
		return missing;
	return NULL;
}
