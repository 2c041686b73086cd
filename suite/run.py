"""The one path: registry, cell, victim, defense, device, attack, metrics, record."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from device.board import Board
from device.power_meter import MeterSpec
from suite import gates, pool
from suite.adversarial import epsilon_of
from suite.ahead import Ahead
from suite.attacking import attacker_jobs, run_attack, shadow_jobs
from suite.deploying import Laid, lay
from suite.energy import energy_of
from suite.engine import Engine
from suite.evaluating import Evaluation, evaluate
from suite.exposure import exposure_jobs
from suite.exposure_cells import expose
from suite.extracting import answers_of, extract
from suite.extraction_metrics import extraction_points
from suite.learning import learn_job_of
from suite.matrix import Cell
from suite.metrics import latency_metrics, membership_metrics
from suite.model import Goal
from suite.models import TrainJob
from suite.provenance import code_hash, hash_json
from suite.record import (
    AttackInfo,
    AttackScores,
    ExposureInfo,
    ExposureSamples,
    ExtractionInfo,
    Record,
    RecordError,
    Scores,
    StolenAnswers,
)
from suite.recording import compose
from suite.records import read_record, read_scores, record_path, write_record
from suite.registry import Kind
from suite.retrying import Attempt, with_recovery
from suite.spec import PluginSpec, parse
from suite.store import Store
from suite.timing import LatencyMeter


@dataclass(frozen=True, slots=True)
class Bench:
    """Where cells are run: artefact store, board, results folder, the loose plugin files in use, and a power meter.

    ``workers``: how many processes train, None for one a core; or the engine that trains, and runs attack cells.
    ``ahead``: who works on attack cells before their turn.
    """

    store: Store
    board: Board
    results: Path
    plugins: tuple[str, ...] = ()
    workers: int | Engine | None = None
    ahead: Ahead | None = None
    meter: MeterSpec = MeterSpec()


def victim_job(cell: Cell) -> TrainJob:
    """The training that a cell's victim comes from."""
    return TrainJob(cell.victim.name, cell.dataset, cell.profile, cell.seed)


def training_jobs(cells: Sequence[Cell], store: Store) -> list[pool.Job]:
    """All that the cells need made: victims, the attackers' models, what defenses learn, the exposure of layers."""
    victims = [victim_job(cell) for cell in cells]
    own = [job for cell in cells if cell.attack for job in attacker_jobs(cell.attack, victim_job(cell))]
    lessons = [job for cell in cells if (job := learn_job_of(cell.defense, victim_job(cell)))]
    layers = [job for cell in cells if cell.attack for job in exposure_jobs(store, cell.attack, victim_job(cell))]
    return list(dict.fromkeys([*victims, *own, *lessons, *layers]))


def run_attack_cell(cell: Cell, bench: Bench) -> Record:
    """Attack one deployment and write the record; an up-to-date record is kept as it is.

    Where the board is lost on the way, it is restarted and the cell is measured once more.

    Raises:
        GateError: the deployment is not what PyTorch computes; the record is written all the same.
        PluginError, BoardError, StoreError, DataError, RecordError: see there.
    """
    if bench.workers is not None and not isinstance(bench.workers, int):
        record = bench.workers.measured(cell, bench)
        if record is not None:
            return record
    if bench.ahead is None:
        return with_recovery(bench.board, cell.id, lambda attempt: _attacked(cell, bench, attempt))
    bench.ahead.wait(cell)
    began = time.perf_counter()
    record = with_recovery(bench.board, cell.id, lambda attempt: _attacked(cell, bench, attempt))
    bench.ahead.took(cell, time.perf_counter() - began)
    return record


def _attacked(cell: Cell, bench: Bench, attempt: Attempt) -> Record:
    began = time.perf_counter()
    job = victim_job(cell)
    pool.ensure(bench.store, training_jobs([cell], bench.store), bench.plugins, bench.workers)
    trained = time.perf_counter()
    laid, reached = reach(cell, bench)
    attacked = time.perf_counter()
    code = {"record": code_hash("suite.run", roots=("suite", "device"))}
    keys = _keys(cell, job, laid, reached.evaluation, code) | reached.keys
    record = up_to_date(cell, bench, keys)
    if record is None:
        part, scores = reached.judge()
        seconds = {"train": trained - began, "attack": attacked - trained, "score": time.perf_counter() - attacked}
        record = compose(
            cell, bench.store, job, laid, reached.evaluation, bench.board,
            **part, keys=keys, code=code, seconds=seconds, attempt=attempt,
        )  # fmt: skip
        record = write_record(bench.results, record, scores)
    gates.check(record, cell.defense.make().max_accuracy_loss_frac)
    return record


class Part(TypedDict, total=False):
    """What one kind of attack says in a record."""

    attack: AttackInfo
    extraction: ExtractionInfo
    exposure: ExposureInfo


@dataclass(frozen=True, slots=True)
class Reached:
    """What an attack came to. ``keys``: of its own artefacts; ``judge`` makes its part of the record and the scores."""

    evaluation: Evaluation
    keys: dict[str, str]
    judge: Callable[[], tuple[Part, Scores]]


def reach(cell: Cell, bench: Bench) -> tuple[Laid, Reached]:
    """Deploy and attack; all of it is in the store afterwards.

    Raises: as ``run_attack_cell``, but for what a record may raise.
    """
    assert cell.attack is not None
    job = victim_job(cell)
    laid = lay(bench.store, cell.defense, job)
    how = {Goal.EXTRACTION: _extract, Goal.EXPOSURE: _expose}.get(cell.attack.make().goal, _infer_membership)
    return laid, how(cell, cell.attack, bench, job, laid)


