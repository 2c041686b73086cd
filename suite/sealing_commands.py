"""``leakboard seal``, ``unseal`` and ``board key``: each takes the parsed options, returns the exit status."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

from device.board import BoardError
from device.owner import OwnerKey
from device.sealing import key_from_pem, key_to_pem, seal
from device.slice_sealing import seal_slices, slice_count, split_slices
from suite.boards import BOARDS, SSH_FORM, make_board
from suite.files import read_file, write_file
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


def add_unseal(subs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``leakboard unseal``."""
    text = "open what a device has tuned and sealed to its owner"
    sub = subs.add_parser("unseal", help=text, description=text)
    sub.set_defaults(run=unseal_file)
    sub.add_argument("sealed", type=Path, metavar="SEALED.lbm", help="as leakboard finetune keeps it")
    sub.add_argument("--owner-key", type=Path, required=True, metavar="PEM", help="the owner's private key")
    sub.add_argument("--device-key", type=Path, required=True, metavar="KEYFILE", help="of the device that tuned it")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="MODEL.lbm")


def add_key(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``leakboard board key``."""
    text = "write the public key to which models for a board are sealed"
    sub = actions.add_parser("key", help=text, description=text)
    sub.set_defaults(run=write_key)
    sub.add_argument("--board", default="qemu", help=f"{', '.join(BOARDS)} or {SSH_FORM} (default: %(default)s)")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="KEYFILE", help="PEM")


def seal_file(options: Namespace) -> int:
    """Seal a file."""
    model, pem = read_file(options.model), read_file(options.device_key)
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
        write_file(options.output.with_name(f"{options.output.name}.slices"), slices)
    write_file(options.output, sealed)
    print(f"sealed {options.model} ({len(model)} bytes) to the device of {options.device_key}: {options.output}")
    return 0


def unseal_file(options: Namespace) -> int:
    """Open a tuned file."""
    sealed, device = read_file(options.sealed), read_file(options.device_key)
    try:
        owner = OwnerKey.from_pem(read_file(options.owner_key))
    except BoardError as error:
        raise BoardError(f"{options.owner_key}: {error}") from error
    try:
        key = key_from_pem(device)
    except BoardError as error:
        raise BoardError(f"{options.device_key}: {error}; leakboard board key writes one") from error
    try:
        model = owner.unseal(sealed, key)
    except BoardError as error:
        raise BoardError(f"{options.sealed}: {error}") from error
    write_file(options.output, model, mode=0o600)
    print(
        f"opened {options.sealed}, tuned by the device of {options.device_key}: {options.output} ({len(model)} bytes)"
    )
    return 0


def _with_slices(model: bytes, file: Path | None) -> tuple[bytes, bytes]:
    """The model with a key for its slices, and these sealed; the model as it is when it has none."""
    if file is not None:
        return seal_slices(model, split_slices(model, read_file(file)))
    if n := slice_count(model):
        raise BoardError(f"it leaves out {n} slices that are streamed to the device: name their file with --slices")
    return model, b""


def write_key(options: Namespace) -> int:
    """Ask a board for its key."""
    board = make_board(options.board)
    try:
        write_file(options.output, key_to_pem(board.device_key()))
    finally:
        board.close()
    print(f"device key of {options.board}: {options.output}")
    if options.board == "emulated":
        to_stderr("note: every session of the emulated board is a device of its own: this key's is gone already")
    return 0
