/* The parts of the emulated secure world. */
#ifndef SECURE_WORLD_H
#define SECURE_WORLD_H

#include <stdint.h>

#include <tee_internal_api.h>

#include "../emu_protocol.h"

/* memory.c: what counts against the TEE's limit. `fixed` is there from the start: stack and static data. */
void memory_start(uint64_t limit_bytes, uint64_t fixed_bytes);
int memory_take(uint64_t bytes); /* 0: over the limit, nothing taken */
void memory_give(uint64_t bytes);
uint64_t memory_limit(void);
uint64_t memory_now(void);
uint64_t memory_peak(void);
uint64_t memory_fixed(void);

/* shared.c: memory of the normal world, mapped here as long as it is registered. Takes over `fd`. */
TEE_Result shared_add(uint32_t id, uint64_t bytes, int fd);
TEE_Result shared_remove(uint32_t id);
/* A range of it; NULL when it leaves the memory. */
void *shared_range(uint32_t id, uint64_t offset, uint64_t bytes);

/* storage.c: `directory` holds one file an object, named by its id in hex; NULL: no storage. */
void storage_start(const char *directory);

/* service.c: answers requests on `socket` until its other end closes. */
void serve(int socket);

/* memory_pta.c */
TEE_Result memory_pta_invoke(void *session, uint32_t command, uint32_t types, TEE_Param params[4]);

#endif
