"""Files that commands read and write: whole, or an error that names them."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device.board import BoardError


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
        BoardError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BoardError(f"cannot read {path}: {error.strerror}") from error


def write_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write beside its place first, then into it: nobody finds half a file.

    Raises:
        BoardError: it cannot be written.
    """
    try:
        fd, aside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            Path(aside).chmod(mode)
            os.replace(aside, path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BoardError(f"cannot write {path}: {error.strerror}") from error


def read_images(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Images [N, *shape]; one by itself counts as a batch of one.

    Raises:
        ValueError: the file holds something else; says what it should.
    """
    wanted = f"float32 [N, {', '.join(map(str, shape))}], the model's own input, already normalised (numpy.save)"
    try:
        images = np.load(io.BytesIO(read_file(path)), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is no .npy file that can be read ({error}): it should hold {wanted}") from error
    if not isinstance(images, np.ndarray) or images.dtype.kind != "f":
        kind = images.dtype if isinstance(images, np.ndarray) else "several arrays"
        raise ValueError(f"{path} holds {kind}: it should hold {wanted}")
    images = images[None] if images.shape == shape else images
    if images.shape[1:] != shape or not len(images):
        raise ValueError(f"{path} holds {images.shape}: it should hold {wanted}")
    with np.errstate(over="ignore"):
        images = np.ascontiguousarray(images, np.float32)
    if not np.isfinite(images).all():
        raise ValueError(f"{path} holds values that are not finite")
    return images
