"""What a defense learns about a victim: trained once per victim, defense and effort, kept in the store."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suite.model import Effort, Learned, LearnedDefense, OnProgress
from suite.models import TrainJob, train_job
from suite.owning import trained_victim
from suite.provenance import code_hash, versions
from suite.registry import PluginError
from suite.spec import PluginSpec, specify
from suite.store import Key, Store

_ROOTS = ("suite", "defenses", "victims")


@dataclass(frozen=True, slots=True)
class LearnJob:
    """One defense to train for one victim. Picklable."""

    defense: PluginSpec
    victim: TrainJob

    def __str__(self) -> str:
        where = f"{self.victim.architecture} on {self.victim.dataset}"
        return f"{self.defense.text} for {where}" + (f", seed {self.victim.seed}" if self.victim.seed else "")

    @property
    def architecture(self) -> str:
        """What trainings of about one length have in common."""
        return f"{self.defense.text} {self.victim.architecture}"

    def effort(self) -> Effort:
        """How much it may learn."""
        return Effort(self.victim.profile.defense_epochs, self.victim.seed)

    def key(self) -> Key:
        """Everything that what is learned depends on."""
        parts: dict[str, Any] = {
            "victim": self.victim.key().digest,
            "defense": self.defense.text,
            "effort": dataclasses.asdict(self.effort()),
            "code": code_hash(self.defense.plugin.cls.__module__, "suite.learning", roots=_ROOTS),
            "versions": {name: versions()[name] for name in ("torch", "numpy")},
        }
        return Key("learned", parts)


def learn_job_of(defense: PluginSpec, victim: TrainJob) -> LearnJob | None:
    """The training that ``defense`` needs for ``victim``; None when it learns nothing.

    Parameters that the defense calls ``layout_only`` are put back to their defaults: deployments that differ in them
    alone share what was learned.
    """
    plugin = defense.plugin
    if not issubclass(plugin.cls, LearnedDefense):
        return None
    given = {name: value for name, value in defense.params if name not in plugin.cls.layout_only}
    return LearnJob(specify(plugin, given), victim)


def learn_job(store: Store, job: LearnJob, on_progress: OnProgress | None = None, *, wait: bool = True) -> Path:
    """The store entry of what a defense has learned, learned now if it is not there; an interrupted one goes on.

    The entry holds ``learned.npz`` and ``learned.json`` (the defense's own account, ``seconds`` and ``parameters``).

    Raises:
        PluginError: the defense's parameters do not fit the victim, or what it learned cannot be kept; names it.
        Busy: another process is at it, and ``wait`` is false.
        StoreError, DataError: see there.
    """

    def make(folder: Path, scratch: Path) -> None:
        defense: LearnedDefense = job.defense.make()
        began = time.perf_counter()
        try:
            learned = defense.learn(trained_victim(store, job.victim), job.effort(), scratch, on_progress)
        except ValueError as error:
            raise PluginError(str(error)) from error
        learned = check_learned(job.defense, learned)
        about = {
            "about": dict(learned.about),
            "seconds": time.perf_counter() - began,
            "values": sum(math.prod(array.shape) for array in learned.arrays.values()),
        }
        np.savez(folder / "learned.npz", **dict(learned.arrays))  # type: ignore[arg-type]
        (folder / "learned.json").write_text(json.dumps(about, indent=1, allow_nan=False), encoding="utf-8")

    train_job(store, job.victim, wait=wait)  # outside of the entry's lock
    return store.get(job.key(), make, wait=wait)


def check_learned(spec: PluginSpec, learned: object) -> Learned:
    """What ``learn`` returned.

    Raises:
        PluginError: it is not a ``Learned``, holds values that are not finite, or says of itself what JSON cannot.
    """
    label = f"defense {spec.text} ({spec.plugin.where}): learn()"
    if not isinstance(learned, Learned):
        raise PluginError(f"{label} returned {type(learned).__name__}, not a Learned")
    for name, array in learned.arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise PluginError(f"{label}: {name!r} is no array of finite numbers")
    try:
        json.dumps(dict(learned.about), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PluginError(f"{label}: what it says of itself is nothing that JSON holds: {error}") from error
    return learned


def load_learned(entry: Path) -> Learned:
    """What a store entry holds."""
    with np.load(entry / "learned.npz") as arrays:
        held = {name: arrays[name] for name in arrays.files}
    return Learned(held, about(entry)["about"])


@functools.lru_cache(maxsize=2)
def learned_for(store: Store, defense: PluginSpec, victim: TrainJob) -> Learned | None:
    """What ``defense`` has learned about ``victim``, learned now if need be; None when it learns nothing."""
    job = learn_job_of(defense, victim)
    return None if job is None else load_learned(learn_job(store, job))


def about(entry: Path) -> Mapping[str, Any]:
    """What ``learned.json`` of a store entry says."""
    content: dict[str, Any] = json.loads((entry / "learned.json").read_text(encoding="utf-8"))
    return content
