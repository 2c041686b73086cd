"""Training a victim or a shadow model.

On the CPU a training is a pure function of the task and the images, to the last bit, for one version of
PyTorch and one instruction set: it runs on one thread (see ``one_thread``) and draws from generators of its
own. On a GPU it follows the same path but sums in an order that changes from run to run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import nn

from victims.checkpoint import read_checkpoint, write_checkpoint
from victims.inference import logits, one_thread, predict
from victims.optimizer import DenseSGD
from victims.recipe import Recipe
from victims.small_maps import accelerate
from victims.task import TrainTask, build_model, load_model

__all__ = [
    "EpochResult", "Progress", "Recipe", "TrainTask", "TrainedModel", "TrainingDiverged",
    "load_model", "logits", "predict", "train",
]  # fmt: skip

CHECKPOINT_EVERY_S = 20.0


class TrainingDiverged(RuntimeError):
    """A training whose loss is no longer a finite number; names the task and the way out."""


@dataclass(frozen=True, slots=True)
class EpochResult:
    """Mean cross entropy in nats and accuracy in [0, 1] over one epoch, each batch before it was learned."""

    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training is after ``epoch`` of ``epochs``; ``seconds_left`` assumes the pace so far."""

    task: TrainTask
    epoch: int
    epochs: int
    loss: float
    accuracy: float
    seconds_left: float


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What training leaves.

    ``state_dict``: parameters and buffers, float32, contiguous, on the CPU; ``load_model`` takes them.
    ``train_accuracy``: of the finished model on its own training images, in [0, 1]. ``history``: one entry
    an epoch.
    """

    state_dict: dict[str, torch.Tensor]
    train_accuracy: float
    history: tuple[EpochResult, ...]


def train(
    task: TrainTask,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    on_progress: Callable[[Progress], None] | None = None,
) -> TrainedModel:
    """Train a model on ``images`` [N, C, H, W], normalised, with ``labels`` [N] in 0..n_classes-1.

    Uses a GPU when there is one. Leaves the global random state and thread count as they were. With
    ``checkpoint``, the state goes to that file at the first epoch's end ``checkpoint_every_s`` after the
    last time, and a training that finds the file continues from it, ending with the same bits; the caller
    removes the file once the result is safe.

    Raises:
        TrainingDiverged: the loss is not finite.
        ValueError: images or labels do not fit the task.
    """
    _check(task, images, labels)
    with one_thread(), _seeded(task.seed):
        run = _Run(task, images, labels)
        done = 0
        if checkpoint is not None:
            state = read_checkpoint(checkpoint, run.key)
            done = run.resume(state) if state is not None else 0
        started = saved = time.monotonic()
        for epoch in range(done + 1, task.epochs + 1):
            result = run.epoch()
            now = time.monotonic()
            if checkpoint is not None and epoch < task.epochs and now - saved >= checkpoint_every_s:
                write_checkpoint(checkpoint, run.key, run.state())
                saved = time.monotonic()
            if on_progress is not None:
                left = (now - started) / (epoch - done) * (task.epochs - epoch)
                on_progress(Progress(task, epoch, task.epochs, result.loss, result.accuracy, left))
        state_dict = {
            name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, value in run.model.state_dict().items()
        }
        answers = logits(load_model(task, state_dict), images).argmax(axis=1)
    return TrainedModel(state_dict, float((answers == labels).mean()), tuple(run.history))


class _Run:
    """One training: model, optimizer and generator on their device, and the epochs done so far."""

    def __init__(self, task: TrainTask, images: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        self.task = task
        self.history: list[EpochResult] = []
        gpu = torch.cuda.is_available()
        self.device = torch.device("cuda" if gpu else "cpu")
        self.key = _key(task, images, labels, self.device)
        channels_last = gpu or task.recipe.channels_last
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.images = torch.tensor(images, device=self.device).contiguous(memory_format=layout)
        self.labels = torch.tensor(labels, device=self.device)
        self.model = build_model(task.architecture, task.input_shape, task.n_classes).train()
        self.model.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        if not gpu and task.precision == "fp32":
            accelerate(self.model)
        self.optimizer = DenseSGD(
            self.model.parameters(),
            lr=task.recipe.learning_rate,
            momentum=task.recipe.momentum,
            weight_decay=task.recipe.weight_decay,
            nesterov=task.recipe.nesterov,
        )
        self.order = torch.Generator().manual_seed(task.seed)
        # even parts: batch norm cannot train on the single image that may be left over
        self.batches = math.ceil(len(labels) / task.recipe.batch_size)

    def epoch(self) -> EpochResult:
        """Show every image once; the loss is read once an epoch, since reading it makes a GPU wait."""
        task, recipe = self.task, self.task.recipe
        loss_sum = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        order = torch.randperm(len(self.labels), generator=self.order).to(self.device)
        step = len(self.history) * self.batches
        for chosen in order.tensor_split(self.batches):
            rate = recipe.learning_rate_at(step, self.batches * task.epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss, answers = train_step(
                self.model, self.optimizer, self.images[chosen], self.labels[chosen], task.precision
            )
            loss_sum += loss * len(chosen)
            correct += (answers.argmax(1) == self.labels[chosen]).sum()
            step += 1
        result = EpochResult(loss_sum.item() / len(order), correct.item() / len(order))
        if not math.isfinite(result.loss):
            raise TrainingDiverged(
                f"training {task} diverged in epoch {len(self.history) + 1} of {task.epochs}"
                f" (loss {result.loss}); lower the recipe's learning_rate (now {recipe.learning_rate:g})"
                + ("" if task.precision == "fp32" else ", or train in fp32")
            )
        self.history.append(result)
        return result

    def state(self) -> dict[str, Any]:
        """All that the rest of the training depends on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self.order.get_state(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
            "history": [[result.loss, result.accuracy] for result in self.history],
        }

    def resume(self, state: dict[str, Any]) -> int:
        """Continue from ``state``; the number of epochs already done."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.order.set_state(state["order"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"])
        self.history = [EpochResult(loss, accuracy) for loss, accuracy in state["history"]]
        return len(self.history)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    precision: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Learn one batch; its mean loss [] and logits [N, n_classes] from before, detached."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        answers = model(images)
    loss = F.cross_entropy(answers.float(), labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach(), answers.detach()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators (weights and dropout draw from them) and put them back afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _key(task: TrainTask, images: NDArray[np.float32], labels: NDArray[np.int64], device: torch.device) -> str:
    """SHA-256 over the task, the data and what runs it: a checkpoint is of no use to anything else."""
    about = [dataclasses.asdict(task), torch.__version__, device.type]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for array in (images, labels):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _check(task: TrainTask, images: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    if images.shape[1:] != task.input_shape or images.dtype != np.float32:
        raise ValueError(
            f"training {task} takes float32 images [N, {', '.join(map(str, task.input_shape))}],"
            f" not {images.dtype} {list(images.shape)}"
        )
    if labels.shape != images.shape[:1] or labels.dtype != np.int64:
        raise ValueError(f"training {task} takes int64 labels [{len(images)}], not {labels.dtype} {list(labels.shape)}")
    if len(labels) < 2:
        raise ValueError(f"training {task} needs at least 2 images, not {len(labels)}")
    if labels.min() < 0 or labels.max() >= task.n_classes:
        raise ValueError(
            f"training {task}: labels go from {labels.min()} to {labels.max()}, not 0 to {task.n_classes - 1}"
        )
