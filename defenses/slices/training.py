"""Training private slices, and pruning them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from defenses.slices.layout import LOGITS, Shape, Sliced, sliced
from suite.graph.ir import Graph
from suite.graph.trainable import TrainableGraph, run_in_batches, weights_of, with_weights
from victims.checkpoint import read_checkpoint, write_checkpoint
from victims.inference import one_thread

BATCH = 64
Weights = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train: Adam (Kingma and Ba 2015), its rate falling along a cosine to 0.

    ``epochs`` for all slices together, and at half the rate for those that are left in the end; ``round_epochs``, at
    half the rate, after each that was dropped. ``temperature`` softens the victim's answers. ``tolerance``: the
    accuracy, 0 to 1, that pruning may cost.
    """

    epochs: int
    round_epochs: int
    tolerance: float
    seed: int
    temperature: float = 4.0
    rate: float = 2e-3


@dataclass(frozen=True, slots=True)
class Lessons:
    """What slices learn from and are judged on.

    ``images``: float32 [N, C, H, W], with ``answers``, the victim's logits [N, n_classes]. The first ``judged`` of them
    have ``labels``, int64 [judged]: they judge how far slices can be pruned, and are learned from only after that.
    """

    images: NDArray[np.float32]
    answers: NDArray[np.float32]
    judged: int
    labels: NDArray[np.int64]

    @property
    def victim_accuracy(self) -> float:
        """The victim's on what judges, 0 to 1."""
        return float((self.answers[: self.judged].argmax(1) == self.labels).mean())


@dataclass(frozen=True, slots=True)
class Pruned:
    """What is left: ``kept`` places, the slices' weights, and one entry a round."""

    kept: tuple[int, ...]
    weights: Weights
    rounds: list[dict[str, Any]]


Note = Callable[[int, float, float], None]
"""Is told after each epoch: how many there were in all rounds, loss in nats, agreement with the victim."""


