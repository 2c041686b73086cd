"""What every plugin must keep, in the tree or not. ``leakboard check`` and tests/test_conformance.py run it.

Each check takes one plugin with its parameters and raises ``ConformanceError`` with one line when it does not hold.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from device.board import DeploymentFiles
from device.emulated import EmulatedBoard
from device.owner import OwnerKey
from device.training import TrainOptions
from suite.attack_model import Attack, Observation, ReferenceAttack, References, ShadowObservation
from suite.attacking import check_guess
from suite.deploying import deploy, untrained_victim
from suite.finetuning import pack_hidden
from suite.gates import MAX_REL_ERROR
from suite.graph.export import export_graph
from suite.graph.format import pack_public, pack_sealed, pack_slices
from suite.graph.parse import parse
from suite.graph.partition import split
from suite.graph.planner import plan_memory
from suite.graph.reference import run_segments
from suite.leakcheck import LeakError, assert_hidden
from suite.learning import check_learned
from suite.metrics import auc
from suite.model import (
    Deployment,
    Effort,
    LabelledImages,
    Learned,
    LearnedDefense,
    LearningProgress,
    Victim,
    View,
)
from suite.policy import OutputPolicy, Outputs, stacked
from suite.provenance import hash_arrays
from suite.registry import Kind
from suite.seen_training import SeenStep
from suite.spec import PluginSpec
from suite.view import AdversaryView, Shown
from victims.inference import predict

SHAPE, CLASSES, IMAGES = (1, 28, 28), 10, 240
SHAPES = (((1, 28, 28), 10), ((3, 32, 32), 100), ((3, 64, 64), 7))
POLICIES = ("probs", "top1", "rounded3", "topk3")
REFERENCES = 8
"""Of an attack that has reference models."""
EPOCHS = 2
"""Of a defense that learns."""
TEE_BYTES = 64 << 20
"""Ample: whether a deployment fits a real TEE is the planner's question."""


class ConformanceError(AssertionError):
    """A plugin that breaks a rule; names it, its file and line, and the rule."""


Check = Callable[[PluginSpec], None]


def _demand(holds: bool, spec: PluginSpec, rule: str) -> None:
    if not holds:
        raise ConformanceError(f"{spec.kind} {spec.text} ({spec.plugin.where}): {rule}")


def docstring_cites_its_source(spec: PluginSpec) -> None:
    """The class says what it is and where it comes from: a year, as in "Yeom et al. 2018", or "original"."""
    text = spec.plugin.cls.__doc__ or ""
    cited = re.search(r"\b(19|20)\d\d\b|\boriginal\b", text) is not None
    _demand(cited, spec, "its docstring must cite its source (authors and year), or say that it is original")


# ---- defenses


@functools.cache
def sample_victim() -> Victim:
    """A small victim with random weights and random images; what it leaks about its members is nothing."""
    bare = untrained_victim("vgg7", SHAPE, CLASSES)
    return dataclasses.replace(bare, members=_random_images(seed=1, n=64), public=_random_images(seed=8, n=64))


def _random_images(seed: int, n: int) -> LabelledImages:
    draw = np.random.default_rng(seed)
    return LabelledImages(draw.standard_normal((n, *SHAPE)).astype(np.float32), draw.integers(0, CLASSES, n))


def _fingerprint(victim: Victim) -> str:
    state = [tensor.detach().numpy() for tensor in victim.module.state_dict().values()]
    images = [array for held in (victim.members, victim.public) for array in (held.images, held.labels)]
    return hash_arrays([*state, *images]) + victim.graph.fingerprint()


def _packed(deployment: Deployment) -> tuple[bytes, bytes | None]:
    parts = (deployment.segments, deployment.policy, bytes(16))
    public = pack_public(*parts)
    if not deployment.hidden:
        return public, None
    return public, pack_hidden(deployment, bytes(16), _owner().public) if deployment.training else pack_sealed(*parts)