def _infer_membership(cell: Cell, spec: PluginSpec, bench: Bench, job: TrainJob, laid: Laid) -> Reached:
    evaluation, outcome = run_attack(bench.store, spec, laid, cell.defense, job, bench.board)

    def judge() -> tuple[Part, AttackScores]:
        material = job.material()
        threshold = outcome.about["threshold"]
        own, n_shadows = attacker_jobs(spec, job), len(shadow_jobs(spec, job))
        attack = AttackInfo(
            shadow_architecture=own[0].architecture if own else None,
            n_shadows=n_shadows,
            n_references=len(own) - n_shadows,
            n_queries=outcome.about["queries"],
            threshold=threshold,
            threshold_source=outcome.about["source"],
            metrics=membership_metrics(outcome.scores, material.is_member, threshold, seed=cell.seed),
        )
        return {"attack": attack}, AttackScores(outcome.scores, material.is_member, material.candidate_ids)

    return Reached(evaluation, {"guess": outcome.key.id}, judge)


def _extract(cell: Cell, spec: PluginSpec, bench: Bench, job: TrainJob, laid: Laid) -> Reached:
    evaluation, thefts = extract(bench.store, spec, laid, cell.defense, job, bench.board)

    def judge() -> tuple[Part, StolenAnswers]:
        material = job.material()
        answers = answers_of(evaluation, thefts, material)
        own = attacker_jobs(spec, job)
        extraction = ExtractionInfo(
            shadow_architecture=own[0].architecture if own else None,
            epsilon_pixels=epsilon_of(material.dataset.input_shape),
            n_transferred=len(answers.changed),
            points=extraction_points(answers),
        )
        return {"extraction": extraction}, answers

    return Reached(evaluation, {f"stolen_{theft.about['budget']}": theft.key.id for theft in thefts}, judge)


def _expose(cell: Cell, spec: PluginSpec, bench: Bench, job: TrainJob, laid: Laid) -> Reached:
    evaluation = evaluate(bench.store, laid, cell.defense, job, bench.board)
    layers = exposure_jobs(bench.store, spec, job)

    def judge() -> tuple[Part, ExposureSamples]:
        exposure, samples = expose(bench.store, laid, layers)
        return {"exposure": exposure}, samples

    return Reached(evaluation, {"layers": hash_json([layer.key().id for layer in layers])}, judge)


def _keys(cell: Cell, job: TrainJob, laid: Laid, evaluation: Evaluation, code: dict[str, str]) -> dict[str, str]:
    """What a record was made of, the attack's own part left out."""
    return {
        "victim": job.key().id,
        "deployment": laid.key.id,
        "evaluation": evaluation.key.id,
        "record": hash_json([cell.id, cell.profile.name, code]),
    }


Turns = Callable[[LatencyMeter, int], None]


def run_turns(meter: LatencyMeter, rounds: int) -> None:
    """Vanilla and protected in turns."""
    for _ in range(rounds):
        meter.vanilla()
        meter.protected()


def run_latency_cell(cell: Cell, bench: Bench, turns: Turns = run_turns) -> Record:
    """Time one deployment against vanilla, interleaved, and write the record. Measured anew in every run.

    Raises: as ``run_attack_cell``.
    """
    return with_recovery(bench.board, cell.id, lambda attempt: _latency(cell, bench, turns, attempt))


def _latency(cell: Cell, bench: Bench, turns: Turns, attempt: Attempt) -> Record:
    began = time.perf_counter()
    job = victim_job(cell)
    pool.ensure(bench.store, training_jobs([cell], bench.store), bench.plugins, bench.workers)
    laid = lay(bench.store, cell.defense, job)
    (white_box,) = parse(Kind.DEFENSE, "vanilla")
    unprotected = lay(bench.store, white_box, job)
    evaluation = evaluate(bench.store, laid, cell.defense, job, bench.board)
    timed = time.perf_counter()
    image = job.material().test.images[0]
    with LatencyMeter(bench.board, unprotected.files, laid.files, image) as meter:
        turns(meter, min(cell.profile.latency_rounds, bench.board.most_turns or cell.profile.latency_rounds))
        samples = meter.samples()
    switches = evaluation.about["stats"]["switches_per_query"]
    latency = latency_metrics(samples, switches, seed=cell.seed)
    keys = {"victim": job.key().id, "deployment": laid.key.id, "evaluation": evaluation.key.id}
    record = compose(
        cell, bench.store, job, laid, evaluation, bench.board,
        latency=latency,
        energy=energy_of(bench.meter, bench.board, laid.files, image, latency),
        keys=keys,
        code={"record": code_hash("suite.run", roots=("suite", "device"))},
        seconds={"prepare": timed - began, "time": time.perf_counter() - timed},
        attempt=attempt,
    )  # fmt: skip
    record = write_record(bench.results, record, samples)
    gates.check(record, cell.defense.make().max_accuracy_loss_frac)
    return record


def up_to_date(cell: Cell, bench: Bench, keys: dict[str, str]) -> Record | None:
    """The record in the results folder if it was made of exactly these keys and its scores are whole."""
    path = record_path(bench.results, cell.profile.name, cell.id)
    if not path.exists():
        return None
    try:
        record = read_record(path)
        read_scores(bench.results, record)
    except RecordError:
        return None  # damaged: it is written anew
    return record if dict(record.provenance.keys) == keys else None
