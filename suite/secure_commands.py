"""``leakboard secure``: takes the parsed options, returns the exit status."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from device.board import Board, BoardError
from device.remote import PI_TEE_LIMIT_BYTES
from device.sealing import key_from_pem
from suite import published_pi, sealed_deployment, securing
from suite.boards import BOARDS, SSH_FORM, make_board
from suite.commands import input_shape, load_plugins
from suite.files import read_file, read_images
from suite.outside_models import load_model
from suite.predict_commands import figures_on
from suite.predicting import PredictionError
from suite.registry import Kind, PluginError
from suite.securing import Secured
from suite.spec import PluginSpec, parse

Add = Callable[[str, Callable[[Namespace], int], str], argparse.ArgumentParser]
BOARD_HELP = f"{', '.join(BOARDS)}, {SSH_FORM} or a plugin's"
_TRUST = (
    "MODEL is trusted: its function is called, and reading a .pt2 file unpickles it, which runs whatever code its"
    " maker put in. Give only files that you would run."
)


def add_secure(add: Add) -> None:
    """Add ``secure`` to the command line."""
    sub = add("secure", secure, "seal a PyTorch model, laid out by a defense, to one device")
    sub.epilog = _TRUST
    sub.add_argument("model", metavar="MODEL", help="FILE.pt2 or module:function; it is run, see below")
    sub.add_argument("--defense", required=True, help='for example "darknetz[k=3]"')
    sub.add_argument("--k", type=int, metavar="N", help="--defense darknetz --k 3 is darknetz[k=3]")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="a folder that does not exist")
    sub.add_argument("--input", metavar="CxHxW", help="what the model takes; a .pt2 file of one size says so itself")
    sub.add_argument("--board", help=f"whose device to seal to, and to try it on: {BOARD_HELP} (default: emulated)")
    sub.add_argument("--device-key", type=Path, metavar="KEYFILE", help="seal to this device, without reaching a board")
    sub.add_argument("--tee-mib", type=float, metavar="MIB", help="the TEE's limit (default: the board's, or 16)")
    sub.add_argument("--policy", help="what answers show: probs, top1, rounded<d>, topk<k> (default: the defense's)")
    sub.add_argument("--data", type=Path, metavar="FILE.npy", help="float32 [N,C,H,W], for a defense that calibrates")
    sub.add_argument("--version", type=int, default=0, metavar="N", help="a device refuses lower ones later")
    sub.add_argument("--plugin", action="append", default=[], metavar="FILE", type=Path, help="load a loose file")


def secure(options: Namespace) -> int:
    """Write the deployment and say how to run it."""
    load_plugins(options.plugin)
    sealed_deployment.refuse_taken(options.output)
    spec = _spec(options.defense, options.k)
    board = _board(options)
    try:
        limit = PI_TEE_LIMIT_BYTES if board is None else board.tee_limit_bytes()
        if board is None and options.tee_mib is not None:
            limit = int(options.tee_mib * 2**20)
        model = load_model(options.model, None if options.input is None else input_shape(options.input))
        images = None if options.data is None else read_images(options.data, model.input_shape)
        secured = securing.lay_out(model, spec, options.policy, images, limit)
        predicted = _predicted(secured, options.board or ("" if options.device_key else "emulated"))
        to_board = board is not None and options.device_key is None
        hides = bool(secured.deployment.hidden)
        key = b""
        if hides:
            key = board.device_key() if board is not None and to_board else _device_key(options.device_key)
        files = securing.seal_to(secured, key, options.version)
        about = securing.description(secured, files, key, limit, predicted)
        with sealed_deployment.new_folder(options.output) as folder:
            written = sealed_deployment.write_into(folder, files, key or None)
            if board is not None and to_board:
                about["tried"] = securing.try_on(board, secured, written)
            sealed_deployment.write_about(folder, about, _plan(secured, about))
    finally:
        if board is not None:
            board.close()
    _tell(options, secured, about)
    return 0


def _spec(text: str, k: int | None) -> PluginSpec:
    if k is not None:
        if "[" in text:
            raise PluginError(f"--k {k}: write it into the brackets of {text!r}")
        text = f"{text}[k={k}]"
    specs = parse(Kind.DEFENSE, text)
    if len(specs) != 1:
        raise PluginError(f"{text!r} stands for {len(specs)} variants: name one, such as {specs[0].text!r}")
    return specs[0]


def _board(options: Namespace) -> Board | None:
    if options.tee_mib is not None and not 0 < options.tee_mib < 4096:
        raise PluginError(f"--tee-mib {options.tee_mib:g}: the TEE's memory limit is a number of MiB above 0")
    if options.board is None and options.device_key is not None:
        return None
    return make_board(options.board or "emulated", options.tee_mib, kept=True)


def _device_key(path: Path) -> bytes:
    try:
        return key_from_pem(read_file(path))
    except BoardError as error:
        raise BoardError(f"{path}: {error}; leakboard board key writes one") from error


def _predicted(secured: Secured, board: str) -> dict[str, Any]:
    """What a query is foretold to take: on the board if it is calibrated, on qemu, and by figures published of a Pi."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(filter(None, (board, "qemu", published_pi.NAME))):
        with contextlib.suppress(PredictionError):  # not calibrated
            figures, notes = figures_on(name, None)(secured.deployment.segments)
            rows = [{"figure": figure, "value": value, "how": how} for figure, value, how in figures]
            found[name] = {"figures": rows, "notes": notes}
    return found


