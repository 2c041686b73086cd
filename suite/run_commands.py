"""``leakboard run``: takes the parsed options, returns the exit status."""

from __future__ import annotations

import argparse
import io
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from device.board import BoardError, SealedRefused
from suite import sealed_deployment
from suite.boards import BOARDS, SSH_FORM, make_board
from suite.commands import load_plugins
from suite.files import read_images, write_file

_SHOWN = 10


def add_run(add: Callable[[str, Callable[[Namespace], int], str], argparse.ArgumentParser]) -> None:
    """Add ``run`` to the command line."""
    sub = add("run", run, "answer images by a deployment that leakboard secure wrote, on a board")
    places = f"{', '.join(BOARDS)}, {SSH_FORM} or a plugin's"
    sub.add_argument("folder", type=Path, metavar="DIR")
    sub.add_argument("--board", default="emulated", help=f"{places} (default: %(default)s)")
    sub.add_argument(
        "--images", type=Path, required=True, metavar="FILE.npy", help="float32 [N,C,H,W], as the model takes them"
    )
    sub.add_argument(
        "-o", "--output", type=Path, metavar="FILE.npy", help="write the answers: [N,classes], or labels [N]"
    )
    sub.add_argument(
        "--rounds", type=int, default=20, metavar="N", help="times one image is timed (default: %(default)s)"
    )
    sub.add_argument("--tee-mib", type=float, metavar="MIB", help="the TEE's memory limit (default: the board's)")
    sub.add_argument("--plugin", action="append", default=[], metavar="FILE", type=Path, help="load a loose file")


def run(options: Namespace) -> int:
    """Answer, and tell what it took."""
    load_plugins(options.plugin)
    deployment = sealed_deployment.read_deployment(options.folder)
    images = read_images(options.images, deployment.input_shape)
    if options.rounds < 0:
        raise ValueError(f"--rounds {options.rounds}: 0 or more")
    board = make_board(options.board, options.tee_mib, kept=True)
    try:
        with board.open(deployment.files) as session:
            outputs = session.infer(images).outputs
            times = session.time(images[0], options.rounds) if options.rounds else None
            stats, clock = session.stats(), str(board.describe().get("clock", "the board's"))
    except SealedRefused as error:
        if error.reason != "WRONG_DEVICE":
            raise
        where = options.folder / sealed_deployment.KEY
        raise BoardError(
            f"{error}; it was sealed to the device of {where}, and this board is another: run leakboard secure again"
            f" with --board {options.board}"
        ) from error
    finally:
        board.close()
    if options.output is not None:
        buffer = io.BytesIO()
        np.save(buffer, outputs)
        write_file(options.output, buffer.getvalue())
    rows = [("answers", f"{len(images)}, policy {deployment.about['policy']}" + _written(options.output))]
    if times is not None:
        total, inside = times.total_ns / 1e6, times.invoke_ns / 1e6
        low, high = np.percentile(total, (25, 75))
        rows.append(
            ("latency", f"median {np.median(total):.3f} ms, quartiles {low:.3f} to {high:.3f}, {len(total)} rounds")
        )
        rows.append(("- in TEE calls", f"median {np.median(inside):.3f} ms"))
        rows.append(("clock", clock))
    rows += [
        ("switches a query", str(stats.switches_per_query)),
        ("bytes to and from the TEE", f"{stats.bytes_to_tee:,}, {stats.bytes_from_tee:,} a query"),
        ("memory", f"TEE {stats.tee_peak_bytes:,} of {stats.tee_limit_bytes:,} bytes, REE {stats.ree_bytes:,} bytes"),
    ]
    print(f"{deployment.name} on {options.board}\n\n{tabulate(rows, tablefmt='plain', disable_numparse=True)}")
    if options.output is None:
        print("\n" + "\n".join(_answer(index, row) for index, row in enumerate(outputs[:_SHOWN])))
        if len(outputs) > _SHOWN:
            print(f"... and {len(outputs) - _SHOWN} more: -o FILE.npy keeps them all")
    return 0


def _written(output: Path | None) -> str:
    return "" if output is None else f", written to {output}"


def _answer(index: int, row: Any) -> str:
    if np.ndim(row) == 0:
        return f"image {index}: class {int(row)}"
    best = int(np.argmax(row))
    return f"image {index}: class {best} ({float(row[best]):.4f})"