@functools.cache
def _owner() -> OwnerKey:
    return OwnerKey.generate()


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
    _demand(told, spec, "learn() must tell on_progress of every epoch")
    assert again is not None
    same = whole.arrays.keys() == again.arrays.keys() and all(
        np.array_equal(array, again.arrays[name]) for name, array in whole.arrays.items()
    )
    _demand(same, spec, "learn() must be deterministic, also when it goes on after an interruption")


def is_surveyed_before_it_learns(spec: PluginSpec) -> None:
    """Without images and training there is a layout that shows the same and takes no less TEE memory."""
    nobody = _random_images(seed=1, n=0)
    bare = dataclasses.replace(sample_victim(), members=nobody, public=nobody)
    surveyed, real = deploy(spec, bare), deployed(spec)
    same = surveyed.shows == real.shows and surveyed.policy == real.policy
    _demand(same, spec, "a survey must show what the deployment will show, under the same policy")
    bound, needed = (plan_memory(one.segments).peak_bytes for one in (surveyed, real))
    _demand(bound >= needed, spec, f"a survey plans {bound} bytes of TEE memory, the deployment needs {needed}")


def deploys_the_same_twice(spec: PluginSpec) -> None:
    """Two runs on one victim give the same files, byte for byte."""
    first, second = (_packed(deployed(spec)) for _ in range(2))
    _demand(first == second, spec, "deploy() must be deterministic; two runs gave different files")


def leaves_the_victim_alone(spec: PluginSpec) -> None:
    """Parameters, graph and members are what they were."""
    victim = dataclasses.replace(sample_victim(), module=copy.deepcopy(sample_victim().module))
    before = _fingerprint(victim)
    deploy(spec, victim, _learn(spec, victim))
    _demand(_fingerprint(victim) == before, spec, "deploy() changed the victim it was given; copy before training")


def board_equals_pytorch(spec: PluginSpec) -> None:
    """Agent and TA answer what PyTorch answers for the same segments, under the output policy."""
    deployment = deployed(spec)
    images = _random_images(seed=2, n=32).images
    first, last = deployment.segments[0].graph.inputs[0], deployment.segments[-1].graph.outputs[0]
    expected = deployment.policy.apply(run_segments(deployment.segments, {first: images})[last])
    with _on_board(deployment) as (_, session):
        ours = session.infer(images).outputs
    close = np.allclose(ours, expected, rtol=1e-3, atol=10.0 ** -max(4, deployment.policy.arg))
    _demand(ours.shape == expected.shape and close, spec, "the board's answers differ from PyTorch's")


def hides_what_it_hides(spec: PluginSpec) -> None:
    """No hidden parameter can be reached from an attacker's view, training steps included, or from the public file."""
    deployment = deployed(spec)
    with _on_board(deployment) as (files, session):
        view = AdversaryView(_shown(deployment, files, session), frozenset(View), session)
        steps = _training_steps(view) if View.GRADIENTS in deployment.shows else []
        try:
            assert_hidden(view, deployment, files, *steps)
        except LeakError as error:
            raise ConformanceError(f"defense {spec.text} ({spec.plugin.where}): {error}") from error


def _training_steps(view: AdversaryView) -> list[SeenStep]:
    """A step that changes the weights, and then one on each image by itself."""
    data = _random_images(seed=5, n=8)
    return [view.train(TrainOptions(0.01)).step(data.images, data.labels, update=True), *view.gradients(data)]


@contextlib.contextmanager
def _on_board(deployment: Deployment) -> Iterator[tuple[DeploymentFiles, Any]]:
    public, sealed = _packed(deployment)
    with tempfile.TemporaryDirectory(prefix="leakboard-") as folder:
        written: list[Path | None] = []
        slices = b"".join(pack_slices(deployment.segments))
        for name, data in (("public.lbm", public), ("sealed.lbm", sealed), ("slices.bin", slices)):
            written.append(Path(folder, name) if data else None)
            if data:
                Path(folder, name).write_bytes(data)
        files = DeploymentFiles(Path(folder, "public.lbm"), *written[1:])
        with EmulatedBoard(TEE_BYTES).open(files) as session:
            yield files, session


