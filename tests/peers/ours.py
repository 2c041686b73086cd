"""Our attacks on the same victim, by the suite's one path, and how long they take."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from device.board import Board
from peers.cases import Case
from suite import models
from suite.attack_model import Attack, ReferenceAttack
from suite.attacking import run_attack, show
from suite.augment import view_of
from suite.deploying import Laid, lay
from suite.evaluating import Evaluation, evaluate
from suite.model import LabelledImages, View
from suite.progress import announce
from suite.provenance import code_hash, hash_json
from suite.registry import REGISTRY, Kind
from suite.spec import PluginSpec, default_specs, parse
from suite.store import Store
from suite.view import AdversaryView, Shown
from victims.training import predict

SHOWN = {View.OUTPUT, View.AUXILIARY, View.QUERY}
"""All that an output attack may want."""


@dataclass(frozen=True, slots=True)
class Times:
    """Wall and processor seconds of an attack, and those wall seconds that a model took to answer."""

    wall: float
    cpu: float
    asking: float


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores float64 [n] of one attack, and the places of the candidates scored, None for all."""

    attack: str
    scores: NDArray[np.float64]
    times: Times
    subset: NDArray[np.int64] | None = None


def output_attacks(architecture: str) -> list[PluginSpec]:
    """Every membership attack of the default matrix that sees outputs alone and needs no other architecture.

    One that takes more where it is shown more (``uses``) has no place here: ``vanilla`` shows all weights.
    """
    return [spec for spec in default_specs(Kind.ATTACK) if _fits(spec, architecture)]


def _fits(spec: PluginSpec, architecture: str) -> bool:
    plugin = spec.make()
    if not isinstance(plugin, Attack) or not plugin.needs | plugin.uses <= SHOWN:
        return False
    return plugin.shadow_architecture(architecture) == architecture


def needs_references(spec: PluginSpec) -> bool:
    """Whether an attack compares the victim with reference models."""
    return isinstance(spec.make(), ReferenceAttack)


def counterpart(text: str | None) -> PluginSpec | None:
    """The attack of ours that a peer names as its like, None where we have none of that name."""
    if text is None or text.partition("[")[0] not in {plugin.name for plugin in REGISTRY.all(Kind.ATTACK)}:
        return None
    return parse(Kind.ATTACK, text)[0]


def vanilla(case: Case, store: Store) -> tuple[PluginSpec, Laid]:
    """The unprotected deployment, which lets probabilities out."""
    (spec,) = parse(Kind.DEFENSE, "vanilla")
    return spec, lay(store, spec, case.victim)


def answers_of(case: Case, store: Store, board: Board) -> Evaluation:
    """What the unprotected deployment answers for the candidates."""
    spec, laid = vanilla(case, store)
    return evaluate(store, laid, spec, case.victim, board)


def run_ours(
    case: Case, store: Store, board: Board, specs: Iterable[PluginSpec], folder: Path, threads: int
) -> list[Scored]:
    """Scores and times of every attack, on all candidates; times of an earlier run are kept in ``folder``."""
    defense, laid = vanilla(case, store)
    found = []
    for spec in specs:
        _, outcome = run_attack(store, spec, laid, defense, case.victim, board)
        kept = folder / f"ours-{spec.slug}-{outcome.key.digest[:12]}-{threads}.npz"
        found.append(_kept(kept, case, store, board, spec, threads, None))
        found[-1] = dataclasses.replace(found[-1], scores=outcome.scores)
    return found


def run_on_subset(
    case: Case, store: Store, board: Board, spec: PluginSpec, folder: Path, threads: int, places: NDArray[np.int64]
) -> Scored:
    """One attack on a few candidates, which it sees alone: for attacks that ask thousands of times about each."""
    module = type(spec.make()).__module__
    parts = [spec.text, places.tolist(), case.references_key(), code_hash(module, roots=("suite", "attacks"))]
    kept = folder / f"ours-{spec.slug}-few-{hash_json(parts)[:12]}-{threads}.npz"
    return _kept(kept, case, store, board, spec, threads, places)


def _kept(
    file: Path,
    case: Case,
    store: Store,
    board: Board,
    spec: PluginSpec,
    threads: int,
    places: NDArray[np.int64] | None,
) -> Scored:
    if not file.is_file():
        announce(f"timing {spec.text} against {case.name}")
        found = _timed(case, store, board, spec, threads, places)
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(".part")
        with aside.open("wb") as opened:
            np.savez(opened, scores=found.scores, seconds=dataclasses.astuple(found.times))
        aside.replace(file)
    with np.load(file) as arrays:
        return Scored(spec.slug, arrays["scores"], Times(*map(float, arrays["seconds"])), places)


class _Asked:
    """A session that knows how long it took to answer."""

    def __init__(self, session) -> None:  # noqa: ANN001
        self.session, self.seconds = session, 0.0

    def infer(self, images, **more):  # noqa: ANN001, ANN003, ANN201
        began = time.perf_counter()
        try:
            return self.session.infer(images, **more)
        finally:
            self.seconds += time.perf_counter() - began


def _timed(
    case: Case, store: Store, board: Board, spec: PluginSpec, threads: int, places: NDArray[np.int64] | None
) -> Scored:
    """What an attack takes, of what the peers' times hold too: asking the model, learning, scoring.

    The model is asked in PyTorch, as peers ask it; an attack that asks by itself, as it goes, asks the board.
    """
    plugin, (_, laid) = spec.make(), vanilla(case, store)
    module = models.load_trained(models.train_job(store, case.victim), case.victim)
    shown = show(store, laid, answers_of(case, store, board), case.victim, spec, board)
    if places is not None:
        shown = only(shown, places)
    scratch = store.root / "partial" / "peers-scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    shown = dataclasses.replace(shown, scratch=scratch)
    references = isinstance(plugin, ReferenceAttack)
    people = case.victim.material().queried_population.images
    with _threads(threads), board.open(laid.files) as session:
        asked = _Asked(session)
        began, cpu_began = time.perf_counter(), time.process_time()
        for index in range(plugin.n_views() if references else 1):
            predict(module, view_of(shown.candidates.images, index))
        if references:
            predict(module, people)
        asking = time.perf_counter() - began
        guess = plugin.infer(plugin.observe(AdversaryView(shown, plugin.needs, asked)))
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    return Scored(spec.slug, np.asarray(guess.scores, np.float64), Times(wall, cpu, asking + asked.seconds), places)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        with threadpool_limits(limits=n):
            yield
    finally:
        torch.set_num_threads(before)


def only(shown: Shown, places: NDArray[np.int64]) -> Shown:
    """The attacker's side as if there were no other candidates than those at ``places``."""
    some = LabelledImages(shown.candidates.images[places], shown.candidates.labels[places])
    references = shown.references
    if references is not None:
        references = dataclasses.replace(
            references, answers=references.answers[:, :, places], is_member=references.is_member[:, places]
        )
    return dataclasses.replace(
        shown,
        candidates=some,
        outputs=shown.outputs[places],
        boundary={name: tensor[places] for name, tensor in shown.boundary.items()},
        views=None if shown.views is None else shown.views[:, places],
        references=references,
        reference_models=tuple(
            dataclasses.replace(model, is_member=model.is_member[places]) for model in shown.reference_models
        ),
    )
