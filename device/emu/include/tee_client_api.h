/*
 * The GlobalPlatform TEE Client API (1.0) for the emulated board: names, signatures and values are the
 * specification's, so that the same client links against libteec on a real one.
 */
#ifndef EMU_TEE_CLIENT_API_H
#define EMU_TEE_CLIENT_API_H

#include <stddef.h>
#include <stdint.h>

#include "tee_common.h"

typedef uint32_t TEEC_Result;
typedef struct emu_uuid TEEC_UUID;

#define TEEC_SUCCESS EMU_SUCCESS
#define TEEC_ERROR_GENERIC EMU_ERROR_GENERIC
#define TEEC_ERROR_ACCESS_DENIED EMU_ERROR_ACCESS_DENIED
#define TEEC_ERROR_CANCEL EMU_ERROR_CANCEL
#define TEEC_ERROR_ACCESS_CONFLICT EMU_ERROR_ACCESS_CONFLICT
#define TEEC_ERROR_EXCESS_DATA EMU_ERROR_EXCESS_DATA
#define TEEC_ERROR_BAD_FORMAT EMU_ERROR_BAD_FORMAT
#define TEEC_ERROR_BAD_PARAMETERS EMU_ERROR_BAD_PARAMETERS
#define TEEC_ERROR_BAD_STATE EMU_ERROR_BAD_STATE
#define TEEC_ERROR_ITEM_NOT_FOUND EMU_ERROR_ITEM_NOT_FOUND
#define TEEC_ERROR_NOT_IMPLEMENTED EMU_ERROR_NOT_IMPLEMENTED
#define TEEC_ERROR_NOT_SUPPORTED EMU_ERROR_NOT_SUPPORTED
#define TEEC_ERROR_NO_DATA EMU_ERROR_NO_DATA
#define TEEC_ERROR_OUT_OF_MEMORY EMU_ERROR_OUT_OF_MEMORY
#define TEEC_ERROR_BUSY EMU_ERROR_BUSY
#define TEEC_ERROR_COMMUNICATION EMU_ERROR_COMMUNICATION
#define TEEC_ERROR_SECURITY EMU_ERROR_SECURITY
#define TEEC_ERROR_SHORT_BUFFER EMU_ERROR_SHORT_BUFFER
#define TEEC_ERROR_TARGET_DEAD EMU_ERROR_TARGET_DEAD

#define TEEC_ORIGIN_API EMU_ORIGIN_API
#define TEEC_ORIGIN_COMMS EMU_ORIGIN_COMMS
#define TEEC_ORIGIN_TEE EMU_ORIGIN_TEE
#define TEEC_ORIGIN_TRUSTED_APP EMU_ORIGIN_TRUSTED_APP

#define TEEC_NONE 0x0u
#define TEEC_VALUE_INPUT 0x1u
#define TEEC_VALUE_OUTPUT 0x2u
#define TEEC_VALUE_INOUT 0x3u
#define TEEC_MEMREF_TEMP_INPUT 0x5u
#define TEEC_MEMREF_TEMP_OUTPUT 0x6u
#define TEEC_MEMREF_TEMP_INOUT 0x7u
#define TEEC_MEMREF_WHOLE 0xCu
#define TEEC_MEMREF_PARTIAL_INPUT 0xDu
#define TEEC_MEMREF_PARTIAL_OUTPUT 0xEu
#define TEEC_MEMREF_PARTIAL_INOUT 0xFu
#define TEEC_PARAM_TYPES EMU_PARAM_TYPES
#define TEEC_PARAM_TYPE_GET EMU_PARAM_TYPE_GET

#define TEEC_MEM_INPUT 0x1u
#define TEEC_MEM_OUTPUT 0x2u

#define TEEC_LOGIN_PUBLIC 0x0u

typedef struct {
	int socket; /* implementation: to the secure world, -1 when it is gone */
	int child;
	uint32_t next_memory;
} TEEC_Context;

typedef struct {
	TEEC_Context *context; /* implementation */
	uint32_t id;
} TEEC_Session;

typedef struct {
	void *buffer;
	size_t size;
	uint32_t flags;
	TEEC_Context *context; /* implementation */
	uint32_t id;
	void *mapping; /* what the secure world sees; `buffer` itself when this API allocated it */
	size_t mapping_size;
} TEEC_SharedMemory;

typedef struct {
	void *buffer;
	size_t size;
} TEEC_TempMemoryReference;

typedef struct {
	TEEC_SharedMemory *parent;
	size_t size;
	size_t offset;
} TEEC_RegisteredMemoryReference;

typedef struct {
	uint32_t a;
	uint32_t b;
} TEEC_Value;

typedef union {
	TEEC_TempMemoryReference tmpref;
	TEEC_RegisteredMemoryReference memref;
	TEEC_Value value;
} TEEC_Parameter;

typedef struct {
	uint32_t started;
	uint32_t paramTypes;
	TEEC_Parameter params[4];
} TEEC_Operation;

TEEC_Result TEEC_InitializeContext(const char *name, TEEC_Context *context);
void TEEC_FinalizeContext(TEEC_Context *context);
TEEC_Result TEEC_OpenSession(TEEC_Context *context, TEEC_Session *session, const TEEC_UUID *destination,
			     uint32_t connectionMethod, const void *connectionData, TEEC_Operation *operation,
			     uint32_t *returnOrigin);
void TEEC_CloseSession(TEEC_Session *session);
TEEC_Result TEEC_InvokeCommand(TEEC_Session *session, uint32_t commandID, TEEC_Operation *operation,
			       uint32_t *returnOrigin);
TEEC_Result TEEC_RegisterSharedMemory(TEEC_Context *context, TEEC_SharedMemory *sharedMem);
TEEC_Result TEEC_AllocateSharedMemory(TEEC_Context *context, TEEC_SharedMemory *sharedMem);
void TEEC_ReleaseSharedMemory(TEEC_SharedMemory *sharedMem);
void TEEC_RequestCancellation(TEEC_Operation *operation);

#endif
