"""Running an extraction: what the attacker sees, what it builds with each budget, and what that is worth."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.board import Board, Session
from suite import models, surrogates
from suite.adversarial import epsilon_of, fgsm, pgd
from suite.attack_model import ExtractionAttack, Stolen
from suite.attacking import shadow_jobs
from suite.deploying import Laid
from suite.evaluating import Evaluation, evaluate
from suite.graph.parse import parse_file
from suite.material import Material
from suite.model import LabelledImages, View
from suite.models import TrainJob
from suite.policy import OutputPolicy, Outputs, classes
from suite.profiles import Profile
from suite.progress import tell
from suite.provenance import code_hash, versions
from suite.record import StolenAnswers
from suite.registry import PluginError
from suite.spec import PluginSpec
from suite.store import Key, Store
from suite.view import AdversaryView, Shown
from victims.inference import logits

TRANSFERRED = 200
"""Adversarial examples of each kind: the first test images that the deployment gets right."""


@dataclass(frozen=True, slots=True)
class Theft:
    """What one budget came to. ``about`` has budget, queries (images asked for) and seconds.

    ``stolen`` int64 [T]: the stolen model's classes for the test images; ``fgsm`` and ``pgd`` int64 [K]: the
    deployment's for the changed ones.
    """

    key: Key
    about: dict[str, Any]
    stolen: NDArray[np.int64]
    fgsm: NDArray[np.int64]
    pgd: NDArray[np.int64]


def budgets_of(attack: PluginSpec, profile: Profile) -> tuple[int, ...]:
    """The budgets that an attack is run with: those of the profile, or 0 for one that asks for nothing."""
    return budgets_within(profile) if View.QUERY in attack.make().needs else (0,)


def budgets_within(profile: Profile) -> tuple[int, ...]:
    """The profile's budgets; where queries to the board are limited, those within the limit, or the least."""
    if profile.queries is None:
        return profile.budgets
    return tuple(b for b in profile.budgets if b <= profile.queries) or profile.budgets[:1]


def extract(
    store: Store, attack: PluginSpec, laid: Laid, defense: PluginSpec, job: TrainJob, board: Board
) -> tuple[Evaluation, tuple[Theft, ...]]:
    """Evaluate the deployment, steal from it with each budget, and keep all in the store.

    Each budget is an entry of its own: an interruption loses one at most.

    Raises:
        PluginError: what the attack built is no model of the task, or it miscounts its queries; names it.
    """
    evaluation = evaluate(store, laid, defense, job, board)
    budgets = budgets_of(attack, job.profile)
    thefts = []
    for number, budget in enumerate(budgets, 1):
        told = f"{attack.text} against {defense.text} ({job.architecture}), {budget} queries ({number}/{len(budgets)})"
        thefts.append(_steal(store, attack, laid, evaluation, job, board, budget, told))
    return evaluation, tuple(thefts)


def _steal(
    store: Store, attack: PluginSpec, laid: Laid, evaluation: Evaluation, job: TrainJob, board: Board, budget: int,
    told: str,
) -> Theft:  # fmt: skip
    plugin: ExtractionAttack = attack.make()
    key = Key(
        "stolen",
        {
            "evaluation": evaluation.key.digest,
            "attack": attack.text,
            "budget": budget,
            "trained": [own.key().digest for own in shadow_jobs(attack, job)],
            "code": code_hash(type(plugin).__module__, "suite.extracting", roots=("suite", "attacks", "victims")),
            "versions": versions(),
        },
    )

    def make(folder: Path, scratch: Path) -> None:
        tell(told)
        began = time.perf_counter()
        material = job.material()
        with contextlib.ExitStack() as stack:
            session = stack.enter_context(board.open(laid.files))
            asked = session if View.QUERY in plugin.needs else None
            view = AdversaryView(show(store, laid, job, attack, scratch, budget), plugin.needs, asked)
            stolen = check_stolen(plugin.extract(view, budget), view, material, attack)
            found = judge(stolen, session, evaluation, material)
        np.savez(folder / "answers.npz", **found)  # type: ignore[arg-type]
        about = {"budget": budget, "queries": view.n_queries, "seconds": time.perf_counter() - began}
        (folder / "stolen.json").write_text(json.dumps(about), encoding="utf-8")

    entry = store.get(key, make)
    about: dict[str, Any] = json.loads((entry / "stolen.json").read_text(encoding="utf-8"))
    with np.load(entry / "answers.npz") as arrays:
        return Theft(key, about, arrays["stolen"], arrays["fgsm"], arrays["pgd"])


