"""``leakboard predict`` and ``leakboard board calibrate``: each takes the parsed options, returns the exit status."""

from __future__ import annotations

import argparse
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from suite import calibration, published_pi
from suite.boards import BOARDS, make_board
from suite.commands import task_of
from suite.deploying import deploy, untrained_victim
from suite.graph.macs import graph_macs, int8_macs
from suite.graph.partition import Segment, World
from suite.graph.planner import MemoryPlan, plan_memory
from suite.microbench import plan
from suite.predicting import COMMITTED, PredictionError, committed, model_of
from suite.progress import duration, to_stderr
from suite.published_pi import Span
from suite.registry import Kind, PluginError, did_you_mean
from suite.spec import parse

Figures = list[tuple[str, str, str]]
_BOARDS = (*BOARDS, published_pi.NAME, "ssh://user@host[:port]")


def add_calibrate(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``calibrate`` to what ``leakboard board`` can do."""
    text = "time micro-benchmarks on a board and fit what each thing costs there, for leakboard predict"
    sub = actions.add_parser("calibrate", help=text, description=text)
    sub.add_argument("--board", default="qemu", help=f"{', '.join(BOARDS)} or ssh://... (default: %(default)s)")
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="write here (default: in the cache)")
    sub.set_defaults(run=calibrate)


def add_predict(add: Callable[[str, Callable[[Namespace], int], str], argparse.ArgumentParser]) -> None:
    """Add ``predict`` to the command line."""
    sub = add("predict", predict, "foretell latency, memory and energy of a query on a board")
    sub.add_argument("victim")
    sub.add_argument("defense", nargs="?", default="vanilla", help='for example "darknetz[k=2]" (default: %(default)s)')
    sub.add_argument("--board", default="qemu", help=f"{', '.join(_BOARDS)} (default: %(default)s)")
    sub.add_argument("--calibration", type=Path, metavar="FILE", help="what leakboard board calibrate wrote")
    sub.add_argument("--dataset", default="cifar10", help="gives input shape and classes (default: %(default)s)")
    sub.add_argument("--input", metavar="CxHxW", help="images of this shape instead, such as 3x224x224")
    sub.add_argument("--classes", type=int, metavar="N", help="this many classes instead")
    sub.add_argument("--plugin", action="append", default=[], metavar="FILE", type=Path, help="load a loose file")


def calibrate(options: Namespace) -> int:
    """Calibrate a board and write the file."""
    board, started = make_board(options.board), time.monotonic()
    try:
        content = calibration.calibrate(board, plan(), to_stderr)
    finally:
        board.close()
    path = options.output or calibration.default_file(board.name)
    calibration.write(content, path)
    print(f"{content['source']}, {duration(time.monotonic() - started)}")
    errors = content["mean_abs_error"]
    print(
        f"mean absolute error over them: {', '.join(f'{100 * e:.1f} % in the {w.upper()}' for w, e in errors.items())}"
    )
    print(f"left out: {'; '.join(content['left_out'])}")
    print(f"written: {path}")
    return 0


def predict(options: Namespace) -> int:
    """Print the prediction of every variant of the defense that is named."""
    shape, n_classes = task_of(options)
    specs = parse(Kind.DEFENSE, options.defense)
    figures_of = figures_on(options.board, options.calibration)
    victim = untrained_victim(options.victim, shape, n_classes)
    for spec in specs:
        deployment = deploy(spec, victim)
        figures, notes = figures_of(deployment.segments)
        rows = [*figures, *_memory(plan_memory(deployment.segments))]
        size = "x".join(map(str, shape))
        print(f"{spec.text} on {options.victim} ({size}, {n_classes} classes), board {options.board}, one query\n")
        print(tabulate(rows, ("figure", "", "found"), disable_numparse=True))
        print("\n" + "\n".join(notes), end="\n\n")
    return 0


def figures_on(board: str, file: Path | None) -> Callable[[Sequence[Segment]], tuple[Figures, list[str]]]:
    """What foretells a deployment's cost on a board: rows (figure, value, how it is known), and notes.

    Raises:
        PredictionError: the board has no calibration; says how to make one.
        PluginError: there is no such board.
    """
    if board == published_pi.NAME:
        if file is not None:
            raise PredictionError(f"--calibration {file}: board {board} stands for published figures, it has none")
        return _on_pi
    content, where = _calibration(board, file)
    return lambda segments: _on_calibrated(segments, content, where)


def _calibration(board: str, file: Path | None) -> tuple[Mapping[str, Any], str]:
    """A file that is named, else the one made here, else the one that comes with the suite.

    Raises:
        PredictionError: there is none, or the one that is named is another board's.
        PluginError: there is no such board.
    """
    try:
        name = make_board(board).name
    except PluginError:
        raise PluginError(f"unknown board {board!r}{did_you_mean(board, _BOARDS)}") from None
    path = file or calibration.default_file(name)
    if file is None and name in COMMITTED and not path.exists():
        return committed(name), COMMITTED[name]
    content = calibration.read(path)
    if content.get("board") != name:
        raise PredictionError(f"{path} is the calibration of {content.get('board')!r}, not of {name!r}")
    return content, str(path)


def _part_of(what: str) -> str:
    return f"in the {what.upper()}" if what in tuple(World) else f"for {what}"


def _on_calibrated(segments: Sequence[Segment], content: Mapping[str, Any], where: str) -> tuple[Figures, list[str]]:
    found = model_of(content, where).predict(segments)
    drawn = [model.predict(segments) for model in calibration.models(content, where)] or [found]

    def line(name: str, field: str) -> tuple[str, str, str]:
        least, most = np.percentile([getattr(one, field) / 1e3 for one in drawn], (2.5, 97.5))
        return name, f"{getattr(found, field) / 1e3:.3f} ms", f"fitted: {least:.3f} to {most:.3f}"

    figures = [
        line("latency", "total_us"), line("- in the REE", "ree_us"), line("- in the TEE", "tee_us"),
        line("- switches and crossing", "switch_us"),
        ("switches", str(found.switches), "counted"),
        ("bytes that cross", f"{found.crossing_bytes:,}", "counted"),
        ("energy", "not known", "no power of this board is measured or published"),
    ]  # fmt: skip
    if found.memory.file_bytes:
        figures.append(_opening(found.memory.file_bytes, content["opening"]))
    errors = ", ".join(f"{100 * e:.1f} % {_part_of(what)}" for what, e in content.get("mean_abs_error", {}).items())
    notes = [
        f"{content['source']}, {content['created_utc'][:10]}; mean absolute error on these: {errors}.",
        f"Times are of that board's clock ({content['describe'].get('clock', 'not said')}).",
        f"Left out: {'; '.join(content['left_out'])}.",
    ]
    return figures, notes


def _opening(sealed_bytes: int, rates: Mapping[str, Mapping[str, float]]) -> tuple[str, str, str]:
    once, each = rates[calibration.OPENING], rates[calibration.OPENING_BYTES]
    value, least, most = ((once[end] + sealed_bytes * each[end]) / 1e3 for end in ("us", "low", "high"))
    return "once, unsealing the model", f"{value:.3f} ms", f"fitted: {least:.3f} to {most:.3f}"


def _on_pi(segments: Sequence[Segment]) -> tuple[Figures, list[str]]:
    ree, tee = (sum(graph_macs(s.graph) for s in segments if s.world == world) for world in ("ree", "tee"))
    int8 = sum(int8_macs(segment.graph) for segment in segments)
    figures: Figures = []

    def line(name: str, span: Span, unit: str, how: str) -> None:
        figures.append((name, f"{span.value:.3g} {unit}", f"{how}: {span.low:.3g} to {span.high:.3g}"))

    for threads in (1, 4):
        whole, inside = (
            published_pi.latency_s(out, tee, _part(int8, out + tee, ree + tee), threads) for out in (ree, 0)
        )
        on = f", {threads} threads outside the TEE" if threads > 1 else ", 1 thread"
        line(f"latency{on}", whole.times(1e3), "ms", "modelled from published")
        if threads == 1:
            line("- of it in the TEE", inside.times(1e3), "ms", "modelled from published")
        line(f"energy{on}", whole.times(1e3 * published_pi.FULL_W), "mJ", "modelled from published, at full load")
        above = published_pi.FULL_W - published_pi.IDLE_W
        line("- above idle", whole.times(1e3 * above), "mJ", "modelled from published")
    figures.append(("multiply-accumulates", f"{(ree + tee) / 1e6:,.1f} million", "counted"))
    return figures, [f"{published_pi.SOURCE}.", f"Left out: {published_pi.LEFT_OUT}."]


def _part(int8: int, macs: int, whole: int) -> int:
    """Of ``int8`` multiply-accumulates of ``whole``, those of ``macs``, taken to be spread alike."""
    return int8 * macs // whole if whole else 0


def _memory(found: MemoryPlan) -> Figures:
    return [("TA memory", f"{found.peak_bytes / 2**20:.2f} MiB", "planned")] if found.peak_bytes else []
