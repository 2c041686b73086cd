/*
 * Between the two processes of an emulated board: one request, one reply, each a packet of a SOCK_SEQPACKET pair.
 * Both ends are built together from this header, so the structs need no version.
 */
#ifndef EMU_PROTOCOL_H
#define EMU_PROTOCOL_H

#include <stdint.h>

#include "include/tee_common.h"

#define EMU_SOCKET_FD 3 /* where the secure world finds its end */
#define EMU_CONFIG_FD 4 /* and its configuration: "name=value" lines, read with pread() */

/* Names the descriptor of the configuration to the client's process, which hands it on unread. */
#define EMU_CONFIG_ENV "LEAKBOARD_EMU_CONFIG_FD"
/* Another secure world than the executable `secure_world` beside the client. */
#define EMU_SECURE_WORLD_ENV "LEAKBOARD_EMU_SECURE_WORLD"

enum emu_call {
	EMU_CALL_OPEN_SESSION = 1,
	EMU_CALL_CLOSE_SESSION = 2,
	EMU_CALL_INVOKE = 3,
	EMU_CALL_ADD_MEMORY = 4, /* a memfd rides along; `session` is the memory's id, params[0] a its size */
	EMU_CALL_REMOVE_MEMORY = 5,
};

/* A value (a, b), or a range of shared memory. */
struct emu_param {
	uint32_t a, b;
	uint32_t memory; /* id; 0: a null reference */
	uint32_t unused;
	uint64_t offset, size;
};

struct emu_request {
	uint32_t call;
	uint32_t session;
	uint32_t command;
	uint32_t param_types; /* EMU_PARAM_* */
	struct emu_uuid uuid;
	struct emu_param params[4];
};

struct emu_reply {
	uint32_t result;
	uint32_t origin;
	uint32_t session;
	uint32_t unused;
	struct emu_param params[4];
};

#endif
