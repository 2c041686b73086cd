"""Raw scores from strangers: an .npz read without trusting one size, name or type that stands in it.

NumPy's own reader allocates what a header asks for before it looks at the data, and a few kilobytes can ask for
terabytes.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.record import AttackScores, ExposureSamples, LatencySamples, RecordError, Scores, StolenAnswers

MAX_BYTES = 64 * 2**20
"""All arrays of a file, unpacked."""
_HEADER_BYTES = 4096

LAYOUTS: Mapping[type[Scores], Mapping[str, tuple[str, int]]] = {
    AttackScores: {"scores": ("<f8", 1), "is_member": ("|b1", 1), "candidates": ("<i8", 1)},
    LatencySamples: dict.fromkeys(("vanilla_ns", "protected_ns", "invoke_ns", "noop_ns", "session"), ("<i8", 1)),
    StolenAnswers: {
        **dict.fromkeys(("budgets", "queries", "labels", "deployed", "images", "changed"), ("<i8", 1)),
        **dict.fromkeys(("stolen", "fgsm", "pgd"), ("<i8", 2)),
    },
    ExposureSamples: {
        **dict.fromkeys(("private_seen", "private_unseen", "reference_seen", "reference_unseen"), ("<f4", 2)),
        **dict.fromkeys(("seen", "unseen"), ("<i8", 1)),
    },
}
"""dtype and number of dimensions of every array (docs/records.md)."""


class ArraysError(ValueError):
    """Not the arrays that a record of its kind has beside it; says which is wrong, and how."""


def read_arrays(data: bytes, kind: type[Scores]) -> Scores:
    """The raw scores that ``data``, an .npz, holds.

    Raises:
        ArraysError: it is damaged, too large, or holds other names, types or shapes than ``kind`` has.
    """
    layout = LAYOUTS[kind]
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename: info for info in archive.infolist()}
            if len(archive.infolist()) != len(layout) or members.keys() != {f"{name}.npy" for name in layout}:
                raise ArraysError(f"must hold {', '.join(layout)} and nothing else")
            if (size := sum(info.file_size for info in members.values())) > MAX_BYTES:
                raise ArraysError(f"{size:,} bytes unpacked, at most {MAX_BYTES:,} are taken")
            arrays = {name: _array(archive, members[f"{name}.npy"], *layout[name]) for name in layout}
        return kind(**arrays)
    except (ArraysError, RecordError) as error:
        raise ArraysError(str(error)) from error
    except Exception as error:  # zipfile, zlib and NumPy's header reader each stumble over damage in ways of their own
        raise ArraysError(f"no intact .npz: {error}") from error


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, dtype: str, n_dims: int) -> NDArray[Any]:
    if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArraysError(f"{info.filename} is encrypted or packed in a way that NumPy does not write")
    with archive.open(info) as stream:
        content = stream.read(info.file_size + 1)
    if len(content) != info.file_size:
        raise ArraysError(f"{info.filename} is not as long as it says")
    body = io.BytesIO(content)
    if np.lib.format.read_magic(body) != (1, 0):
        raise ArraysError(f"{info.filename} is of another format version than 1.0")
    shape, fortran, found = np.lib.format.read_array_header_1_0(body, max_header_size=_HEADER_BYTES)
    if found.str != dtype or len(shape) != n_dims:
        raise ArraysError(f"{info.filename} is {found.str} of {len(shape)} dimensions, not {dtype} of {n_dims}")
    if min(shape, default=0) < 0 or math.prod(shape) * found.itemsize != len(content) - body.tell():
        raise ArraysError(f"{info.filename} holds other than the {list(shape)} numbers that its header tells of")
    flat: NDArray[Any] = np.frombuffer(content, found, offset=body.tell())
    if dtype == "|b1" and flat.view(np.uint8).max(initial=0) > 1:
        raise ArraysError(f"{info.filename} holds bytes that are neither true nor false")
    return flat.reshape(shape, order="F" if fortran else "C")
