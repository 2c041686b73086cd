"""Python's view of ``agent/agent_protocol.h``: constants and struct layouts; a test compares them."""

from __future__ import annotations

import struct
from enum import IntEnum

FRAME_MAGIC = 0x3146424C
FRAME_VERSION = 4
FRAME_MAX_BYTES = 64 << 20
FRAME_ANSWER = 0x8000
FRAME_ERROR = 0xFFFF
MAX_ROUNDS = 1_000_000


class FrameType(IntEnum):
    """``enum lb_frame_type``."""

    HELLO = 1
    LOAD = 2
    LOAD_DATA = 3
    INFER = 4
    TIME = 5
    STATS = 6
    QUIT = 7
    DEVICE_KEY = 8
    TRAIN_BEGIN = 9
    TRAIN_BATCH = 10
    TRAIN_EXPORT = 11


class AgentErrorCode(IntEnum):
    """``enum lb_agent_error``."""

    PROTOCOL = 1
    STATE = 2
    MODEL = 3
    MEMORY = 4
    TEE_MEMORY = 5
    TEE_DEAD = 6
    TEE = 7
    SEALED = 8
    REFUSED = 9
    SLICES = 10
    TRAINING = 11


class SealedError(IntEnum):
    """``enum lb_sealed_error``: why the TA refused a sealed model."""

    HEADER = 1
    FORMAT = 2
    WRONG_DEVICE = 3
    KEY = 4
    OLDER = 5
    CHUNK = 6
    FOREIGN_CHUNK = 7
    OLDER_CHUNK = 8
    REORDERED = 9
    AUTHENTICATION = 10
    TRUNCATED = 11
    SURPLUS = 12
    MODEL_ID = 13


class Clock(IntEnum):
    """``enum lb_clock``: what a session's times are taken with."""

    MONOTONIC = 1
    PROCESS_CPU = 2


FRAME = struct.Struct("<IHHII")  # magic, version, type, request, bytes
FAILURE = struct.Struct("<II")  # code, detail; then the text
HELLO = struct.Struct("<IIII")  # protocol_version, model_version, frame_max_bytes, pid
LOAD = struct.Struct("<III")  # public_bytes, sealed_bytes, slices_bytes
LOADED = struct.Struct("<I4IIII")  # input_rank, input_dims, n_classes, policy, n_crossings
CROSSING = struct.Struct("<IIII4IIf")  # step, from_tee, index, rank, dims, dtype, scale
INFER = struct.Struct("<II")  # n_images, boundary
RESULT = struct.Struct("<II")  # output_bytes, boundary_bytes
TIME = struct.Struct("<IIII")  # rounds, noops, clock, reserved
STATS = struct.Struct("<9Q")  # switches, to, from, ree, tee peak, tee limit, shared, unseal, unseal by CPU
TRAIN_BEGIN = struct.Struct("<3f2I")  # learning_rate, momentum, weight_decay, seed, n_dropouts
DROPOUT = struct.Struct("<II")  # op, drop (ta/include/lb_training.h)
TRAIN_BEGUN = struct.Struct("<IIQQ")  # boundary_bytes, gradient_bytes, ree_bytes, tee_bytes
TRAIN_BATCH = struct.Struct("<6I")  # n_images, update, crossings, boundary, gradients, clock
TRAINED = struct.Struct("<QQ")  # total_ns, invoke_ns
EXPORTED = struct.Struct("<II")  # public_bytes, sealed_bytes

POLICY_LABEL = 4
"""``LB_POLICY_LABEL`` of ``ta/include/lb_model.h``: answers are one uint32 each."""

DTYPE_INT8 = 1
"""``LB_DTYPE_INT8``: such tensors cross as one byte an element, channels last."""
