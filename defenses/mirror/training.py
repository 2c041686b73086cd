"""Training a companion branch, and what is behind its first tap in the backbone, on the members.

Up to the first tap the backbone keeps the victim's weights, and its maps are computed once. Behind it, three things
learn at the same time, step by step:

- the branch, so that its corrections plus the backbone's logits say what the victim says (Hinton et al. 2015);
- the backbone's classifier, so that it answers as well as it can: what the backbone is worth to somebody who has no
  TEE is measured at its best;
- the backbone's layers before the classifier, against it (its answers shall be uniform, whatever the image) and for
  the branch (the later taps are read by it).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from defenses.mirror.branch import CORRECTION, PREFIX, Mirrored, mirrored
from defenses.mirror.reading import Backbone
from defenses.mirror.strategy import Strategy
from suite.graph.ir import Graph, subgraph
from suite.graph.trainable import EVAL_BATCH, TrainableGraph, run_in_batches, weights_of
from suite.model import LabelledImages, LearningProgress, OnProgress
from victims.checkpoint import read_checkpoint, write_checkpoint
from victims.inference import one_thread

BATCH = 32
CHECKPOINT_EVERY_S = 20.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train: Adam (Kingma and Ba 2015), each rate falling along a cosine to 0.

    ``against`` weighs the loss that makes the backbone unhelpful; ``temperature`` softens the victim's answers.
    """

    epochs: int
    seed: int = 0
    against: float = 1.0
    temperature: float = 4.0
    branch_rate: float = 2e-3
    backbone_rate: float = 2e-4
    classifier_rate: float = 1e-2


def train_mirror(
    backbone: Backbone,
    strategy: Strategy,
    members: LabelledImages,
    settings: Settings,
    key: str,
    scratch: Path,
    on_progress: OnProgress | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
) -> tuple[dict[str, NDArray[np.float32]], list[dict[str, float]]]:
    """The learned weights by ``node/weight``, and one entry an epoch: losses in nats, accuracy on the members.

    A pure function of the arguments before ``key`` on one instruction set: it runs on one thread of the CPU and draws
    from a generator of its own. ``key`` stands for them in the checkpoint in ``scratch``.

    Raises:
        ValueError: the loss is not finite.
    """
    with one_thread():
        run = _Run(backbone, strategy, members, settings)
        checkpoint = scratch / "mirror.pt"
        state = read_checkpoint(checkpoint, key)
        if state is not None:
            run.resume(state)
        done = len(run.history)
        began = saved = time.monotonic()
        for epoch in range(done + 1, settings.epochs + 1):
            entry = run.epoch()
            now = time.monotonic()
            if epoch < settings.epochs and now - saved >= checkpoint_every_s:
                write_checkpoint(checkpoint, key, run.state())
                saved = time.monotonic()
            if on_progress is not None:
                left = (now - began) / (epoch - done) * (settings.epochs - epoch)
                on_progress(LearningProgress(epoch, settings.epochs, entry["loss"], entry["accuracy_frac"], left))
        return run.weights(), run.history


