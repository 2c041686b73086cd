/* What OP-TEE's TA dev kit, and the emulator, want to know before the TA starts. */
#ifndef USER_TA_HEADER_DEFINES_H
#define USER_TA_HEADER_DEFINES_H

#include "leakboard_ta.h"

#define TA_UUID LEAKBOARD_TA_UUID
/* Not kept alive: with the last session the instance goes, and all of its memory. */
#define TA_FLAGS (TA_FLAG_SINGLE_INSTANCE | TA_FLAG_MULTI_SESSION)
#ifndef TA_STACK_SIZE
#define TA_STACK_SIZE (64 * 1024)
#endif
#ifndef TA_DATA_SIZE
#define TA_DATA_SIZE (12 * 1024 * 1024)
#endif
#define TA_VERSION "0.1"
#define TA_DESCRIPTION "Runs the shielded layers of a neural network"

#endif
