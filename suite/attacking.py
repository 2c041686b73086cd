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
from suite import models
from suite.deploying import Laid
from suite.evaluating import Evaluation, evaluate
from suite.graph.parse import parse_file
from suite.metrics import best_threshold
from suite.model import Attack, Guess, Observation, ShadowObservation, View
from suite.models import TrainJob
from suite.policy import OutputPolicy
from suite.progress import tell
from suite.provenance import code_hash, versions
from suite.registry import PluginError
from suite.spec import PluginSpec
from suite.store import Key, Store
from suite.view import AdversaryView, Shown

LIVE = frozenset({View.QUERY, View.GRADIENTS})
"""What an attack gathers from the board itself, in a session of its own."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attack said: ``scores`` float64 [N] for the candidates; ``about`` has threshold, its source, seconds."""

    key: Key
    scores: NDArray[np.float64]
    about: dict[str, Any]


def shadow_jobs(attack: PluginSpec, victim: TrainJob) -> tuple[TrainJob, ...]:
    """The shadow models that an attack needs, whether to attack with or to set its threshold.

    Raises:
        PluginError: the attack names an architecture that does not exist.
    """
    architecture = attack.make().shadow_architecture(victim.architecture)
    return tuple(dataclasses.replace(victim, architecture=architecture, index=i) for i in range(victim.profile.shadows))


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


def show(store: Store, laid: Laid, evaluation: Evaluation, job: TrainJob, attack: PluginSpec) -> Shown:
    """All that lies on the attacker's side of a deployment."""
    material = job.material()
    policy = OutputPolicy.parse(laid.about["policy"])
    return Shown(
        architecture=job.architecture,
        input_shape=material.dataset.input_shape,
        n_classes=material.dataset.n_classes,
        policy=policy,
        candidates=material.candidates,
        outputs=evaluation.candidates,
        shows=frozenset(View(name) for name in laid.about["shows"]),
        public=tuple(segment.graph for segment in parse_file(laid.files.public).as_segments()),
        public_file=laid.files.public.read_bytes(),
        boundary=evaluation.boundary,
        auxiliary=material.auxiliary,
        shadows=observe_shadows(store, shadow_jobs(attack, job), policy),
    )


def run_attack(
    store: Store, attack: PluginSpec, laid: Laid, defense: PluginSpec, job: TrainJob, board: Board
) -> tuple[Evaluation, Outcome]:
    """Evaluate the deployment, attack it, and keep both in the store.

    Raises:
        PluginError: the attack answered with something that is no guess; names it.
    """
    plugin: Attack = attack.make()
    evaluation = evaluate(store, laid, defense, job, board, boundary=View.BOUNDARY in plugin.needs)
    key = Key(
        "guess",
        {
            "evaluation": evaluation.key.digest,
            "attack": attack.text,
            "shadows": [shadow.key().digest for shadow in shadow_jobs(attack, job)],
            "code": code_hash(type(plugin).__module__, "suite.attacking", roots=("suite", "attacks", "device")),
            "versions": versions(),
        },
    )

    def make(folder: Path, scratch: Path) -> None:
        tell(f"{attack.text} against {defense.text} ({job.architecture})")
        began = time.perf_counter()
        shown = show(store, laid, evaluation, job, attack)
        with contextlib.ExitStack() as stack:
            live = bool(LIVE & plugin.needs)
            session = stack.enter_context(board.open(laid.files)) if live else None
            observation = plugin.observe(AdversaryView(shown, plugin.needs, session))
        guess = check_guess(plugin.infer(observation), len(shown.candidates), attack)
        threshold, source = guess.threshold, "attack"
        if threshold is None:
            threshold, source = calibrate(plugin, attack, observation, shown.shadows), "shadows"
        np.save(folder / "scores.npy", guess.scores)
        about = {"threshold": threshold, "source": source, "seconds": time.perf_counter() - began}
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
    beyond: list[str] = sorted(plugin.needs & {View.BOUNDARY, View.GRADIENTS, View.WEIGHTS, View.QUERY})
    if type(plugin).observe is not Attack.observe:
        beyond.append("what its own observe() gathers")
    if beyond:
        raise PluginError(
            f"attack {attack.text} ({attack.plugin.where}) needs {', '.join(beyond)}, which shadow models do not show:"
            " it must set the threshold of its Guess itself"
        )
    scores, truth = [], []
    for i, shadow in enumerate(shadows):
        others = shadows[:i] + shadows[i + 1 :] if View.AUXILIARY in plugin.needs else ()
        stand_in = Observation(shadow.outputs, shadow.labels, observation.n_classes, observation.policy, shadows=others)
        scores.append(check_guess(plugin.infer(stand_in), len(shadow.labels), attack).scores)
        truth.append(shadow.is_member)
    return float(best_threshold(np.concatenate(scores), np.concatenate(truth)))
