"""Timing the micro-benchmarks on a board; what is finished stays when the rest is interrupted."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from device.board import Board, DeploymentFiles, TeeOutOfMemory
from device.cache import cache_root
from suite.graph.format import pack_public, pack_sealed, pack_slices
from suite.graph.partition import World
from suite.microbench import MicroBench
from suite.policy import OutputPolicy
from suite.records import write_atomic

ROUNDS, NOOPS, WARM_UP = 15, 25, 3
_MODEL_ID = bytes(16)


@dataclass(frozen=True, slots=True)
class Timed:
    """A micro-benchmark's medians, microseconds on the board's clock: a query, its calls into the TEE, an empty call.

    ``unseal_us``: once, for bringing the sealed model of ``sealed_bytes`` into the TEE. All but the first are 0 where
    nothing is hidden.
    """

    name: str
    total_us: float
    invoke_us: float
    noop_us: float
    unseal_us: float
    sealed_bytes: int


def measure(
    board: Board, plan: Sequence[MicroBench], on_progress: Callable[[str], None], rounds: int = ROUNDS
) -> dict[str, Timed]:
    """Time every micro-benchmark that has not been timed on this very board before; by name.

    One that does not fit the TEE is left out, and told.

    Raises:
        BoardError: the board fails; what was timed is kept, the next call goes on there.
    """
    kept = _file(board, rounds)
    found = _read(kept)
    for number, case in enumerate(plan, 1):
        key = case.key()
        if key in found:
            continue
        try:
            found[key] = time_one(board, case, rounds)
        except TeeOutOfMemory as error:
            on_progress(f"{case.name} is left out: {error}")
            continue
        _write(kept, found)
        one = found[key]
        on_progress(f"{number}/{len(plan)} {case.name}: {one.total_us:.1f} us, {one.invoke_us:.1f} us of it in the TEE")
    return {case.name: found[case.key()] for case in plan if case.key() in found}


def time_one(board: Board, case: MicroBench, rounds: int = ROUNDS) -> Timed:
    """Open the deployment of a micro-benchmark and time it.

    Raises:
        BoardError: the board fails.
    """
    segments, policy = case.segments(), OutputPolicy.parse("probs")
    with tempfile.TemporaryDirectory(prefix="leakboard-calibrate-") as folder:
        public, sealed = Path(folder, "public.lbm"), Path(folder, "sealed.lbm")
        public.write_bytes(pack_public(segments, policy, _MODEL_ID))
        hidden = any(segment.world is World.TEE for segment in segments)
        if hidden:
            sealed.write_bytes(pack_sealed(segments, policy, _MODEL_ID))
        streamed = Path(folder, "slices.bin") if (slices := pack_slices(segments)) else None
        if streamed:
            streamed.write_bytes(b"".join(slices))
        with board.open(DeploymentFiles(public, sealed if hidden else None, streamed)) as session:
            session.time(case.image(), WARM_UP, noops=WARM_UP * hidden)
            timings = session.time(case.image(), rounds, noops=NOOPS * hidden)
            unseal_us = session.stats().unseal_us
        sealed_bytes = sealed.stat().st_size if hidden else 0
    times = (timings.total_ns, timings.invoke_ns, timings.noop_ns)
    total, invoke, noop = (float(np.median(one)) / 1e3 if len(one) else 0.0 for one in times)
    return Timed(case.name, total, invoke, noop, unseal_us, sealed_bytes)


def _file(board: Board, rounds: int) -> Path:
    return cache_root() / "calibration" / f"{board.name}-{board.fingerprint()[:16]}-{rounds}.json"


def _read(path: Path) -> dict[str, Timed]:
    try:
        content: Mapping[str, Mapping[str, object]] = json.loads(path.read_text(encoding="utf-8"))
        return {name: Timed(**one) for name, one in content.items()}  # type: ignore[arg-type]
    except (OSError, ValueError, TypeError, AttributeError):  # none, or damaged: measured again
        return {}


def _write(path: Path, found: Mapping[str, Timed]) -> None:
    os.makedirs(path.parent, exist_ok=True)
    write_atomic(path, json.dumps({name: asdict(one) for name, one in found.items()}, indent=1).encode())
