"""Layer exposure: how much of its training images a single layer holds."""

import dataclasses
import hashlib
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from suite import ExposureAttack, Goal, LabelledImages, LayerLosses, LearningProgress, Victim, attack
from suite.graph.ir import Graph, Op, subgraph
from suite.graph.trainable import TrainableGraph
from suite.model import OnProgress
from victims.checkpoint import read_checkpoint, write_checkpoint
from victims.inference import one_thread

CHECKPOINT_EVERY_S = 20.0
KEPT_BYTES = 1 << 30
"""What the frozen layers make of the images is kept where it takes no more than this, else made for every batch."""
_BATCH = 256


@attack("exposure", goal=Goal.EXPOSURE, needs=())
class Exposure(ExposureAttack):
    """The share of a model's generalization error that one layer is answerable for.

    Mo, Shahin Shamsabadi, Katevas, Cavallaro and Haddadi, "Towards characterizing and limiting information exposure in
    DNN layers", CCS 2019 (poster), section 2.1, equation 4: E = (E_Mp - E_Mr) / E_Mp, where M_r is the model with one
    layer fine-tuned so that it no longer tells members from others, M_p the model with the layer fine-tuned on the
    members S, all other layers frozen in both, and E_M the generalization error of M. 1: the layer alone could hide
    the difference; 0: nothing done to it changes what the rest gives away.

    Interpretation: M_r's layer is fine-tuned on S and as many unseen images T together; E_M is the mean cross entropy
    on T minus that on S (the generalization error of Yeom et al. 2018, which they build on). Both fine-tunings take
    ``epochs`` passes over their images with SGD (momentum 0.9, no weight decay, which would move a layer that has
    nothing left to learn), the learning rate falling from ``learning_rate`` to 0 along a cosine. A layer is a
    convolution or fully connected layer, a batch norm folded into it; dropout is off.
    """

    epochs: int = 10
    learning_rate: float = 0.01
    batch: int = 64

    def measure(
        self,
        victim: Victim,
        unseen: LabelledImages,
        layer: str,
        seed: int,
        scratch: Path,
        on_progress: OnProgress | None = None,
    ) -> LayerLosses:
        """Fine-tune the layer on S, and on S and T.

        Raises:
            ValueError: a parameter is out of range, or the loss is not finite.
        """
        for name, least in (("epochs", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"exposure[{name}={getattr(self, name)}]: {name} is at least {least}")
        if not self.learning_rate > 0:
            raise ValueError(f"exposure[learning_rate={self.learning_rate:g}]: learning_rate is above 0")
        seen = victim.members
        images = np.concatenate([seen.images, unseen.images])
        labels = torch.tensor(np.concatenate([seen.labels, unseen.labels]))
        with one_thread():
            work = _Layer(victim.graph, layer, images)
            told = _Told(on_progress, self.epochs, (len(seen), len(images)))
            found = [
                self._tuned(work, labels, n, seed, scratch / f"{model}.pt", told)
                for model, n in (("private", len(seen)), ("reference", len(images)))
            ]
        (private, reference), n = found, len(seen)
        return LayerLosses(private[:n], private[n:], reference[:n], reference[n:])

    def _tuned(
        self, work: "_Layer", labels: torch.Tensor, n: int, seed: int, checkpoint: Path, told: "_Told"
    ) -> NDArray[np.float32]:
        """Losses float32 [all images] after fine-tuning on the first ``n``."""
        module = work.fresh()
        optimizer = torch.optim.SGD(module.parameters(), lr=self.learning_rate, momentum=0.9, nesterov=True)
        order = torch.Generator().manual_seed(seed)
        # The checkpoint lies in a folder of its own for this layer, victim and code; the rest is told here.
        key = hashlib.sha256(json.dumps([dataclasses.asdict(self), seed, n, torch.__version__]).encode()).hexdigest()
        done = 0
        if (state := read_checkpoint(checkpoint, key)) is not None:
            module.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            order.set_state(state["order"])
            done = state["epochs"]
        batches = math.ceil(n / self.batch)
        saved = time.monotonic()
        for epoch in range(done, self.epochs):
            loss_sum, correct = torch.zeros(()), 0
            for step, chosen in enumerate(torch.randperm(n, generator=order).tensor_split(batches)):
                frac = (epoch * batches + step) / (self.epochs * batches)
                for group in optimizer.param_groups:
                    group["lr"] = self.learning_rate * (1 + math.cos(math.pi * frac)) / 2
                answers = work.answers(module, chosen)
                loss = F.cross_entropy(answers, labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss_sum += loss.detach() * len(chosen)
                correct += int((answers.argmax(1) == labels[chosen]).sum())
            if not math.isfinite(loss_sum):
                raise ValueError(
                    f"exposure[learning_rate={self.learning_rate:g}]: fine-tuning {work.name} diverged in epoch"
                    f" {epoch + 1}; lower the learning_rate"
                )
            if epoch + 1 == self.epochs or time.monotonic() - saved >= CHECKPOINT_EVERY_S:
                state = {"model": module.state_dict(), "optimizer": optimizer.state_dict()}
                write_checkpoint(checkpoint, key, {**state, "order": order.get_state(), "epochs": epoch + 1})
                saved = time.monotonic()
            told.epoch(n, loss_sum.item() / n, correct / n)
        with torch.no_grad():
            parts = [
                F.cross_entropy(work.answers(module, chosen).double(), labels[chosen], reduction="none")
                for chosen in torch.arange(len(labels)).split(_BATCH)
            ]
        return torch.cat(parts).float().numpy()


class _Layer:
    """One layer to fine-tune: what lies before it is run once, what lies behind it is frozen."""

    def __init__(self, graph: Graph, name: str, images: NDArray[np.float32]) -> None:
        self.name = name
        logits = _without_softmax(graph)
        at = next(i for i, node in enumerate(logits.nodes) if node.name == name)
        self._behind = subgraph(logits, logits.nodes[at:])
        needed = tuple(tensor for tensor in self._behind.inputs if tensor not in logits.inputs)
        before = subgraph(logits, logits.nodes[:at], also_outputs=needed)
        self._before = TrainableGraph(before, trained=())
        self._image, self._images = logits.inputs[0], torch.tensor(images)
        self._kept: dict[str, torch.Tensor] | None = None
        if len(images) * sum(map(logits.bytes_of, needed)) <= KEPT_BYTES:
            parts = [self._made(chosen) for chosen in torch.arange(len(images)).split(_BATCH)]
            self._kept = {tensor: torch.cat([part[tensor] for part in parts]) for tensor in needed}

    def fresh(self) -> TrainableGraph:
        """The layer and all behind it as the victim has them, only the layer's weights being parameters."""
        return TrainableGraph(self._behind, trained={self.name})

    def answers(self, module: TrainableGraph, chosen: torch.Tensor) -> torch.Tensor:
        """Logits [len(chosen), n_classes] of the images at positions ``chosen``."""
        inputs = self._made(chosen) if self._kept is None else {t: kept[chosen] for t, kept in self._kept.items()}
        if self._image in self._behind.inputs:
            inputs[self._image] = self._images[chosen]
        (answers,) = module(inputs).values()
        return answers

    def _made(self, chosen: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            made: dict[str, torch.Tensor] = self._before({self._image: self._images[chosen]})
        return {tensor: made[tensor] for tensor in self._behind.inputs if tensor != self._image}


def _without_softmax(graph: Graph) -> Graph:
    last = graph.nodes[-1]
    if last.op is not Op.SOFTMAX:
        return graph
    return Graph(graph.inputs, (last.inputs[0],), graph.nodes[:-1], {t: s for t, s in graph.shapes.items()})


class _Told:
    """Progress over both fine-tunings as one, in passes over S."""

    def __init__(self, on_progress: OnProgress | None, epochs: int, sizes: tuple[int, int]) -> None:
        self._on_progress, self._size = on_progress, sizes[0]
        self._work = epochs * sum(sizes)
        self._epochs = math.ceil(self._work / sizes[0])
        self._done, self._began = 0, time.monotonic()

    def epoch(self, n: int, loss: float, accuracy: float) -> None:
        """One more pass over ``n`` images."""
        self._done += n
        if self._on_progress is not None:
            left = (time.monotonic() - self._began) / self._done * (self._work - self._done)
            self._on_progress(LearningProgress(self._done // self._size, self._epochs, loss, accuracy, max(0.0, left)))
