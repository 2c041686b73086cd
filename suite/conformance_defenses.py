"""The rules of defenses."""

from __future__ import annotations

import copy
import dataclasses
import functools
import tempfile
from pathlib import Path

import numpy as np

from device.training import TrainOptions
from suite.conformance_rules import ConformanceError, demand
from suite.conformance_samples import fingerprint, on_board, packed, random_images, sample_victim, shown_side
from suite.deploying import deploy
from suite.graph.planner import plan_memory
from suite.graph.reference import run_segments
from suite.leakcheck import LeakError, assert_hidden
from suite.learning import check_learned
from suite.model import Deployment, Effort, Learned, LearnedDefense, LearningProgress, Victim, View
from suite.seen_training import SeenStep
from suite.spec import PluginSpec
from suite.view import AdversaryView

EPOCHS = 2
"""Of a defense that learns."""


def _learn(spec: PluginSpec, victim: Victim, scratch: Path | None = None, stop_after: int = 0) -> Learned | None:
    """What a defense that learns has learned with next to no effort; with ``stop_after``, interrupted at that epoch."""
    defense = spec.make()
    if not isinstance(defense, LearnedDefense):
        return None

    def note(progress: LearningProgress) -> None:
        if progress.epoch == stop_after:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory(prefix="leakboard-") as folder:
        return check_learned(spec, defense.learn(victim, Effort(EPOCHS), scratch or Path(folder), note))


@functools.cache
def _learned(spec: PluginSpec) -> Learned | None:
    return _learn(spec, sample_victim())


def deployed(spec: PluginSpec) -> Deployment:
    """A defense on the small victim with random weights."""
    return deploy(spec, sample_victim(), _learned(spec))


def learns_the_same_after_an_interruption(spec: PluginSpec) -> None:
    """Training is deterministic, tells its progress, and ends with the same values when it is stopped on the way."""
    whole = _learned(spec)
    if whole is None:
        return
    with tempfile.TemporaryDirectory(prefix="leakboard-") as folder:
        try:
            _learn(spec, sample_victim(), Path(folder), stop_after=1)
        except KeyboardInterrupt:
            told = True
        else:
            told = False
        again = _learn(spec, sample_victim(), Path(folder))
    demand(told, spec, "learn() must tell on_progress of every epoch")
    assert again is not None
    same = whole.arrays.keys() == again.arrays.keys() and all(
        np.array_equal(array, again.arrays[name]) for name, array in whole.arrays.items()
    )
    demand(same, spec, "learn() must be deterministic, also when it goes on after an interruption")


def is_surveyed_before_it_learns(spec: PluginSpec) -> None:
    """Without images and training there is a layout that shows the same and takes no less TEE memory."""
    nobody = random_images(seed=1, n=0)
    bare = dataclasses.replace(sample_victim(), members=nobody, public=nobody)
    surveyed, real = deploy(spec, bare), deployed(spec)
    same = surveyed.shows == real.shows and surveyed.policy == real.policy
    demand(same, spec, "a survey must show what the deployment will show, under the same policy")
    bound, needed = (plan_memory(one.segments).peak_bytes for one in (surveyed, real))
    demand(bound >= needed, spec, f"a survey plans {bound} bytes of TEE memory, the deployment needs {needed}")


def deploys_the_same_twice(spec: PluginSpec) -> None:
    """Two runs on one victim give the same files, byte for byte."""
    first, second = (packed(deployed(spec)) for _ in range(2))
    demand(first == second, spec, "deploy() must be deterministic; two runs gave different files")


def leaves_the_victim_alone(spec: PluginSpec) -> None:
    """Parameters, graph and members are what they were."""
    victim = dataclasses.replace(sample_victim(), module=copy.deepcopy(sample_victim().module))
    before = fingerprint(victim)
    deploy(spec, victim, _learn(spec, victim))
    demand(fingerprint(victim) == before, spec, "deploy() changed the victim it was given; copy before training")


def board_equals_pytorch(spec: PluginSpec) -> None:
    """Agent and TA answer what PyTorch answers for the same segments, under the output policy."""
    deployment = deployed(spec)
    images = random_images(seed=2, n=32).images
    first, last = deployment.segments[0].graph.inputs[0], deployment.segments[-1].graph.outputs[0]
    expected = deployment.policy.apply(run_segments(deployment.segments, {first: images})[last])
    with on_board(deployment) as (_, session):
        ours = session.infer(images).outputs
    close = np.allclose(ours, expected, rtol=1e-3, atol=10.0 ** -max(4, deployment.policy.arg))
    demand(ours.shape == expected.shape and close, spec, "the board's answers differ from PyTorch's")


def hides_what_it_hides(spec: PluginSpec) -> None:
    """No hidden parameter can be reached from an attacker's view, training steps included, or from the public file."""
    deployment = deployed(spec)
    with on_board(deployment) as (files, session):
        view = AdversaryView(shown_side(deployment, files, session), frozenset(View), session)
        steps = _training_steps(view) if View.GRADIENTS in deployment.shows else []
        try:
            assert_hidden(view, deployment, files, *steps)
        except LeakError as error:
            raise ConformanceError(f"defense {spec.text} ({spec.plugin.where}): {error}") from error


def _training_steps(view: AdversaryView) -> list[SeenStep]:
    """A step that changes the weights, and then one on each image by itself."""
    data = random_images(seed=5, n=8)
    return [view.train(TrainOptions(0.01)).step(data.images, data.labels, update=True), *view.gradients(data)]
