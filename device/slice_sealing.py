"""Sealing the slices of streamed filters (``ta/include/lb_slices.h``): only who can open their model can open them."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from device.board import BoardError

MAGIC = b"LBSL"
PLACE_MAGIC = b"LBSP"
FORMAT = 1
KEY_BYTES = 32
TAG_BYTES = 16

HEADER = struct.Struct("<4sI16sI4x")
"""magic, format, model_id, n_slices"""
PLACE = struct.Struct("<4sI16sII16s")
"""magic, format, model_id, n_slices, index, the slice as the model file describes it"""

MODEL_MAGIC = b"LBM1"
MODEL_ID = slice(72, 88)
_MODEL_FIELDS = struct.Struct("<IIII")
_MODEL_FIELDS_AT = 88
"""n_slices, slices_off, slice_bytes, slice_key_off of ``struct lb_model_header``."""
_SLICE_BYTES = 16
"""``sizeof(struct lb_slice)``, whose last word is the slice's size."""


class SliceSealingError(BoardError):
    """A model and slices that do not belong together; says what is expected."""


def seal_slices(model: bytes, slices: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Draw a key, write it into the model file, and seal the slices under it.

    Args:
        model: the TEE's model file as ``pack_sealed`` makes it; it is still in the clear, and goes to ``seal`` next.
        slices: as ``pack_slices`` makes them.

    Returns the model file with the key, and the file of sealed slices for the normal world.

    Raises:
        SliceSealingError: the file is no model, has no slices, or others than these.
    """
    rows, key_at = _slices_of(model)
    n_slices, sizes = len(rows), _sizes(rows)
    if not slices or sizes != [len(one) for one in slices]:
        raise SliceSealingError(
            f"the model leaves out {n_slices} slices of {sum(sizes)} bytes, given are {len(slices)} of"
            f" {sum(map(len, slices))}: take the slices that were packed with it"
        )
    key, model_id = os.urandom(KEY_BYTES), model[MODEL_ID]
    cipher = ChaCha20Poly1305(key)
    sealed = []
    for index, (row, plain) in enumerate(zip(rows, slices, strict=True)):
        place = PLACE.pack(PLACE_MAGIC, FORMAT, model_id, n_slices, index, row)
        sealed.append(cipher.encrypt(index.to_bytes(4, "little") + bytes(8), plain, place))
    table = b"".join(size.to_bytes(4, "little") for size in sizes)
    header = HEADER.pack(MAGIC, FORMAT, model_id, n_slices)
    keyed = model[:key_at] + key + model[key_at + KEY_BYTES :]
    return keyed, b"".join((header, table, *sealed))


def slice_count(model: bytes) -> int:
    """How many slices a model file leaves out; 0 for what is no model file."""
    if model[:4] != MODEL_MAGIC or len(model) < _MODEL_FIELDS_AT + _MODEL_FIELDS.size:
        return 0
    n_slices: int = _MODEL_FIELDS.unpack_from(model, _MODEL_FIELDS_AT)[0]
    return n_slices


def split_slices(model: bytes, data: bytes) -> list[bytes]:
    """A model's slices out of a file that has them in the clear, one behind the other.

    Raises:
        SliceSealingError: the file is no model, or leaves out more or less.
    """
    sizes = _sizes(_slices_of(model)[0])
    if sum(sizes) != len(data):
        raise SliceSealingError(
            f"the model leaves out {len(sizes)} slices of {sum(sizes)} bytes, its file of slices has {len(data)}"
        )
    ends = itertools.accumulate(sizes)
    return [data[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def are_sealed(data: bytes) -> bool:
    """Whether a file's contents are those of sealed slices."""
    return data[: len(MAGIC)] == MAGIC


def _slices_of(model: bytes) -> tuple[list[bytes], int]:
    """Each ``struct lb_slice`` of a model file, and where its key goes."""
    if model[:4] != MODEL_MAGIC or len(model) < _MODEL_FIELDS_AT + _MODEL_FIELDS.size:
        raise SliceSealingError(f"what the slices belong to ({len(model)} bytes) is no model file")
    n_slices, slices_at, _, key_at = _MODEL_FIELDS.unpack_from(model, _MODEL_FIELDS_AT)
    if slices_at + n_slices * _SLICE_BYTES > len(model):
        raise SliceSealingError(f"what the slices belong to ({len(model)} bytes) is a damaged model file")
    return [model[slices_at + i * _SLICE_BYTES :][:_SLICE_BYTES] for i in range(n_slices)], key_at


def _sizes(rows: Sequence[bytes]) -> list[int]:
    return [int.from_bytes(row[12:], "little") for row in rows]


def sealed_slices(file: bytes) -> list[bytes]:
    """The records of a file of sealed slices, each with its tag.

    Raises:
        SliceSealingError: the file is none, or is cut short.
    """
    if file[:4] != MAGIC or len(file) < HEADER.size:
        raise SliceSealingError(f"no file of sealed slices: {len(file)} bytes that do not begin with LBSL")
    _, version, _, n_slices = HEADER.unpack_from(file)
    at = HEADER.size + 4 * n_slices
    if version != FORMAT or len(file) < at:
        raise SliceSealingError(f"sealed slices of format {version}, {len(file)} bytes: this program reads {FORMAT}")
    found = []
    for size in struct.unpack_from(f"<{n_slices}I", file, HEADER.size):
        found.append(file[at : at + size + TAG_BYTES])
        at += size + TAG_BYTES
    if at != len(file):
        raise SliceSealingError(f"sealed slices: {len(file)} bytes, and their table says {at}")
    return found
