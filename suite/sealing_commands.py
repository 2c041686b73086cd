"""What ``leakboard seal`` and ``leakboard board key`` do. Each takes the parsed options and returns the exit status."""

from __future__ import annotations

import argparse
import os
import tempfile
from argparse import Namespace
from pathlib import Path

from device.board import BoardError
from device.sealing import key_from_pem, key_to_pem, seal
from device.slice_sealing import seal_slices, slice_count, split_slices
from suite.boards import BOARDS, SSH_FORM, make_board
from suite.progress import to_stderr


def add_seal(subs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``leakboard seal``."""
    text = "encrypt a deployment's hidden part to one device, so that only its TA can open it"
    sub = subs.add_parser("seal", help=text, description=text)
    sub.set_defaults(run=seal_file)
    sub.add_argument("model", type=Path, metavar="MODEL.lbm", help="the TEE's model file, as deployments have it")
    sub.add_argument("--device-key", type=Path, required=True, metavar="KEYFILE", help="made by leakboard board key")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    sub.add_argument(
        "--slices", type=Path, metavar="FILE", help="of a model that streams: its slices; sealed into OUTPUT.slices"
    )
    sub.add_argument(
        "--version", type=int, default=0, metavar="N", help="a device refuses lower ones later (default: not counted)"
    )


def add_key(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``leakboard board key``."""
    text = "write the public key to which models for a board are sealed"
    sub = actions.add_parser("key", help=text, description=text)
    sub.set_defaults(run=write_key)
    sub.add_argument("--board", default="qemu", help=f"{', '.join(BOARDS)} or {SSH_FORM} (default: %(default)s)")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="KEYFILE", help="PEM")


def seal_file(options: Namespace) -> int:
    """Seal a file."""
    model, pem = _read(options.model), _read(options.device_key)
    try:
        key = key_from_pem(pem)
    except BoardError as error:
        raise BoardError(f"{options.device_key}: {error}; leakboard board key writes one") from error
    try:
        model, slices = _with_slices(model, options.slices)
        sealed = seal(model, key, version=options.version)
    except BoardError as error:
        raise BoardError(f"{options.model}: {error}") from error
    if slices:
        _write(options.output.with_name(f"{options.output.name}.slices"), slices)
    _write(options.output, sealed)
    print(f"sealed {options.model} ({len(model)} bytes) to the device of {options.device_key}: {options.output}")
    return 0


def _with_slices(model: bytes, file: Path | None) -> tuple[bytes, bytes]:
    """The model with a key for its slices, and these sealed; the model as it is when it has none."""
    if file is not None:
        return seal_slices(model, split_slices(model, _read(file)))
    if n := slice_count(model):
        raise BoardError(f"it leaves out {n} slices that are streamed to the device: name their file with --slices")
    return model, b""


def write_key(options: Namespace) -> int:
    """Ask a board for its key."""
    board = make_board(options.board)
    try:
        _write(options.output, key_to_pem(board.device_key()))
    finally:
        board.close()
    print(f"device key of {options.board}: {options.output}")
    if options.board == "emulated":
        to_stderr("note: every session of the emulated board is a device of its own: this key's is gone already")
    return 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BoardError(f"cannot read {path}: {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    """Beside its place first, then into it: nobody finds half a file."""
    try:
        fd, aside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            Path(aside).chmod(0o644)
            os.replace(aside, path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BoardError(f"cannot write {path}: {error.strerror}") from error
