/*
 * HKDF of the TA on the emulated secure world. Each line of stdin: salt, secret and info in hex ("-" for nothing) and the
 * bytes of key wanted; each line of stdout: the key, or the TEE_Result of a refusal.
 */
#include <stdio.h>
#include <string.h>

#include "../../device/emu/secure/libcrypto.h"
#include "../../device/emu/secure/secure_world.h"
#include "hkdf.h"

#define MOST 1024

static size_t from_hex(const char *text, uint8_t *to)
{
	size_t bytes = 0;
	unsigned int byte;

	while (*text != '-' && sscanf(text + 2 * bytes, "%2x", &byte) == 1)
		to[bytes++] = (uint8_t)byte;
	return bytes;
}

int main(void)
{
	char text[3][2 * MOST + 1];
	uint8_t data[3][MOST], key[256 * 32];
	struct lb_bytes parts[3];
	size_t wanted;

	if (libcrypto_start())
		return 2;
	memory_start(1 << 20, 0);
	while (scanf("%2048s %2048s %2048s %zu", text[0], text[1], text[2], &wanted) == 4 && wanted <= sizeof(key)) {
		TEE_Result result;

		for (int i = 0; i < 3; i++)
			parts[i] = (struct lb_bytes){data[i], from_hex(text[i], data[i])};
		result = lb_hkdf_sha256(parts[0], parts[1], parts[2], key, wanted);
		for (size_t i = 0; result == TEE_SUCCESS && i < wanted; i++)
			printf("%02x", key[i]);
		if (result)
			printf("0x%08x", result);
		printf("\n");
	}
	return memory_now() ? 3 : 0; /* every operation and key was freed */
}
