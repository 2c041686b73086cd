"""What an OP-TEE's result codes mean for whoever runs a board, and the way out."""

from __future__ import annotations

from collections.abc import Mapping

ACCESS_DENIED = 0xFFFF0001
ITEM_NOT_FOUND = 0xFFFF0008
COMMUNICATION = 0xFFFF000E
SECURITY = 0xFFFF000F
TARGET_DEAD = 0xFFFF3024
CORRUPT_OBJECT = 0xF0100001

_STORAGE = (
    "secure storage is damaged, and no TA opens while it is; on the board remove the folder"
    " /var/lib/optee-client/data/tee (/var/lib/tee with older supplicants) and start tee-supplicant again. The device"
    " makes a new key then: what was sealed to the old one must be sealed anew"
)

MEANINGS: Mapping[int, str] = {
    ACCESS_DENIED: "OP-TEE denies access to the TA",
    ITEM_NOT_FOUND: "OP-TEE does not find the TA; does tee-supplicant run, and does it look into /lib/optee_armtz?",
    COMMUNICATION: "the TEE driver does not answer; does tee-supplicant run?",
    SECURITY: "OP-TEE refuses the TA: it is damaged, or signed with another key, as TA dev kits of other versions do",
    TARGET_DEAD: "the TA panicked",
    CORRUPT_OBJECT: _STORAGE,
}


def meaning(result: int) -> str | None:
    """What a ``TEEC_Result`` of opening a session or calling the TA stands for; None for one without a story."""
    return MEANINGS.get(result)