def show(store: Store, laid: Laid, job: TrainJob, attack: PluginSpec, scratch: Path, budget: int) -> Shown:
    """All that lies on the attacker's side of a deployment that is to be stolen: no candidates, images of its own."""
    material = job.material()
    own = shadow_jobs(attack, job)
    nobody = LabelledImages(material.auxiliary.images[:0], material.auxiliary.labels[:0])
    return Shown(
        architecture=job.architecture,
        input_shape=material.dataset.input_shape,
        n_classes=material.dataset.n_classes,
        policy=OutputPolicy.parse(laid.about["policy"]),
        candidates=nobody,
        outputs=np.empty((0, material.dataset.n_classes), np.float32),
        shows=frozenset(View(name) for name in laid.about["shows"]) - {View.OUTPUT},
        public=tuple(segment.graph for segment in parse_file(laid.files.public).as_segments()),
        public_file=laid.files.public.read_bytes(),
        boundary={},
        auxiliary=material.auxiliary,
        shadows=(),
        seed=job.seed,
        scratch=scratch,
        budget=budget,
        disguised=laid.about["disguised"],
        pretrained=functools.partial(models.load_trained, models.train_job(store, own[0]), own[0]) if own else None,
        pretrained_on=own[0].split()[0] if own else None,
        teacher=surrogates.kept_in(store),
    )


def check_stolen(stolen: Stolen, view: AdversaryView, material: Material, attack: PluginSpec) -> Stolen:
    """What ``extract`` returned.

    Raises:
        PluginError: it is no ``Stolen``, miscounts the queries, or its module does not give finite logits.
    """
    label = f"attack {attack.text} ({attack.plugin.where})"
    if not isinstance(stolen, Stolen):
        raise PluginError(f"{label}: extract() returned {type(stolen).__name__}, not a Stolen")
    if stolen.queries != view.n_queries:
        raise PluginError(f"{label}: says that it asked for {stolen.queries} images, it was {view.n_queries}")
    images, n_classes = material.queried_test.images[:2], material.dataset.n_classes
    answers = logits(stolen.module, images)
    if answers.shape != (len(images), n_classes) or not np.isfinite(answers).all():
        raise PluginError(f"{label}: its module gives {answers.shape} for {len(images)} images of {n_classes} classes,"
                          " or what is not finite")  # fmt: skip
    return stolen


def judge(stolen: Stolen, session: Session, evaluation: Evaluation, material: Material) -> dict[str, NDArray[np.int64]]:
    """Classes: the stolen model's for the test images, and the deployment's for adversarial examples made on it."""
    test = material.queried_test
    stolen.module.eval()
    found = {"stolen": logits(stolen.module, test.images).argmax(axis=1).astype(np.int64)}
    changed = changed_of(evaluation.test, test.labels)
    chosen = LabelledImages(test.images[changed], test.labels[changed])
    epsilon = epsilon_of(material.dataset.input_shape)
    for name, craft in (("fgsm", fgsm), ("pgd", pgd)):
        made = craft(stolen.module, chosen, material.normaliser, epsilon)
        found[name] = classes(session.infer(made).outputs) if len(made) else changed[:0]
    return found


def changed_of(deployed: Outputs, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions, int64 [K], of the test images of which adversarial examples are made."""
    return np.flatnonzero(classes(deployed) == labels)[:TRANSFERRED].astype(np.int64)


def answers_of(evaluation: Evaluation, thefts: Sequence[Theft], material: Material) -> StolenAnswers:
    """The raw answers that a record's metrics are computed from."""
    test = material.queried_test
    return StolenAnswers(
        budgets=np.array([theft.about["budget"] for theft in thefts], np.int64),
        queries=np.array([theft.about["queries"] for theft in thefts], np.int64),
        labels=test.labels,
        deployed=classes(evaluation.test),
        stolen=np.stack([theft.stolen for theft in thefts]),
        images=material.splits.test[: len(test)].astype(np.int64),
        changed=changed_of(evaluation.test, test.labels),
        fgsm=np.stack([theft.fgsm for theft in thefts]),
        pgd=np.stack([theft.pgd for theft in thefts]),
    )
