"""The peers' attacks, each in a process of its own, in their environment, with a limit to its time."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device.cache import sha256_of
from peers.cases import PeersError
from peers.ours import Scored, Times
from suite.progress import announce

PROGRAMS = Path(__file__).parent / "programs"
TELL_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Peer:
    """One attack of another tool's.

    ``same``: ours that does the same, as the suite writes attacks; ``references``: it needs reference models;
    ``on_subset``: it is too slow for all candidates.
    """

    name: str
    program: str
    attack: str
    what: str
    package: str
    same: str | None = None
    least_speedup: float | None = None
    references: bool = False
    on_subset: bool = False


ART, METER = "adversarial-robustness-toolbox", "privacy-meter"
PEERS = {
    peer.name: peer
    for peer in (
        Peer("art_nn", "art_attacks", "nn", "ART black-box, neural network", ART, "shadow[model=same]", 5.0),
        Peer("art_rf", "art_attacks", "rf", "ART black-box, random forest", ART, "shadow[model=same]", 5.0),
        Peer("art_rule", "art_attacks", "rule", "ART rule-based", ART),
        Peer(
            "art_label_only", "art_attacks", "label_only", "ART label-only, boundary distance", ART,
            "boundary_walk[candidates=0,budget=500]", 5.0, on_subset=True,
        ),
        Peer("meter_rmia", "privacy_meter_attacks", "rmia", "Privacy Meter RMIA", METER, "rmia", references=True),
        Peer("meter_reference", "privacy_meter_attacks", "reference", "Privacy Meter 1.0.1 reference attack", METER),
    )
}  # fmt: skip


class TookTooLong(PeersError):
    """A peer was stopped at its limit."""


def run_peer(
    peer: Peer, python: Path, handed: Path, results: Path, *, limit_s: float, threads: int, files: Mapping[str, Path]
) -> Scored:
    """A peer's scores; those of an earlier run with the same program and threads are kept in ``results``.

    ``files``: what the program needs besides ``handed``, by the variable that tells it where.

    Raises:
        TookTooLong: it had not ended after ``limit_s`` seconds.
        PeersError: it failed; carries the last lines it wrote.
    """
    program = PROGRAMS / f"{peer.program}.py"
    code = sha256_of(program)[:8] + sha256_of(PROGRAMS / "handed.py")[:4]
    kept = results / f"{peer.name}-{code}-{threads}.npz"
    if not kept.is_file():
        results.mkdir(parents=True, exist_ok=True)
        part, log = kept.with_suffix(".part.npz"), kept.with_suffix(".log")
        announce(f"running {peer.what} on {handed.name}, at most {limit_s / 60:.0f} min; it writes to {log}")
        _run((str(python), str(program), peer.attack, str(handed), str(part)), peer, log, limit_s, threads, files)
        part.replace(kept)
    with np.load(kept) as arrays:
        scores, times = arrays["scores"], Times(*map(float, arrays["seconds"]))
    with np.load(handed / "handed.npz") as arrays:
        places = arrays["subset"] if peer.on_subset else None
        expected = len(arrays["labels"]) if places is None else len(places)
    if scores.shape != (expected,) or not np.isfinite(scores).all():
        raise PeersError(f"{peer.what}: expected {expected} finite scores, got {scores.shape}; see {kept}")
    return Scored(peer.name, scores, times, places)


def _run(
    command: tuple[str, ...], peer: Peer, log: Path, limit_s: float, threads: int, files: Mapping[str, Path]
) -> None:
    environment = dict(os.environ) | {
        name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    environment.pop("PYTHONPATH", None)
    environment |= {name: str(file) for name, file in files.items()}
    began = time.monotonic()
    told = began
    with log.open("w", encoding="utf-8") as opened:
        process = subprocess.Popen(command, stdout=opened, stderr=subprocess.STDOUT, env=environment)
        try:
            while process.poll() is None:
                now = time.monotonic()
                if now - began > limit_s:
                    raise TookTooLong(f"{peer.what} had not ended after {limit_s / 60:.0f} min (--limit-min)")
                if now - told > TELL_EVERY_S:
                    told = now
                    announce(f"  {peer.what}: {(now - began) / 60:.1f} min")
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    if process.returncode:
        said = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()][-3:]
        raise PeersError(f"{peer.what} failed ({process.returncode}): {' | '.join(said)}; all it wrote is in {log}")
