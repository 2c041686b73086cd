/* What both GlobalPlatform APIs share: result codes, parameter types, UUID layout. Values are the specification's. */
#ifndef EMU_TEE_COMMON_H
#define EMU_TEE_COMMON_H

#include <stddef.h>
#include <stdint.h>

#define EMU_SUCCESS 0x00000000u
#define EMU_ERROR_CORRUPT_OBJECT 0xF0100001u
#define EMU_ERROR_GENERIC 0xFFFF0000u
#define EMU_ERROR_ACCESS_DENIED 0xFFFF0001u
#define EMU_ERROR_CANCEL 0xFFFF0002u
#define EMU_ERROR_ACCESS_CONFLICT 0xFFFF0003u
#define EMU_ERROR_EXCESS_DATA 0xFFFF0004u
#define EMU_ERROR_BAD_FORMAT 0xFFFF0005u
#define EMU_ERROR_BAD_PARAMETERS 0xFFFF0006u
#define EMU_ERROR_BAD_STATE 0xFFFF0007u
#define EMU_ERROR_ITEM_NOT_FOUND 0xFFFF0008u
#define EMU_ERROR_NOT_IMPLEMENTED 0xFFFF0009u
#define EMU_ERROR_NOT_SUPPORTED 0xFFFF000Au
#define EMU_ERROR_NO_DATA 0xFFFF000Bu
#define EMU_ERROR_OUT_OF_MEMORY 0xFFFF000Cu
#define EMU_ERROR_BUSY 0xFFFF000Du
#define EMU_ERROR_COMMUNICATION 0xFFFF000Eu
#define EMU_ERROR_SECURITY 0xFFFF000Fu
#define EMU_ERROR_SHORT_BUFFER 0xFFFF0010u
#define EMU_ERROR_TARGET_DEAD 0xFFFF3024u
#define EMU_ERROR_STORAGE_NO_SPACE 0xFFFF3041u
#define EMU_ERROR_MAC_INVALID 0xFFFF3071u

#define EMU_ORIGIN_API 1u
#define EMU_ORIGIN_COMMS 2u
#define EMU_ORIGIN_TEE 3u
#define EMU_ORIGIN_TRUSTED_APP 4u

#define EMU_PARAM_NONE 0u
#define EMU_PARAM_VALUE_INPUT 1u
#define EMU_PARAM_VALUE_OUTPUT 2u
#define EMU_PARAM_VALUE_INOUT 3u
#define EMU_PARAM_MEMREF_INPUT 5u
#define EMU_PARAM_MEMREF_OUTPUT 6u
#define EMU_PARAM_MEMREF_INOUT 7u

#define EMU_PARAM_TYPES(p0, p1, p2, p3)                                                                                \
	((uint32_t)(p0) | (uint32_t)(p1) << 4 | (uint32_t)(p2) << 8 | (uint32_t)(p3) << 12)
#define EMU_PARAM_TYPE_GET(types, i) ((uint32_t)(types) >> 4 * (uint32_t)(i) & 15u)

struct emu_uuid {
	uint32_t timeLow;
	uint16_t timeMid;
	uint16_t timeHiAndVersion;
	uint8_t clockSeqAndNode[8];
};

#endif
