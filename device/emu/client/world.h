/* Internal to the emulated client API: starting the secure world and talking to it. */
#ifndef EMU_WORLD_H
#define EMU_WORLD_H

#include <tee_client_api.h>

#include "../emu_protocol.h"

TEEC_Result world_start(TEEC_Context *context);
void world_stop(TEEC_Context *context);

/* One request and its reply; `fd` rides along unless it is -1. TARGET_DEAD when the secure world is gone. */
TEEC_Result world_call(TEEC_Context *context, const struct emu_request *request, int fd, struct emu_reply *reply);

/* Registers `bytes` of fresh memory that both worlds map; 0 bytes are refused. */
TEEC_Result world_map(TEEC_Context *context, size_t bytes, uint32_t *id, void **mapping);
void world_unmap(TEEC_Context *context, size_t bytes, uint32_t id, void *mapping);

#endif
