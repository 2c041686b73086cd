"""Running an attack: what it sees, what it guesses, and the threshold it would use."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.board import Board
from suite import models, querying
from suite.attack_model import Attack, ExtractionAttack, Guess, Observation, ReferenceAttack, ShadowObservation
from suite.augment import view_of
from suite.deploying import Laid
from suite.evaluating import Evaluation, evaluate
from suite.graph.parse import parse_file
from suite.metrics import best_threshold
from suite.model import View
from suite.models import Role, TrainJob
from suite.policy import OutputPolicy, stacked
from suite.progress import tell
from suite.provenance import code_hash, versions
from suite.references import reference_jobs, reference_models, references_of
from suite.registry import PluginError
from suite.spec import PluginSpec
from suite.store import Key, Store
from suite.view import AdversaryView, Shown

LIVE = frozenset({View.QUERY, View.GRADIENTS})
"""What an attack gathers from the board itself, in a session of its own."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attack said: ``scores`` float64 [N] for the candidates.

    ``about`` has threshold, its source, queries (images that the deployment was asked for) and seconds.
    """

    key: Key
    scores: NDArray[np.float64]
    about: dict[str, Any]


def shadow_jobs(attack: PluginSpec, victim: TrainJob) -> tuple[TrainJob, ...]:
    """The shadow models that an attack needs, whether to attack with or to set its threshold.

    An attack with reference models sets its threshold by those; of an extraction it is the pre-trained model.

    Raises:
        PluginError: the attack names an architecture that does not exist.
    """
    plugin = attack.make()
    n_shadows = 0
    if isinstance(plugin, ExtractionAttack):
        n_shadows = int(plugin.wants_pretrained())
    elif isinstance(plugin, Attack) and not isinstance(plugin, ReferenceAttack):
        n_shadows = victim.profile.shadows
    first = dataclasses.replace(victim, architecture=plugin.shadow_architecture(victim.architecture), role=Role.SHADOW)
    return tuple(dataclasses.replace(first, index=i) for i in range(n_shadows))


def attacker_jobs(attack: PluginSpec, victim: TrainJob) -> tuple[TrainJob, ...]:
    """All models of the attacker's own that an attack needs.

    Raises:
        PluginError: the attack names an architecture that does not exist.
    """
    return shadow_jobs(attack, victim) + reference_jobs(attack, victim)


def observe_shadows(store: Store, jobs: tuple[TrainJob, ...], policy: OutputPolicy) -> tuple[ShadowObservation, ...]:
    """What the attacker's shadows answer for the images they were, and were not, trained on."""
    found = []
    for job in jobs:
        probabilities = np.load(models.train_job(store, job) / "probabilities.npy")
        inside, outside = job.split()
        labels = job.material().auxiliary.labels[np.concatenate([inside, outside])]
        is_member = np.arange(len(labels)) < len(inside)
        found.append(ShadowObservation(policy.apply(probabilities), labels, is_member))
    return tuple(found)


def show(store: Store, laid: Laid, evaluation: Evaluation, job: TrainJob, attack: PluginSpec, board: Board) -> Shown:
    """All that lies on the attacker's side of a deployment. Asks the deployment what a ``ReferenceAttack`` wants."""
    material = job.material()
    policy = OutputPolicy.parse(laid.about["policy"])
    public = parse_file(laid.files.public)
    shown = Shown(
        architecture=job.architecture,
        input_shape=material.dataset.input_shape,
        n_classes=material.dataset.n_classes,
        policy=policy,
        candidates=material.candidates,
        outputs=evaluation.candidates,
        shows=frozenset(View(name) for name in laid.about["shows"]),
        public=tuple(segment.graph for segment in public.as_segments()),
        public_file=laid.files.public.read_bytes(),
        boundary=evaluation.boundary,
        auxiliary=material.auxiliary,
        shadows=observe_shadows(store, shadow_jobs(attack, job), policy),
        seed=job.seed,
        steps=public.segments,
    )
    plugin = attack.make()
    if not isinstance(plugin, ReferenceAttack):
        return shown
    jobs, n_views = reference_jobs(attack, job), plugin.n_views()
    views = [evaluation.candidates]
    for index in range(1, n_views):
        images = view_of(material.candidates.images, index)
        views.append(querying.answers(store, laid, board, images, f"candidates, view {index + 1} of {n_views}"))
    people = material.queried_population
    return dataclasses.replace(
        shown,
        views=stacked(views),
        population=querying.answers(store, laid, board, people.images, "images of the population"),
        population_labels=people.labels,
        references=references_of(store, jobs, n_views, policy),
        reference_models=reference_models(store, jobs),
    )


