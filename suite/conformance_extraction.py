"""The rules of extraction attacks."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.board import DeploymentFiles
from suite.attack_model import ExtractionAttack, Layout, Stolen
from suite.conformance_rules import demand
from suite.conformance_samples import CLASSES, on_board, random_images, sample_victim, shown_side
from suite.deploying import deploy, untrained_victim
from suite.model import Deployment, View
from suite.provenance import hash_arrays
from suite.registry import Kind
from suite.spec import PluginSpec
from suite.spec import parse as parse_specs
from suite.view import AdversaryView
from victims.inference import logits

BUDGET = 12
DEFENSES = ("vanilla[]", "full_tee[]", "full_tee[output=probs]", "darknetz[k=2]", "shadownet[]")
"""What an attack is tried on, where it is suited: everything open, nothing, part of it, a disguise; labels, values."""


def _suiting(spec: PluginSpec) -> Iterator[Deployment]:
    """The sample deployments that show what the attack needs."""
    plugin: ExtractionAttack = spec.make()
    found = False
    for text in DEFENSES:
        (defense,) = parse_specs(Kind.DEFENSE, text)
        deployment = deploy(defense, sample_victim())
        layout = Layout(deployment.answers_alone is not None, deployment.disguised)
        if plugin.needs <= deployment.shows and not plugin.unsuited(layout):
            found = True
            yield deployment
    demand(found, spec, f"it suits none of the deployments that attacks are tried on: {', '.join(DEFENSES)}")


@contextlib.contextmanager
def _view(
    spec: PluginSpec, deployment: Deployment, files: DeploymentFiles, session: Any, scratch: Path | None = None
) -> Iterator[AdversaryView]:
    plugin: ExtractionAttack = spec.make()
    nobody, own = random_images(3, 0), random_images(4, 60)
    with contextlib.nullcontext(scratch) if scratch else tempfile.TemporaryDirectory(prefix="leakboard-") as folder:
        shown = dataclasses.replace(
            shown_side(deployment, files, session),
            candidates=nobody,
            outputs=np.empty((0, CLASSES), np.float32),
            shows=deployment.shows - {View.OUTPUT},
            boundary={},
            auxiliary=own,
            shadows=(),
            scratch=Path(folder),
            budget=BUDGET if View.QUERY in plugin.needs else 0,
            disguised=deployment.disguised,
            pretrained=functools.partial(_pretrained, plugin) if plugin.wants_pretrained() else None,
            pretrained_on=np.arange(30),
        )
        yield AdversaryView(shown, plugin.needs, session if View.QUERY in plugin.needs else None)


def _pretrained(plugin: ExtractionAttack) -> Any:
    victim = sample_victim()
    name = plugin.shadow_architecture(victim.architecture)
    return copy.deepcopy(untrained_victim(name, victim.input_shape, victim.n_classes).module)


def _answers(stolen: Stolen) -> NDArray[np.float32]:
    return logits(stolen.module, random_images(8, 24).images)


def builds_a_model_within_its_budget(spec: PluginSpec) -> None:
    """On whatever suits it, under any output policy: finite logits for images, no query too many, all of them told."""
    for deployment in _suiting(spec):
        with on_board(deployment) as (files, session), _view(spec, deployment, files, session) as view:
            stolen = spec.make().extract(view, BUDGET)
            demand(isinstance(stolen, Stolen), spec, f"extract() returned {type(stolen).__name__}, not a Stolen")
            answers = _answers(stolen)
            sound = answers.shape == (24, CLASSES) and bool(np.isfinite(answers).all())
            demand(sound, spec, f"its module gives {answers.shape} for 24 images, or what is not finite")
            told = stolen.queries == view.n_queries
            demand(told, spec, f"says that it asked for {stolen.queries} images, it was {view.n_queries}")


def steals_the_same_twice(spec: PluginSpec) -> None:
    """Two runs build models with the same answers, also where the second finds the first one's checkpoints."""
    deployment = list(_suiting(spec))[-1]
    with on_board(deployment) as (files, session), tempfile.TemporaryDirectory(prefix="leakboard-") as folder:
        answers = []
        for _ in range(2):
            with _view(spec, deployment, files, session, Path(folder)) as view:
                answers.append(_answers(spec.make().extract(view, BUDGET)))
    same = np.array_equal(answers[0], answers[1])
    demand(same, spec, "extract() must be deterministic, also when it finds its own checkpoints; two runs differ")


def leaves_its_view_alone(spec: PluginSpec) -> None:
    """extract() writes neither into the attacker's images nor into the public graphs."""
    deployment = next(iter(_suiting(spec)))
    with on_board(deployment) as (files, session), _view(spec, deployment, files, session) as view:
        own, public = view._shown.auxiliary, view._shown.public

        def state() -> str:
            return hash_arrays([own.images, own.labels]) + "".join(graph.fingerprint() for graph in public)

        before = state()
        spec.make().extract(view, BUDGET)
        demand(state() == before, spec, "extract() changed what it was shown; copy before writing")