def _shown(deployment: Deployment, files: DeploymentFiles, session: Any) -> Shown:
    """An attacker's side of a deployment whose candidates are pure noise: there is nothing to find."""
    candidates = _random_images(seed=3, n=IMAGES)
    answer = session.infer(candidates.images, boundary=True)
    return Shown(
        architecture="vgg7",
        input_shape=SHAPE,
        n_classes=CLASSES,
        policy=deployment.policy,
        candidates=candidates,
        outputs=answer.outputs,
        shows=deployment.shows,
        public=tuple(segment.graph for segment in parse(files.public.read_bytes()).as_segments()),
        public_file=files.public.read_bytes(),
        boundary=answer.boundary,
        auxiliary=_random_images(seed=4, n=IMAGES),
        shadows=_sample_shadows(deployment.policy),
    )


# ---- attacks


def _sample_outputs(seed: int, n: int, policy: OutputPolicy) -> Outputs:
    logits = np.random.default_rng(seed).standard_normal((n, CLASSES)) * 4
    wide = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Outputs = policy.apply((wide / wide.sum(axis=1, keepdims=True)).astype(np.float32))
    return probabilities


def _sample_shadows(policy: OutputPolicy) -> tuple[ShadowObservation, ...]:
    return tuple(
        ShadowObservation(
            _sample_outputs(10 + i, IMAGES, policy), _random_images(20 + i, IMAGES).labels, np.arange(IMAGES) % 2 == 0
        )
        for i in range(3)
    )


