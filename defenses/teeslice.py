"""TEESlice: a public backbone that knows nothing of the private data, private slices in the secure world on it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import cast

import numpy as np

from defenses.slices.backbone import ROTATIONS, TASKS, pretrained
from defenses.slices.layout import Shape, places, sliced
from defenses.slices.training import Lessons, Settings, Slicer
from suite import Deployment, Effort, Learned, LearnedDefense, LearningProgress, OutputPolicy, Victim, defense, split
from suite.graph.trainable import weights_of, with_weights
from suite.model import OnProgress
from suite.provenance import hash_json
from victims.inference import logits

LEAST_WIDTH = 16


@defense("teeslice")
class TEESlice(LearnedDefense):
    """A backbone trained on public images outside, light slices trained for the private task in the TEE.

    Zhang et al., "No Privacy Left Outside: On the (In-)Security of TEE-Shielded DNN Partition for On-Device ML", IEEE
    S&P 2024: partition before training. What is exposed has never met the private data, so weights and maps outside
    tell nothing of them, by construction. Slices are trained on the private data with all of them in place, then
    pruned one after the other while accuracy stays within a tolerance (their algorithm: 1 %).

    Interpretation:

    - One way. Theirs hand what slices make back to the backbone, masked by a one-time pad and quantised; a board's
      graph has no fresh randomness, so here slices only read: the backbone runs on the image alone, all that slices
      read crosses in one call, nothing private comes back but the answer, and there is nothing to mask. Slices pass on
      to one another inside the TEE what theirs pass through the backbone.
    - The backbone has the victim's architecture. Public images are the attacker's own (``Victim.public``), so the
      attacker knows all that the backbone was made of, and its shadow models are trained on images of the same pool.
      Theirs is pre-trained on another task, ImageNet; here ``task`` is to tell by how many quarter turns an image was
      turned (Gidaris et al. 2018), which needs no labels, or ``labels``, the public images' own. Its classifier and all
      that no slice reads is not deployed, so the public part answers nothing, and may cost less than the victim.
    - What private data decide and the normal world sees: which places of the backbone are read.
    - Slices learn what the victim says (Hinton et al. 2015) of the members and of ``public_share`` times as many public
      images. How many can go is judged by other public images and their labels: first goes the slice without which the
      rest does best; the tolerance is below the victim's accuracy, or below the best so far where that is less. What is
      left then learns from these images as well.

    ``width``: channels of a slice, 0 for an eighth of the backbone's widest map and at least 16; ``grid``: maps are
    averaged to at most ``grid`` x ``grid`` before they cross; ``tolerance_pct``: points of accuracy.
    """

    max_accuracy_loss_frac = 0.02
    layout_only = frozenset({"output"})

    output: str = "top1"
    width: int = 0
    grid: int = 8
    tolerance_pct: float = 1.0
    task: str = ROTATIONS
    public_share: float = 3.0

    def learn(self, victim: Victim, effort: Effort, scratch: Path, on_progress: OnProgress | None = None) -> Learned:
        """Train the backbone, then the slices, and prune them.

        Raises:
            ValueError: a parameter is out of range, or the victim has no map to read.
        """
        self._check()
        readable = places(victim.architecture, victim.graph)
        settings = Settings(
            epochs=effort.epochs,
            round_epochs=max(effort.epochs // 6, 1),
            tolerance=self.tolerance_pct / 100,
            seed=effort.seed,
        )
        most = effort.epochs + 2 * settings.epochs + settings.round_epochs * (len(readable) - 1)
        ticker = _Ticker(most, on_progress)
        backbone = pretrained(
            victim.architecture, victim.public, victim.n_classes, self.task, effort.epochs, effort.seed, scratch,
            lambda progress: ticker.at(progress.epoch, progress.loss, progress.accuracy),
        )  # fmt: skip
        lessons = self._lessons(victim)
        slicer = Slicer(backbone, readable, self._shape(victim), lessons, settings)
        models = [victim.graph.fingerprint(), backbone.fingerprint()]
        key = hash_json([*models, dataclasses.asdict(self), dataclasses.asdict(settings)])

        def note(epoch: int, loss: float, accuracy: float) -> None:
            ticker.at(effort.epochs + epoch, loss, accuracy)

        found = slicer.finish(slicer.prune(key, scratch, note), note)
        whole = slicer.layout(found.kept, found.weights)
        arrays = {**weights_of(whole.graph), **weights_of(whole.private)}
        about = {
            "kept": list(found.kept),
            "places": list(readable),
            "victim_accuracy_frac": lessons.victim_accuracy,
            "rounds": found.rounds,
        }
        return Learned(arrays, about)

    def deploy(self, victim: Victim, learned: Learned | None = None) -> Deployment:
        """Backbone in the normal world, then all slices in one call; without ``learned``, a slice at every place.

        Raises:
            ValueError: as ``learn``.
        """
        self._check()
        readable = places(victim.architecture, victim.graph)
        kept = tuple(range(len(readable))) if learned is None else tuple(cast(list[int], learned.about["kept"]))
        # The victim lends the backbone its layers; not one of its weights is left once the learned ones are in place.
        whole = sliced(victim.graph, readable, kept, self._shape(victim), victim.n_classes, seed=None)
        graph = whole.graph
        if learned is not None:
            if missing := sorted(set(weights_of(graph)) - set(learned.arrays)):
                raise ValueError(f"teeslice: nothing was learned for {missing[0]}")
            graph = with_weights(graph, learned.arrays)
        return Deployment(split(graph, in_tee=whole.hidden), OutputPolicy.parse(self.output))

    def _shape(self, victim: Victim) -> Shape:
        widest = max(victim.graph.shapes[tensor][0] for tensor in places(victim.architecture, victim.graph))
        return Shape(self.width or max(LEAST_WIDTH, widest // 8), self.grid)

    def _lessons(self, victim: Victim) -> Lessons:
        members, public = victim.members, victim.public
        judged = min(max(len(public) // 4, 1), len(members))
        taught = min(round(self.public_share * len(members)), len(public) - judged)
        images = np.concatenate([public.images[: judged + taught], members.images])
        return Lessons(images, logits(victim.module, images), judged, public.labels[:judged])

    def _check(self) -> None:
        if self.width < 0 or self.grid < 1 or not 0 <= self.tolerance_pct <= 100 or self.public_share < 0:
            raise ValueError(
                "teeslice: width is 0 or more, grid at least 1, tolerance_pct 0 to 100, public_share not negative; got"
                f" {self.width}, {self.grid}, {self.tolerance_pct:g} and {self.public_share:g}"
            )
        if self.task not in TASKS:
            raise ValueError(f"teeslice: the backbone's task is {' or '.join(TASKS)}, not {self.task!r}")


class _Ticker:
    """Counts the epochs of the backbone and of all rounds as those of one training, which may end early."""

    def __init__(self, epochs: int, on_progress: OnProgress | None) -> None:
        self._epochs, self._on_progress = epochs, on_progress
        self._began, self._here = time.monotonic(), 0

    def at(self, epoch: int, loss: float, accuracy: float) -> None:
        """``epoch`` is over."""
        self._here += 1
        if self._on_progress is not None:
            left = (time.monotonic() - self._began) / self._here * (self._epochs - epoch)
            self._on_progress(LearningProgress(epoch, self._epochs, loss, accuracy, left))