class Slicer:
    """Slices of one shape on one backbone, whose maps are computed once."""

    def __init__(
        self, backbone: Graph, readable: tuple[str, ...], shape: Shape, lessons: Lessons, settings: Settings
    ) -> None:
        self.backbone, self.readable, self.shape, self.settings = backbone, readable, shape, settings
        self.answers, self.labels = torch.tensor(lessons.answers), torch.tensor(lessons.labels)
        self.victim_accuracy = lessons.victim_accuracy
        whole = self.layout(tuple(range(len(readable))))
        public = dataclasses.replace(whole.graph, outputs=whole.crossing)
        self.maps, self.judged = run_in_batches(public, lessons.images), lessons.judged

    def layout(self, kept: tuple[int, ...], weights: Weights | None = None) -> Sliced:
        """Slices at ``kept``, with those of ``weights`` that they use."""
        seed, classes = self.settings.seed, self.answers.shape[1]
        found = sliced(self.backbone, self.readable, kept, self.shape, classes, seed)
        names = weights_of(found.private)
        held = {name: array for name, array in (weights or {}).items() if name in names}
        return dataclasses.replace(found, private=with_weights(found.private, held))

    def prune(self, key: str, scratch: Path, note: Note) -> Pruned:
        """Train all slices, then drop one after the other while accuracy stays within the tolerance.

        The one goes whose absence, before anything learns to do without it, costs least; the rest is trained a while;
        if accuracy is then further than the tolerance below the victim's (or below the best so far, where that is
        less), it stays, and pruning ends. ``key`` stands for all that this depends on in the
        checkpoint in ``scratch``, which is written after each round.

        Raises:
            ValueError: the loss is not finite.
        """
        checkpoint = scratch / "slices.pt"
        with one_thread():
            state = read_checkpoint(checkpoint, key)
            if state is None:
                everything = tuple(range(len(self.readable)))
                found = Pruned(everything, {}, [])
            else:
                weights = {name: value.numpy() for name, value in state["weights"].items()}
                found = Pruned(tuple(state["kept"]), weights, state["rounds"])
            while not found.rounds or (found.rounds[-1]["accepted"] and len(found.kept) > 1):
                found = self._round(found, note)
                tensors = {name: torch.tensor(array) for name, array in found.weights.items()}
                state = {"kept": list(found.kept), "weights": tensors, "rounds": found.rounds}
                write_checkpoint(checkpoint, key, state)
        return found

    def _round(self, found: Pruned, note: Note) -> Pruned:
        settings, number = self.settings, len(found.rounds)
        if not number:
            kept = found.kept
            trained = self._fit(self._scaled(kept), settings.epochs, settings.rate, number, self.judged, note)
        else:
            without = [tuple(one for one in found.kept if one != dropped) for dropped in found.kept]
            kept = min(without, key=lambda left: self._judge(self.layout(left, found.weights).private)[0])
            start = self.layout(kept, found.weights).private
            trained = self._fit(start, settings.round_epochs, settings.rate / 2, number, self.judged, note)
        loss, accuracy = self._judge(trained)
        best = max((one["accuracy_frac"] for one in found.rounds), default=0.0)
        accepted = not number or accuracy >= min(best, self.victim_accuracy) - settings.tolerance
        entry = {"kept": list(kept), "loss": loss, "accuracy_frac": accuracy, "accepted": accepted}
        rounds = [*found.rounds, entry]
        return Pruned(kept, weights_of(trained), rounds) if accepted else dataclasses.replace(found, rounds=rounds)

    def finish(self, found: Pruned, note: Note) -> Pruned:
        """Train what was kept once more, on what judged as well."""
        with one_thread():
            start = self.layout(found.kept, found.weights).private
            trained = self._fit(start, self.settings.epochs, self.settings.rate / 2, len(found.rounds), 0, note)
        return dataclasses.replace(found, weights=weights_of(trained))

    def _scaled(self, kept: tuple[int, ...]) -> Graph:
        """Fresh slices at the scale of what they read, and together of one: Kaiming's start takes values about 1."""
        whole = self.layout(kept)
        fresh = weights_of(whole.private)
        scaled = {}
        for at, crossing in zip(kept, whole.crossing, strict=True):
            read, conv = f"slice{at}.read/weight", f"slice{at}.conv/weight"
            scaled[read] = fresh[read] / float(self.maps[crossing].pow(2).mean().sqrt().clamp(min=1e-6))
            scaled[conv] = fresh[conv] / math.sqrt(len(kept))
        return with_weights(whole.private, scaled)

    def _fit(self, graph: Graph, epochs: int, rate: float, number: int, first: int, note: Note) -> Graph:
        """Round ``number``: learn from the images from ``first`` on."""
        model, temperature = TrainableGraph(graph), self.settings.temperature
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        order = torch.Generator().manual_seed(1000 * self.settings.seed + number)
        n = len(self.answers) - first
        batches = math.ceil(n / BATCH)
        before = self.settings.epochs + (number - 1) * self.settings.round_epochs if number else 0
        for epoch in range(epochs):
            total, right = 0.0, 0
            for step, chosen in enumerate((first + torch.randperm(n, generator=order)).tensor_split(batches)):
                done = (epoch * batches + step) / (epochs * batches)
                optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * done)) / 2
                logits = _run(model, {name: self.maps[name][chosen] for name in graph.inputs})
                answers = self.answers[chosen]
                wanted = (answers / temperature).softmax(1)
                loss = -(wanted * (logits / temperature).log_softmax(1)).sum(1).mean() * temperature
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += float(loss.detach()) * len(chosen)
                right += int((logits.detach().argmax(1) == answers.argmax(1)).sum())
            if not math.isfinite(total):
                raise ValueError(f"teeslice: the training of slices diverged in epoch {epoch + 1}")
            note(before + epoch + 1, total / n, right / n)
        return model.trained()

    def _judge(self, graph: Graph) -> tuple[float, float]:
        """Cross entropy in nats and accuracy on what judges."""
        with torch.no_grad():
            logits = _run(TrainableGraph(graph, ()), {name: self.maps[name][: self.judged] for name in graph.inputs})
            right = (logits.argmax(1) == self.labels).float().mean()
            return float(F.cross_entropy(logits, self.labels)), float(right)


def _run(model: TrainableGraph, held: Mapping[str, Tensor]) -> Tensor:
    found: dict[str, Tensor] = model(held)
    return found[LOGITS]