def _with_references(plain: Observation, n_views: int) -> Observation:
    """Answers of the deployment and of reference models for views and population, without any signal."""

    def answers(seed: int) -> Outputs:
        return _sample_outputs(seed, IMAGES, plain.policy)

    halves = np.random.default_rng(30).permuted(np.tile(np.arange(IMAGES) % 2 == 0, (REFERENCES // 2, 1)), axis=1)
    known = np.stack([halves, ~halves], axis=1).reshape(REFERENCES, IMAGES)
    views = [stacked([answers(100 * m + v) for v in range(n_views)]) for m in range(1, REFERENCES + 1)]
    return dataclasses.replace(
        plain,
        shadows=(),
        views=stacked([plain.outputs, *(answers(40 + v) for v in range(1, n_views))]),
        population=answers(70),
        population_labels=_random_images(71, IMAGES).labels,
        references=References(stacked(views), known, stacked([answers(80 + m) for m in range(REFERENCES)])),
    )


def _observations(spec: PluginSpec) -> Iterator[Observation]:
    """Signal-free observations under every policy; real ones of a real board for attacks that look at more."""
    plugin: Attack = spec.make()
    own = {View.OUTPUT, View.AUXILIARY, *([View.QUERY] if isinstance(plugin, ReferenceAttack) else [])}
    if plugin.needs <= own and type(plugin).observe is Attack.observe:
        for text in POLICIES:
            policy = OutputPolicy.parse(text)
            shadows = _sample_shadows(policy) if View.AUXILIARY in plugin.needs else ()
            labels = _random_images(5, IMAGES).labels
            plain = Observation(_sample_outputs(6, IMAGES, policy), labels, CLASSES, policy, shadows=shadows)
            yield _with_references(plain, plugin.n_views()) if isinstance(plugin, ReferenceAttack) else plain
        return
    from suite.spec import parse as parse_specs

    (half,) = parse_specs(Kind.DEFENSE, "darknetz[k=2,output=probs,finetune=true]")
    deployment = deploy(half, sample_victim())
    with _on_board(deployment) as (files, session):
        yield plugin.observe(AdversaryView(_shown(deployment, files, session), plugin.needs, session))


def infers_the_same_twice(spec: PluginSpec) -> None:
    """Two runs give the same scores, on every output policy."""
    for observation in _observations(spec):
        first, second = (spec.make().infer(observation) for _ in range(2))
        same = np.array_equal(first.scores, second.scores) and first.threshold == second.threshold
        _demand(same, spec, f"infer() must be deterministic; two runs differ on {observation.policy}")


def scores_are_one_finite_number_each(spec: PluginSpec) -> None:
    """Scores are float [N] and finite on every output policy; a threshold that is a number, where one is set."""
    for observation in _observations(spec):
        guess = check_guess(spec.make().infer(observation), len(observation.labels), spec)
        sound = guess.threshold is None or bool(np.isfinite(guess.threshold))
        _demand(sound, spec, f"threshold {guess.threshold} on {observation.policy} is not a finite number")


def leaves_the_observation_alone(spec: PluginSpec) -> None:
    """infer() does not write into what it was given."""
    for observation in _observations(spec):
        arrays: list[Any] = [observation.outputs, observation.labels, *observation.boundary.values()]
        arrays += [array for s in observation.shadows for array in (s.outputs, s.labels, s.is_member)]
        if (known := observation.references) is not None:
            arrays += [observation.views, observation.population, known.answers, known.is_member, known.population]
        before = hash_arrays(arrays)
        spec.make().infer(observation)
        _demand(hash_arrays(arrays) == before, spec, f"infer() changed its observation ({observation.policy})")


def finds_nothing_where_nothing_is(spec: PluginSpec) -> None:
    """On noise, whatever the attack says is as good as a coin; anything else saw the truth."""
    truth = np.random.default_rng(99).permutation(np.arange(IMAGES) % 2 == 0)
    for observation in _observations(spec):
        found = auc(np.asarray(spec.make().infer(observation).scores, np.float64), truth)
        _demand(abs(found.value - 0.5) < 0.2, spec, f"AUC {found} on noise ({observation.policy}); 0.5 is all there is")


# ---- victims


def _shapes(spec: PluginSpec) -> tuple[tuple[tuple[int, int, int], int], ...]:
    """What a victim must take: images of every data set, or one size for one that is there for its cost alone."""
    return SHAPES[-1:] if spec.plugin.cost_only else SHAPES


def builds_for_every_shape(spec: PluginSpec) -> None:
    """28x28x1, 32x32x3 and 64x64x3 images, any number of classes, logits out."""
    for shape, n_classes in _shapes(spec):
        model = spec.plugin.cls(shape, n_classes).eval()
        with torch.inference_mode():
            out = model(torch.zeros(2, *shape))
        _demand(tuple(out.shape) == (2, n_classes), spec, f"gives {tuple(out.shape)} for two {shape} images")


def board_equals_the_module_at_every_shape(spec: PluginSpec) -> None:
    """torch.export takes it, every operator is known, and the C code computes what the module computes."""
    for shape, n_classes in _shapes(spec):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = spec.plugin.cls(shape, n_classes).eval()
        images = np.random.default_rng(7).standard_normal((3, *shape)).astype(np.float32)
        graph = export_graph(model, shape, softmax=True)
        with _on_board(Deployment(split(graph, in_tee=()), OutputPolicy.parse("probs"))) as (_, session):
            ours = session.infer(images).outputs
        expected = predict(model, images)
        error = float((np.abs(ours - expected).max(axis=1) / expected.max(axis=1)).max())
        _demand(error <= MAX_REL_ERROR, spec, f"the board is {error:.1e} off PyTorch for {shape} images (relative)")


CHECKS: dict[Kind, tuple[Check, ...]] = {
    Kind.VICTIM: (docstring_cites_its_source, builds_for_every_shape, board_equals_the_module_at_every_shape),
    Kind.DEFENSE: (
        docstring_cites_its_source,
        learns_the_same_after_an_interruption,
        is_surveyed_before_it_learns,
        deploys_the_same_twice,
        leaves_the_victim_alone,
        board_equals_pytorch,
        hides_what_it_hides,
    ),
    Kind.ATTACK: (
        docstring_cites_its_source,
        infers_the_same_twice,
        scores_are_one_finite_number_each,
        leaves_the_observation_alone,
        finds_nothing_where_nothing_is,
    ),
}
