"""The rule for attacks that measure the exposure of layers; the others have nothing to do with it."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from suite.conformance_rules import demand
from suite.conformance_samples import fingerprint, random_images, sample_victim
from suite.exposure import FIELDS, check_losses
from suite.exposure_model import ExposureAttack, LayerLosses
from suite.model import LabelledImages, LearningProgress, Victim
from suite.registry import PluginError
from suite.spec import PluginSpec


def measures_the_same_twice(spec: PluginSpec) -> None:
    """A measurement of exposure is deterministic, goes on after an interruption, and leaves the victim as it was."""
    victim = dataclasses.replace(sample_victim(), module=copy.deepcopy(sample_victim().module))
    before = fingerprint(victim)
    broken = _measured_twice(spec, victim, random_images(seed=8, n=len(victim.members)))
    demand(not broken, spec, broken)
    demand(fingerprint(victim) == before, spec, "measure() changed the victim it was given; copy before training")


def _measured_twice(spec: PluginSpec, victim: Victim, unseen: LabelledImages) -> str:
    """The rule that is broken by measuring a layer twice, the second time with an interruption; empty if none is."""
    layer = victim.graph.parameter_nodes()[-1].name
    with tempfile.TemporaryDirectory(prefix="leakboard-") as folder:
        whole = _measure(spec, victim, unseen, layer, Path(folder))
    with tempfile.TemporaryDirectory(prefix="leakboard-") as folder:
        try:
            _measure(spec, victim, unseen, layer, Path(folder), stop_after=2)
        except KeyboardInterrupt:
            again = _measure(spec, victim, unseen, layer, Path(folder))
        else:
            return "measure() must tell on_progress of every epoch"
    if not all(np.array_equal(getattr(whole, name), getattr(again, name)) for name in FIELDS):
        return "measure() must be deterministic, also when it goes on after an interruption"
    return ""


def _measure(
    spec: PluginSpec, victim: Victim, unseen: LabelledImages, layer: str, scratch: Path, stop_after: int = 0
) -> LayerLosses:
    plugin: ExposureAttack = spec.make()
    told = 0

    def note(progress: LearningProgress) -> None:
        nonlocal told
        told += 1
        if told == stop_after:
            raise KeyboardInterrupt

    try:
        losses = plugin.measure(victim, unseen, layer, 0, scratch, note)
    except ValueError as error:
        raise PluginError(str(error)) from error
    return check_losses(spec, losses, len(victim.members), len(unseen))
