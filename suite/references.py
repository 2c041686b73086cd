"""The attacker's reference models: which there are, and what they answer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from suite import models
from suite.attack_model import Arrays, ReferenceAttack, ReferenceModel, References
from suite.augment import KEPT, view_of
from suite.models import Role, TrainJob
from suite.policy import OutputPolicy, stacked
from suite.provenance import code_hash, hash_arrays, versions
from suite.spec import PluginSpec
from suite.store import Key, Store
from victims.training import predict


def reference_jobs(attack: PluginSpec, victim: TrainJob) -> tuple[TrainJob, ...]:
    """The reference models that an attack needs; none unless it is a ``ReferenceAttack``."""
    plugin = attack.make()
    if not isinstance(plugin, ReferenceAttack):
        return ()
    architecture = plugin.shadow_architecture(victim.architecture)
    first = dataclasses.replace(victim, architecture=architecture, role=Role.REFERENCE)
    return tuple(dataclasses.replace(first, index=i) for i in range(victim.profile.references))


def references_of(store: Store, jobs: tuple[TrainJob, ...], n_views: int, policy: OutputPolicy) -> References:
    """What the reference models answer about the candidates and the population, under ``policy``."""
    material = jobs[0].material()
    asked = material.candidates_in_pool
    answers, population, known = [], [], []
    for job in jobs:
        views = [answers_of(store, job, index)[asked] for index in range(n_views)]
        answers.append(stacked([policy.apply(view) for view in views]))
        population.append(policy.apply(population_answers(store, job)[: len(material.queried_population)]))
        known.append(np.isin(asked, job.split()[0]))
    return References(stacked(answers), np.stack(known), stacked(population))


def answers_of(store: Store, job: TrainJob, view: int) -> NDArray[np.float32]:
    """Probabilities [pool, n_classes] of a reference model for one view of all images of the pool."""
    entry = models.train_job(store, job)
    if view < KEPT:
        kept: NDArray[np.float32] = np.load(entry / "probabilities.npy", mmap_mode="r")[view]
        return kept
    return _asked_later(store, job, view_of(job.material().pool.images, view))


def population_answers(store: Store, job: TrainJob) -> NDArray[np.float32]:
    """Probabilities [P, n_classes] of a reference model for the population."""
    answers: NDArray[np.float32] = np.load(models.train_job(store, job) / "population.npy", mmap_mode="r")
    return answers


def _asked_later(store: Store, job: TrainJob, images: NDArray[np.float32]) -> NDArray[np.float32]:
    parts = {
        "model": job.key().digest,
        "images": hash_arrays([images]),
        "code": code_hash("victims.inference", roots=("victims",)),
    }

    def make(folder: Path, scratch: Path) -> None:
        module = models.load_trained(models.train_job(store, job), job)
        np.save(folder / "probabilities.npy", predict(module, images))

    answers: NDArray[np.float32] = np.load(store.get(Key("answers", parts), make) / "probabilities.npy")
    return answers


def reference_models(store: Store, jobs: tuple[TrainJob, ...]) -> tuple[ReferenceModel, ...]:
    """The reference models themselves, each read when asked for."""
    return tuple(
        ReferenceModel(
            functools.partial(_load, models.train_job(store, job) / "model.pt", job),
            np.isin(job.material().candidates_in_pool, job.split()[0]),
            functools.partial(_remember, store, job),
        )
        for job in jobs
    )


def _load(file: Path, job: TrainJob) -> torch.nn.Module:
    return models.load_trained(file.parent, job)


def _remember(store: Store, job: TrainJob, name: str, about: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
    """See ``ReferenceModel``."""
    parts = {
        "model": job.key().digest,
        "candidates": job.material().fingerprint,
        "about": [name, dict(about)],
        "code": code_hash(make.__module__, roots=("suite", "victims", "attacks")),
        "versions": versions(),
    }

    def keep(folder: Path, scratch: Path) -> None:
        np.savez(folder / "remembered.npz", **dict(make()))  # type: ignore[arg-type]

    with np.load(store.get(Key("remembered", parts), keep) / "remembered.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}
