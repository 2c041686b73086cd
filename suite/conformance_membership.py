"""The rules of membership attacks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from suite.attack_model import Attack, Observation, ReferenceAttack, ReferenceModel, References
from suite.attacking import check_guess
from suite.conformance_rules import demand
from suite.conformance_samples import (
    CLASSES,
    IMAGES,
    on_board,
    random_images,
    sample_outputs,
    sample_shadows,
    sample_victim,
    shown_side,
)
from suite.deploying import deploy
from suite.metrics import auc
from suite.model import View
from suite.policy import OutputPolicy, Outputs, stacked
from suite.provenance import hash_arrays
from suite.registry import Kind
from suite.spec import PluginSpec
from suite.spec import parse as parse_specs
from suite.view import AdversaryView, Shown

POLICIES = ("probs", "top1", "rounded3", "topk3")
REFERENCES = 8
"""Of an attack that has reference models."""


def _with_references(plain: Observation, n_views: int) -> Observation:
    """Answers of the deployment and of reference models for views and population, without any signal."""

    def answers(seed: int) -> Outputs:
        return sample_outputs(seed, IMAGES, plain.policy)

    halves = np.random.default_rng(30).permuted(np.tile(np.arange(IMAGES) % 2 == 0, (REFERENCES // 2, 1)), axis=1)
    known = np.stack([halves, ~halves], axis=1).reshape(REFERENCES, IMAGES)
    views = [stacked([answers(100 * m + v) for v in range(n_views)]) for m in range(1, REFERENCES + 1)]
    return dataclasses.replace(
        plain,
        shadows=(),
        views=stacked([plain.outputs, *(answers(40 + v) for v in range(1, n_views))]),
        population=answers(70),
        population_labels=random_images(71, IMAGES).labels,
        references=References(stacked(views), known, stacked([answers(80 + m) for m in range(REFERENCES)])),
    )


def _shown_with_references(shown: Shown, n_views: int) -> Shown:
    """The same beside answers without any signal, and beside reference models with random weights."""
    plain = Observation(shown.outputs, shown.candidates.labels, shown.n_classes, shown.policy)
    seen = _with_references(plain, n_views)
    assert seen.references is not None
    return dataclasses.replace(
        shown,
        views=seen.views,
        population=seen.population,
        population_labels=seen.population_labels,
        references=seen.references,
        reference_models=tuple(
            ReferenceModel(lambda: sample_victim().module, known) for known in seen.references.is_member
        ),
    )


@functools.cache
def _observations(spec: PluginSpec) -> tuple[Observation, ...]:
    """Signal-free observations under every policy; real ones of a real board for attacks that look at more."""
    return tuple(_observe(spec))


def _observe(spec: PluginSpec) -> Iterator[Observation]:
    plugin: Attack = spec.make()
    own = {View.OUTPUT, View.AUXILIARY, *([View.QUERY] if isinstance(plugin, ReferenceAttack) else [])}
    if plugin.needs <= own and type(plugin).observe is Attack.observe:
        for text in POLICIES:
            policy = OutputPolicy.parse(text)
            shadows = sample_shadows(policy) if View.AUXILIARY in plugin.needs else ()
            labels = random_images(5, IMAGES).labels
            plain = Observation(sample_outputs(6, IMAGES, policy), labels, CLASSES, policy, shadows=shadows)
            yield _with_references(plain, plugin.n_views()) if isinstance(plugin, ReferenceAttack) else plain
        return
    (half,) = parse_specs(Kind.DEFENSE, "darknetz[k=2,output=probs,finetune=true]")
    deployment = deploy(half, sample_victim())
    with on_board(deployment) as (files, session):
        shown = shown_side(deployment, files, session)
        if isinstance(plugin, ReferenceAttack):
            shown = _shown_with_references(shown, plugin.n_views())
        yield plugin.observe(AdversaryView(shown, plugin.needs, session, plugin.uses))


def infers_the_same_twice(spec: PluginSpec) -> None:
    """Two runs give the same scores, on every output policy."""
    for observation in _observations(spec):
        first, second = (spec.make().infer(observation) for _ in range(2))
        same = np.array_equal(first.scores, second.scores) and first.threshold == second.threshold
        demand(same, spec, f"infer() must be deterministic; two runs differ on {observation.policy}")


def scores_are_one_finite_number_each(spec: PluginSpec) -> None:
    """Scores are float [N] and finite on every output policy; a threshold that is a number, where one is set."""
    for observation in _observations(spec):
        guess = check_guess(spec.make().infer(observation), len(observation.labels), spec)
        sound = guess.threshold is None or bool(np.isfinite(guess.threshold))
        demand(sound, spec, f"threshold {guess.threshold} on {observation.policy} is not a finite number")


def leaves_the_observation_alone(spec: PluginSpec) -> None:
    """infer() does not write into what it was given."""
    for observation in _observations(spec):
        arrays: list[Any] = [observation.outputs, observation.labels, *observation.boundary.values()]
        arrays += [array for s in observation.shadows for array in (s.outputs, s.labels, s.is_member)]
        if (known := observation.references) is not None:
            arrays += [observation.views, observation.population, known.answers, known.is_member, known.population]
        before = hash_arrays(arrays)
        spec.make().infer(observation)
        demand(hash_arrays(arrays) == before, spec, f"infer() changed its observation ({observation.policy})")


def finds_nothing_where_nothing_is(spec: PluginSpec) -> None:
    """On noise, whatever the attack says is as good as a coin; anything else saw the truth."""
    truth = np.random.default_rng(99).permutation(np.arange(IMAGES) % 2 == 0)
    for observation in _observations(spec):
        found = auc(np.asarray(spec.make().infer(observation).scores, np.float64), truth)
        demand(abs(found.value - 0.5) < 0.2, spec, f"AUC {found} on noise ({observation.policy}); 0.5 is all there is")