class _Run:
    """One training: the three learners, and the epochs done so far."""

    def __init__(self, backbone: Backbone, strategy: Strategy, members: LabelledImages, settings: Settings) -> None:
        self.settings, self.tap = settings, strategy.taps[0]
        self.whole: Mirrored = mirrored(backbone, strategy, settings.seed)
        graph, head = backbone.graph, backbone.head
        self.features, self.head_name = head.inputs[0], head.name
        start = next(i for i, node in enumerate(graph.nodes) if node.output == strategy.taps[0]) + 1
        end = graph.nodes.index(head)
        kept = {node.name for node in graph.nodes[start:end]} | set(self.whole.crossing)
        behind = [node for node in self.whole.graph.nodes if node.name in kept and node.output != strategy.taps[0]]
        self.body = TrainableGraph(subgraph(self.whole.graph, behind))
        self.head = TrainableGraph(subgraph(graph, graph.nodes[end:]))
        self.branch = TrainableGraph(self.whole.branch())
        wanted = (strategy.taps[0], backbone.logits)
        before = run_in_batches(Graph(graph.inputs, wanted, graph.nodes, graph.shapes), members.images)
        self.first, self.answers = (before[tensor] for tensor in wanted)
        self._scale()
        self.labels = torch.tensor(members.labels)
        rates = (settings.branch_rate, settings.backbone_rate, settings.classifier_rate)
        learners = (self.branch, self.body, self.head)
        self.optimizers = [
            (torch.optim.Adam(learner.parameters(), lr=rate), rate)
            for learner, rate in zip(learners, rates, strict=True)
        ]
        self.order = torch.Generator().manual_seed(settings.seed)
        self.batches = math.ceil(len(self.labels) / BATCH)
        self.history: list[dict[str, float]] = []

    def _scale(self) -> None:
        """Bring what crosses at each tap to the scale that Kaiming's start takes for granted."""
        squares = torch.zeros(len(self.whole.crossing))
        with torch.no_grad():
            for part in torch.split(self.first, EVAL_BATCH):
                crossing = self._crossing(self._public(part))
                squares += torch.stack([value.pow(2).mean() * len(part) for value in crossing.values()])
            for at, scale in enumerate((squares / len(self.first)).sqrt().clamp(min=1e-6)):
                self.branch.weight(f"{PREFIX}{at}.read", "weight").div_(scale)
            self.branch.weight(CORRECTION, "weight").mul_(0.1)

    def _public(self, first: Tensor) -> dict[str, Tensor]:
        """What the backbone makes of the map at the first tap: all that crosses, and the classifier's features."""
        return {self.tap: first, **self.body({self.tap: first})}

    def _crossing(self, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What enters the TEE, in the order of the taps."""
        return {name: held[name] for name in self.whole.crossing}

    def epoch(self) -> dict[str, float]:
        """Show every member once."""
        settings = self.settings
        steps, step = self.batches * settings.epochs, len(self.history) * self.batches
        sums = {"loss": 0.0, "against": 0.0, "classifier": 0.0, "accuracy_frac": 0.0, "without_frac": 0.0}
        order = torch.randperm(len(self.labels), generator=self.order)
        for chosen in order.tensor_split(self.batches):
            for optimizer, rate in self.optimizers:
                optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            for name, value in self._step(chosen).items():
                sums[name] += value * len(chosen)
            step += 1
        entry = {name: value / len(order) for name, value in sums.items()}
        if not math.isfinite(entry["loss"] + entry["against"] + entry["classifier"]):
            raise ValueError(f"the companion branch's training diverged in epoch {len(self.history) + 1}")
        self.history.append(entry)
        return entry

    def _step(self, chosen: Tensor) -> dict[str, float]:
        labels, temperature = self.labels[chosen], self.settings.temperature
        held = self._public(self.first[chosen])
        features = held[self.features]
        at_its_best = self._classify(features.detach())
        # The same answers, through which only the layers before the classifier learn.
        fixed = {name: value.detach() for name, value in self.head.named_parameters()}
        pushed = torch.func.functional_call(self.head, fixed, ({self.features: features},))
        (unhelpful,) = (value.log_softmax(1) for value in pushed.values())
        rectified = self.branch(self._crossing(held))[CORRECTION] + at_its_best.detach()
        wanted = (self.answers[chosen] / temperature).softmax(1)
        rectifying = -(wanted * (rectified / temperature).log_softmax(1)).sum(1).mean() * temperature
        against = -unhelpful.mean() - math.log(unhelpful.shape[1])
        classifying = F.cross_entropy(at_its_best, labels)
        for optimizer, _ in self.optimizers:
            optimizer.zero_grad()
        (rectifying + self.settings.against * against + classifying).backward()
        for optimizer, _ in self.optimizers:
            optimizer.step()
        return {
            "loss": float(rectifying.detach()),
            "against": float(against.detach()),
            "classifier": float(classifying.detach()),
            "accuracy_frac": float((rectified.detach().argmax(1) == labels).float().mean()),
            "without_frac": float((at_its_best.detach().argmax(1) == labels).float().mean()),
        }

    def _classify(self, features: Tensor) -> Tensor:
        found: dict[str, Tensor] = self.head({self.features: features})
        (logits,) = found.values()
        return logits

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """What was learned, by ``node/weight``."""
        return weights_of(*(part.trained() for part in (self.body, self.head, self.branch)))

    def state(self) -> dict[str, Any]:
        """All that the rest of the training depends on."""
        return {
            "models": [model.state_dict() for model in (self.branch, self.body, self.head)],
            "optimizers": [optimizer.state_dict() for optimizer, _ in self.optimizers],
            "order": self.order.get_state(),
            "history": self.history,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        for model, saved in zip((self.branch, self.body, self.head), state["models"], strict=True):
            model.load_state_dict(saved)
        for (optimizer, _), saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.order.set_state(state["order"])
        self.history = list(state["history"])
