"""Putting a record together from what the steps left."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from device.board import Board
from suite import learning, models, provenance
from suite.deploying import Laid
from suite.evaluating import Evaluation
from suite.matrix import LATENCY, Cell
from suite.models import TrainJob
from suite.record import (
    SCHEMA,
    AttackInfo,
    CellInfo,
    CostInfo,
    EnergyInfo,
    ExposureInfo,
    ExtractionInfo,
    LatencyInfo,
    LearningInfo,
    MachineInfo,
    ParityInfo,
    ProvenanceInfo,
    Record,
    TaskInfo,
    ThreatInfo,
    UtilityInfo,
    VictimInfo,
)
from suite.registry import Kind, Plugin
from suite.retrying import Attempt
from suite.store import Store

TRAINING_CODE = ("victims.training", "victims.inference")
"""What a trained victim depends on besides its architecture; counted with the victim's own source."""


def compose(
    cell: Cell,
    store: Store,
    job: TrainJob,
    laid: Laid,
    evaluation: Evaluation,
    board: Board,
    *,
    attack: AttackInfo | None = None,
    extraction: ExtractionInfo | None = None,
    latency: LatencyInfo | None = None,
    energy: EnergyInfo | None = None,
    exposure: ExposureInfo | None = None,
    keys: Mapping[str, str],
    code: Mapping[str, str],
    seconds: Mapping[str, float],
    attempt: Attempt,
) -> Record:
    """The record of a cell, raw scores not yet attached."""
    material, dataset = job.material(), job.material().dataset
    trained = models.about(models.train_job(store, job))
    found = evaluation.about
    plugin = cell.attack.make() if cell.attack else None
    versions = provenance.versions()
    accuracy = found["accuracy_frac"]
    return Record(
        schema=SCHEMA,
        cell=CellInfo(
            id=cell.id,
            victim=cell.victim.slug,
            dataset=cell.dataset,
            defense=cell.defense.slug,
            defense_spec=cell.defense.text,
            measure=cell.measure,
            measure_spec=cell.attack.text if cell.attack else LATENCY,
            board=cell.board,
            profile=cell.profile.name,
            seed=cell.seed,
        ),
        threat=ThreatInfo(
            policy=laid.about["policy"],
            shows=tuple(laid.about["shows"]),
            needs=tuple(sorted(plugin.needs | (plugin.uses & set(laid.about["shows"])))) if plugin else (),
            goal=str(plugin.goal) if plugin else LATENCY,
        ),
        task=TaskInfo(
            input_shape=dataset.input_shape,
            n_classes=dataset.n_classes,
            n_members=int(material.is_member.sum()),
            n_nonmembers=int((~material.is_member).sum()),
            n_auxiliary=len(material.auxiliary),
            n_test=len(material.queried_test),
            dataset_fingerprint=dataset.fingerprint,
            dataset_source=dataset.source,
            splits_fingerprint=material.splits.fingerprint,
        ),
        victim=VictimInfo(
            key=job.key().id,
            parameters=trained["parameters"],
            epochs=job.task().epochs,
            precision=job.task().precision,
            recipe=dataclasses.asdict(job.task().recipe),
            train_accuracy_frac=trained["train_accuracy_frac"],
            test_accuracy_frac=trained["test_accuracy_frac"],
        ),
        learning=_learning(cell, store, job),
        utility=UtilityInfo(accuracy, found["victim_accuracy_frac"] - accuracy, found["accuracy_without_tee_frac"]),
        parity=ParityInfo(**found["parity"]),
        cost=CostInfo(
            **_counts(found["stats"]),
            tee_planned_bytes=laid.about["planned_bytes"],
            tee_flops_frac=laid.about["tee_flops_frac"],
            ree_macs=laid.about["ree_macs"],
            tee_macs=laid.about["tee_macs"],
            int8_macs=laid.about["int8_macs"],
        ),
        latency=latency,
        energy=energy,
        attack=attack,
        extraction=extraction,
        exposure=exposure,
        scores=None,
        provenance=ProvenanceInfo(
            leakboard=provenance.suite_version(),
            code={**code, **plugin_code(cell)},
            keys=dict(keys),
            python=versions["python"],
            torch=versions["torch"],
            numpy=versions["numpy"],
            machine=MachineInfo(**provenance.machine()),  # type: ignore[arg-type]
            board=dict(board.describe()),
            created_utc=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            seconds=dict(seconds),
            attempts=attempt.number,
            incidents=attempt.incidents,
        ),
    )


def plugin_code(cell: Cell) -> dict[str, str]:
    """The hash of the source of each plugin that a cell uses, by kind."""
    specs = (spec for spec in (cell.victim, cell.defense, cell.attack) if spec is not None)
    return {str(spec.kind): plugin_code_of(spec.plugin) for spec in specs}


def plugin_code_of(plugin: Plugin) -> str:
    """The hash of a plugin's own source (``suite.provenance.plugin_hash``), and of a victim's training."""
    besides = TRAINING_CODE if plugin.kind is Kind.VICTIM else ()
    return provenance.plugin_hash(plugin.cls.__module__, plugin.file, *besides)


def _learning(cell: Cell, store: Store, job: TrainJob) -> LearningInfo | None:
    lesson = learning.learn_job_of(cell.defense, job)
    if lesson is None:
        return None
    learned = learning.about(learning.learn_job(store, lesson))
    return LearningInfo(
        key=lesson.key().id,
        epochs=lesson.effort().epochs,
        seconds=learned["seconds"],
        values=learned["values"],
        about=learned["about"],
    )


def _counts(stats: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: stats[field.name] for field in dataclasses.fields(CostInfo) if field.name in stats}
