/*
 * A pseudo TA of the emulated secure world that tells how much memory it uses. A client for real boards too must
 * expect ITEM_NOT_FOUND when it opens a session.
 */
#ifndef EMU_MEMORY_PTA_H
#define EMU_MEMORY_PTA_H

#define EMU_MEMORY_PTA_UUID {0x1f0e9b52, 0x77c4, 0x4d8a, {0x8e, 0x16, 0xd3, 0x5b, 0x90, 0x2a, 0x6f, 0x4c}}

/* p0 VALUE_OUTPUT a: limit, b: held now; p1 VALUE_OUTPUT a: most held at once, b: TA stack + static data. Bytes. */
#define EMU_MEMORY_CMD_USAGE 0u

#endif
