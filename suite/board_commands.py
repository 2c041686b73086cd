"""What ``leakboard board`` does. Each takes the parsed options and returns the exit status."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable

from device.board import Board
from device.qemu import lock, mirror
from device.qemu.image import build_image, built_image
from device.qemu.machine import Machine
from device.qemu.selftest import self_test
from suite import predict_commands, progress, sealing_commands
from suite.board_check import DEFENSE, TOLERANCE, VICTIM, inference_error
from suite.boards import BOARDS, SSH_FORM, make_board
from suite.progress import duration, to_stderr


def add_parser(subs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``board`` and what it can do to the command line."""
    text = "build, boot and look after the QEMU board: real OP-TEE on an emulated Armv8 machine"
    board = subs.add_parser("board", help=text, description=text)
    actions = board.add_subparsers(dest="action", required=True)

    def add(name: str, run: Callable[[Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    making = add("build", build, "build the board from pinned Debian packages, if an input changed")
    making.add_argument("--update", action="store_true", help="first pin the versions that the mirror has now")
    add("boot", boot, "start the board and leave it ready, paused until it is used")
    add("stop", stop, "stop the board")
    add("status", status, "say what the board is made of and what it does")
    inside = add("shell", shell, "open a shell on the board, or run one command there")
    inside.add_argument("words", nargs=argparse.REMAINDER, metavar="command")
    checking = add(
        "check", check, "test a board by an inference; the QEMU one also its OP-TEE, secure memory and storage"
    )
    checking.add_argument("--board", default="qemu", help=f"{', '.join(BOARDS)} or {SSH_FORM} (default: %(default)s)")
    checking.add_argument("--tee-mib", type=float, metavar="MIB", help="memory limit of the TEE (default: the board's)")
    predict_commands.add_calibrate(actions)
    sealing_commands.add_key(actions)
    add("reset", reset, "give the board an empty disk: mends damaged secure storage, and loses the device key")


def build(options: Namespace) -> int:
    """Build the image, or find it built."""
    if options.update:
        _update()
    started = time.monotonic()
    image = build_image(to_stderr)
    print(f"image {image.digest[:16]} in {image.folder} ({time.monotonic() - started:.1f} s)")
    return 0


def boot(options: Namespace) -> int:
    """Boot and leave it paused."""
    machine = Machine(build_image(to_stderr))
    started = time.monotonic()
    with machine.using("leakboard board boot", waiting=to_stderr):
        seconds = time.monotonic() - started
        port = machine.target().port
    print(f"the board is up after {seconds:.1f} s, SSH on port {port} of 127.0.0.1; paused until it is used")
    print("leakboard board shell opens a shell on it, leakboard board stop ends it")
    return 0


def stop(options: Namespace) -> int:
    """Stop the process."""
    machine = Machine(None)
    was = machine.status()
    if was.user:
        print(f"it was used by {was.user}")
    machine.stop()
    print("stopped" if was.pid else "no board runs")
    return 0


def status(options: Namespace) -> int:
    """Image, versions, process."""
    image = built_image()
    print(
        f"image     {image.digest[:16]} in {image.folder}" if image else "image     not built (leakboard board build)"
    )
    found = Machine(None).status()
    if found.pid is None:
        print("board     does not run (leakboard board boot)")
    else:
        doing = "paused" if found.paused else "running"
        print(f"board     {doing}, process {found.pid}, up {duration(found.up_s or 0)}, SSH on 127.0.0.1:{found.port}")
        print(f"used by   {found.user or 'nobody'}")
        if image is None or found.digest != image.digest:
            print("          it runs another image than the one that would be booted now")
        if not found.paused and not found.user:
            print("          it runs for nobody: leakboard board stop ends it")
    for package, version in lock.versions(lock.read()).items():
        print(f"          {package:<26} {version}")
    return 0


def shell(options: Namespace) -> int:
    """Run ``ssh``; its exit status."""
    machine = Machine(build_image(to_stderr))
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    with machine.using("leakboard board shell", waiting=to_stderr):
        target = machine.target()
        terminal = ["-t"] if sys.stdin.isatty() and not words else []
        where = ["-p", str(target.port), "-l", target.user, "-o", "LogLevel=ERROR"]
        command = ["ssh", *target.options, *where, *terminal, target.host]
        return subprocess.run([*command, *([shlex.join(words)] if words else [])], check=False).returncode


def check(options: Namespace) -> int:
    """Run the self-test; 1 when something is not as it should be."""
    if options.board != "qemu":
        return _check_answers(make_board(options.board, options.tee_mib))
    image = build_image(to_stderr)
    broken = 0
    with Machine(image).using("leakboard board check", waiting=to_stderr) as machine:
        for found in self_test(machine.target(), image.versions["optee-os"]):
            broken += not found.good
            print(f"{'ok    ' if found.good else 'FAILED'} {found.what} ({found.detail})")
    broken += _check_answers(make_board(options.board, options.tee_mib))
    return 1 if broken else 0


def _check_answers(board: Board) -> int:
    """Say what the board says of itself, and run an inference through its TEE; 1 when it errs."""
    with progress.sink(to_stderr):
        try:
            error = inference_error(board)
            about = board.describe()
        finally:
            board.close()
    good = error <= TOLERANCE
    what = f"{VICTIM} with {DEFENSE} answers as PyTorch does"
    print(f"{'ok    ' if good else 'FAILED'} {what} (largest difference {error:.1e})")
    print("\n".join(f"       {name:<16} {value}" for name, value in about.items()))
    return 0 if good else 1


def reset(options: Namespace) -> int:
    """Make the disk anew."""
    machine = Machine(None)
    with machine.having("leakboard board reset", waiting=to_stderr):
        machine.reset()
    print("the board is stopped and has an empty disk: its device key is lost, and what was sealed to it with it")
    return 0


def _update() -> None:
    before = lock.versions(lock.read()) if lock.LOCK.exists() else {}
    pins = mirror.offers()
    lock.write(pins)
    after = lock.versions(pins)
    for package in after:
        if before.get(package) != after[package]:
            print(f"{package} {before.get(package, '(new)')} -> {after[package]}")
    if before == after:
        print("the mirror has what was pinned")