def run_attack(
    store: Store, attack: PluginSpec, laid: Laid, defense: PluginSpec, job: TrainJob, board: Board
) -> tuple[Evaluation, Outcome]:
    """Evaluate the deployment, attack it, and keep both in the store.

    Raises:
        PluginError: the attack answered with something that is no guess; names it.
    """
    plugin = attack.make()
    assert isinstance(plugin, Attack)
    evaluation = evaluate(store, laid, defense, job, board, boundary=View.BOUNDARY in plugin.needs)
    key = Key(
        "guess",
        {
            "evaluation": evaluation.key.digest,
            "attack": attack.text,
            "trained": [own.key().digest for own in attacker_jobs(attack, job)],
            "code": code_hash(type(plugin).__module__, "suite.attacking", roots=("suite", "attacks", "device")),
            "versions": versions(),
        },
    )

    def make(folder: Path, scratch: Path) -> None:
        tell(f"{attack.text} against {defense.text} ({job.architecture})")
        began = time.perf_counter()
        shown = dataclasses.replace(show(store, laid, evaluation, job, attack, board), scratch=scratch)
        with contextlib.ExitStack() as stack:
            live = bool(LIVE & (plugin.needs | plugin.uses))
            session = stack.enter_context(board.open(laid.files)) if live else None
            view = AdversaryView(shown, plugin.needs, session, plugin.uses)
            observation = plugin.observe(view)
        guess = check_guess(plugin.infer(observation), len(shown.candidates), attack)
        threshold, source = guess.threshold, "attack"
        if threshold is None and observation.references is not None:
            threshold, source = calibrate_on_references(plugin, attack, observation), "references"
        elif threshold is None:
            threshold, source = calibrate(plugin, attack, observation, shown.shadows), "shadows"
        np.save(folder / "scores.npy", guess.scores)
        about = {
            "threshold": threshold,
            "source": source,
            "queries": shown.n_asked + view.n_queries,
            "seconds": time.perf_counter() - began,
        }
        (folder / "guess.json").write_text(json.dumps(about), encoding="utf-8")

    entry = store.get(key, make)
    about: dict[str, Any] = json.loads((entry / "guess.json").read_text(encoding="utf-8"))
    return evaluation, Outcome(key, np.load(entry / "scores.npy"), about)


def check_guess(guess: Guess, n: int, attack: PluginSpec) -> Guess:
    """The guess with scores as float64 [n].

    Raises:
        PluginError: it is no guess, of the wrong shape, or not finite.
    """
    label = f"attack {attack.text} ({attack.plugin.where})"
    if not isinstance(guess, Guess):
        raise PluginError(f"{label}: infer() returned {type(guess).__name__}, not a Guess")
    scores = np.asarray(guess.scores, dtype=np.float64)
    if scores.shape != (n,):
        raise PluginError(f"{label}: scores have shape {scores.shape}, there are {n} candidates")
    if not np.isfinite(scores).all():
        raise PluginError(f"{label}: {int((~np.isfinite(scores)).sum())} of {n} scores are not finite")
    if guess.threshold is not None and not np.isfinite(guess.threshold):
        raise PluginError(f"{label}: its threshold {guess.threshold} is not a finite number")
    return dataclasses.replace(guess, scores=scores)


def calibrate(
    plugin: Attack, attack: PluginSpec, observation: Observation, shadows: tuple[ShadowObservation, ...]
) -> float:
    """The threshold with the best balanced accuracy on the attacker's own shadow models.

    Each shadow plays the victim in turn; an attack that uses shadows sees the others.

    Raises:
        PluginError: the attack needs what shadows do not show, so it must set ``Guess.threshold`` itself.
    """
    _refuse_beyond(plugin, attack)
    scores, truth = [], []
    for i, shadow in enumerate(shadows):
        others = shadows[:i] + shadows[i + 1 :] if View.AUXILIARY in plugin.needs else ()
        stand_in = Observation(shadow.outputs, shadow.labels, observation.n_classes, observation.policy, shadows=others)
        scores.append(check_guess(plugin.infer(stand_in), len(shadow.labels), attack).scores)
        truth.append(shadow.is_member)
    return float(best_threshold(np.concatenate(scores), np.concatenate(truth)))


CALIBRATED_ON = 8
"""Reference models that play the victim for a threshold; each is as much work as the guess itself."""


def calibrate_on_references(plugin: Attack, attack: PluginSpec, observation: Observation) -> float:
    """The threshold with the best balanced accuracy where reference models, in turn, play the victim.

    What the candidates' own membership is plays no part in it: each reference model has members of its own.

    Raises:
        PluginError: as ``calibrate``.
    """
    _refuse_beyond(plugin, attack)
    references = observation.references
    assert references is not None
    scores, truth = [], []
    for model in range(min(len(references), CALIBRATED_ON)):
        guess = check_guess(plugin.infer(observation.as_reference(model)), len(observation.labels), attack)
        scores.append(guess.scores)
        truth.append(references.is_member[model])
    return float(best_threshold(np.concatenate(scores), np.concatenate(truth)))


def _refuse_beyond(plugin: Attack, attack: PluginSpec) -> None:
    beyond: list[str] = sorted(plugin.needs & {View.BOUNDARY, View.GRADIENTS, View.WEIGHTS, View.QUERY})
    if isinstance(plugin, ReferenceAttack):
        beyond = [need for need in beyond if need != View.QUERY]  # its models were asked the same
    if type(plugin).observe is not Attack.observe:
        beyond.append("what its own observe() gathers")
    if beyond:
        raise PluginError(
            f"attack {attack.text} ({attack.plugin.where}) needs {', '.join(beyond)}, which shadow models do not show:"
            " it must set the threshold of its Guess itself"
        )
