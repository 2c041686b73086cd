"""The numbers of ``ta/include/lb_model.h``, version 2: struct layouts and enums, field for field.

The NumPy types have the C structs' names and fields; a test compares both with the header.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import numpy as np

from suite.graph.ir import Op
from suite.graph.partition import World

MAGIC = 0x314D424C
VERSION = 2
ALIGN = 64
LANES = 8
I8_LANES = 4
I8_STEP = 16
SLICE_KEY_BYTES = 32
NONE = 0xFFFFFFFF
"""The index of a weight that an operator does not have (UINT32_MAX)."""

_U32 = "<u4"

HEADER = np.dtype(
    [
        ("magic", _U32),
        ("version", _U32),
        ("file_bytes", _U32),
        ("world", _U32),
        ("n_tensors", _U32),
        ("tensors_off", _U32),
        ("n_ops", _U32),
        ("ops_off", _U32),
        ("n_segments", _U32),
        ("segments_off", _U32),
        ("n_refs", _U32),
        ("refs_off", _U32),
        ("weights_off", _U32),
        ("weights_bytes", _U32),
        ("arena_bytes", _U32),
        ("policy", _U32),
        ("policy_arg", _U32),
        ("n_classes", _U32),
        ("model_id", _U32, (4,)),
        ("n_slices", _U32),
        ("slices_off", _U32),
        ("slice_bytes", _U32),
        ("slice_key_off", _U32),
        ("reserved", _U32, (6,)),
    ]
)
TENSOR = np.dtype(
    [
        ("kind", _U32),
        ("layout", _U32),
        ("dtype", _U32),
        ("rank", _U32),
        ("dims", _U32, (4,)),
        ("offset", _U32),
        ("bytes", _U32),
        ("scale", "<f4"),
    ]
)
OP = np.dtype(
    [
        ("kind", _U32),
        ("fused", _U32),
        ("first_input", _U32),
        ("n_inputs", _U32),
        ("output", _U32),
        ("weight", _U32),
        ("bias", _U32),
        ("multiplier", _U32),
        ("attr", _U32, (9,)),
    ]
)
SEGMENT = np.dtype(
    [
        ("world", _U32),
        ("first_op", _U32),
        ("n_ops", _U32),
        ("first_input", _U32),
        ("n_inputs", _U32),
        ("first_output", _U32),
        ("n_outputs", _U32),
        ("reserved", _U32),
    ]
)
REF = np.dtype(_U32)
SLICE = np.dtype([("op", _U32), ("first", _U32), ("count", _U32), ("bytes", _U32)])

WORLDS: Mapping[World, int] = {World.REE: 0, World.TEE: 1}

OP_KINDS: Mapping[Op, int] = {
    Op.CONV2D: 1,
    Op.LINEAR: 2,
    Op.BATCH_NORM: 3,
    Op.RELU: 4,
    Op.RELU6: 5,
    Op.MAX_POOL2D: 6,
    Op.AVG_POOL2D: 7,
    Op.ADAPTIVE_AVG_POOL2D: 8,
    Op.ADD: 9,
    Op.CONCAT: 10,
    Op.FLATTEN: 11,
    Op.SOFTMAX: 12,
    Op.LEAKY_RELU: 13,
    Op.QUANTIZE: 14,
    Op.DEQUANTIZE: 15,
}


class TensorKind(IntEnum):
    """``enum lb_tensor_kind``."""

    ACTIVATION = 1
    WEIGHT = 2
    STREAMED = 3


class DType(IntEnum):
    """``enum lb_dtype``."""

    FLOAT32 = 0
    INT8 = 1
    INT32 = 2


NUMPY_DTYPES: Mapping[DType, np.dtype[Any]] = {
    DType.FLOAT32: np.dtype("<f4"),
    DType.INT8: np.dtype("i1"),
    DType.INT32: np.dtype("<i4"),
}


class Layout(IntEnum):
    """``enum lb_layout``: how a tensor's elements lie."""

    PLAIN = 0
    PACKED8 = 1
    CHANNELS_LAST = 2
    DOT4 = 3


def aligned(size: int) -> int:
    """Round ``size`` bytes up to the format's alignment."""
    return -(-size // ALIGN) * ALIGN