def _plan(secured: Secured, about: Mapping[str, Any]) -> str:
    lines = [_title(secured), "", "Memory of the TEE, layer by layer", "", secured.plan.table()]
    if not secured.deployment.hidden:
        lines = [_title(secured), "", "Nothing is hidden: no TEE is needed, and nothing is protected."]
    for board, one in about["predicted"].items():
        rows = [(row["figure"], row["value"], row["how"]) for row in one["figures"]]
        lines += ["", f"A query on {board}, predicted", "", tabulate(rows, disable_numparse=True), "", *one["notes"]]
    return "\n".join(lines) + "\n"


def _title(secured: Secured) -> str:
    shape = "x".join(map(str, secured.model.input_shape))
    return f"{secured.spec.text} on {secured.model.name} ({shape}, {secured.model.n_classes} classes)"


def _tell(options: Namespace, secured: Secured, about: Mapping[str, Any]) -> None:
    deployment = secured.deployment
    target = options.board or ("BOARD" if options.device_key else "emulated")
    rows = [
        ("hidden layers", ", ".join(about["hidden_layers"]) or "none: nothing is protected"),
        ("public layers", ", ".join(about["public_layers"]) or "none"),
        ("answers", f"policy {deployment.policy}" + (", a softmax was appended" if secured.model.appended else "")),
        ("an attacker sees", ";\n".join(about["shows"].values())),
        ("TEE memory", f"{about['tee_planned_bytes']:,} of {about['tee_limit_bytes']:,} bytes (planned)"),
        *(("latency, predicted", _latency(board, one)) for board, one in about["predicted"].items()),
        *(("tried", _tried(one)) for one in filter(None, [about.get("tried")])),
    ]
    print(f"{_title(secured)}: {options.output}\n\n{tabulate(rows, tablefmt='plain', disable_numparse=True)}\n")
    if target == "emulated":
        print("note: the emulated board is this user's cache folder, its device key included: it protects nothing")
    where, board = shlex.quote(str(options.output)), shlex.quote(target)
    print(f"leakboard run {where} --board {board} --images FILE.npy -o answers.npy")


def _tried(one: Mapping[str, Any]) -> str:
    off, agree = one["model_max_abs_error"], f"{100 * one['labels_agree_frac']:g} % of labels are PyTorch's"
    beside = agree if off is None else f"{agree}, probabilities at most {off:.1e} off"
    return f"on {one['board']}, {one['queries']} random images: {beside}"


def _latency(board: str, one: Mapping[str, Any]) -> str:
    first = one["figures"][0]
    return f"{first['value']} on {board} ({first['how']})"
