"""A calibration: what every thing that a query does costs on one board, how that was found, and how well it fits."""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from device.board import Board
from device.cache import cache_root
from suite.calibrating import ROUNDS, Timed, measure
from suite.fitting import RESAMPLES, Fit, Row, fit
from suite.graph.partition import World
from suite.microbench import MicroBench
from suite.predicting import FEATURES, QUERIES, SWITCHES, LinearModel, PredictionError, features, model_of
from suite.records import write_atomic

SCHEMA = 2
KEPT_DRAWS = 40
OPENING, OPENING_BYTES = "unsealed.models", "unsealed.bytes"
"""What bringing a sealed model into the TEE costs: once, and for each of its bytes (AES-256-GCM, and copies)."""
LEFT_OUT = ("opening a session, beside unsealing the model: starting agent and TA, sending them the files",)
"""What no cost stands for."""
_REE = f"{World.REE}."


def calibrate(
    board: Board,
    plan: Sequence[MicroBench],
    on_progress: Callable[[str], None],
    *,
    rounds: int = ROUNDS,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Time ``plan`` on a board and fit its costs: the content of a calibration file.

    Raises:
        BoardError: the board fails; what was timed is kept for the next call.
        FitError: what could be timed does not tell every cost.
    """
    timed = measure(board, plan, on_progress, rounds)
    about, now = dict(board.describe()), datetime.datetime.now(datetime.UTC)
    ree, tee = fits(plan, timed, resamples)
    opening = fit_opening(timed.values(), resamples)
    mode = f" ({about['mode']})" if "mode" in about else ""
    return {
        "schema": SCHEMA,
        "board": board.name,
        "source": f"fitted: non-negative least squares over {len(timed)} micro-benchmarks timed on {board.name}{mode}",
        "created_utc": now.isoformat(timespec="seconds"),
        "fingerprint": board.fingerprint(),
        "describe": about,
        "rounds": rounds,
        "left_out": list(LEFT_OUT),
        "mean_abs_error": {
            str(World.REE): ree.mean_error,
            str(World.TEE): tee.mean_error,
            "unsealing": opening.mean_error,
        },
        "opening": {name: asdict(rate) for name, rate in opening.rates.items()},
        "rates": {name: asdict((ree if _of_ree(name) else tee).rates[name]) for name in FEATURES},
        "draws": [
            {name: float(f"{us:.5g}") for name, us in {**one, **other}.items()}
            for one, other in itertools.islice(zip(ree.draws, tee.draws, strict=True), KEPT_DRAWS)
        ],
        "residuals": {str(World.REE): dict(ree.errors), str(World.TEE): dict(tee.errors)},
        "measured_us": {name: [one.total_us, one.invoke_us, one.noop_us, one.unseal_us] for name, one in timed.items()},
    }


def fits(plan: Sequence[MicroBench], timed: Mapping[str, Timed], resamples: int = RESAMPLES) -> tuple[Fit, Fit]:
    """The normal world's costs from the time outside TEE calls, and the TEE's, switches included, from that in them.

    Raises:
        FitError: a feature is in no micro-benchmark that was timed.
    """
    ree, tee = [], []
    for case in plan:
        if case.name not in timed:
            continue
        one, counts = timed[case.name], features(case.segments())
        outside = {name: n for name, n in counts.items() if n and _of_ree(name)}
        inside = {name: n for name, n in counts.items() if n and not _of_ree(name)}
        ree.append(Row(case.name, case.group, outside, one.total_us - one.invoke_us))
        if inside:
            tee.append(Row(case.name, case.group, inside, one.invoke_us))
    empty = [one.noop_us for one in timed.values() if one.noop_us]
    if empty:
        tee.append(Row("empty call", "empty call", {SWITCHES: 1.0}, float(np.median(empty))))
    names = [name for name in FEATURES if _of_ree(name)]
    return (
        fit(ree, names, resamples=resamples),
        fit(tee, [name for name in FEATURES if not _of_ree(name)], resamples=resamples),
    )


def fit_opening(timed: Iterable[Timed], resamples: int = RESAMPLES) -> Fit:
    """What it costs to open a sealed model in the TEE.

    Raises:
        FitError: nothing that was timed is hidden.
    """
    rows = [
        Row(one.name, "unsealing", {OPENING: 1.0, OPENING_BYTES: one.sealed_bytes}, one.unseal_us)
        for one in timed
        if one.sealed_bytes
    ]
    return fit(rows, (OPENING, OPENING_BYTES), resamples=resamples)


def _of_ree(feature: str) -> bool:
    return feature.startswith(_REE) or feature == QUERIES


def default_file(board: str) -> Path:
    """Where a board's calibration lies unless another file is named."""
    return cache_root() / "calibration" / f"{board}.json"


def write(content: Mapping[str, Any], path: Path) -> None:
    """Write a calibration file, aside and renamed.

    Raises:
        RecordError: the folder cannot be written.
    """
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())


def read(path: Path) -> dict[str, Any]:
    """The content of a calibration file.

    Raises:
        PredictionError: there is none, or it cannot be read; says how to make one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PredictionError(f"no calibration {path}: leakboard board calibrate makes one") from None
    except (OSError, ValueError) as error:
        raise PredictionError(f"the calibration {path} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise PredictionError(f"{path} is no calibration of schema {SCHEMA}: leakboard board calibrate makes one")
    return content


def models(content: Mapping[str, Any], where: str) -> tuple[LinearModel, ...]:
    """One model for each resample that the file keeps: what they predict says how sure a prediction is.

    Raises:
        PredictionError: as :func:`suite.predicting.model_of`.
    """
    return tuple(
        model_of({**content, "rates": {name: {"us": us} for name, us in draw.items()}}, where)
        for draw in content.get("draws", ())
    )
