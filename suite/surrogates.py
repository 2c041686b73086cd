"""Training surrogates: models that an attacker teaches by a deployment's answers."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from suite.graph.module import GraphModule
from suite.policy import Outputs
from suite.provenance import code_hash, hash_arrays, hash_json, versions
from suite.store import Key, Store
from victims.checkpoint import read_checkpoint, write_checkpoint
from victims.inference import one_thread
from victims.recipe import Recipe
from victims.small_maps import accelerate

CHECKPOINT_EVERY_S = 20.0
_PART = 256  # images that layers which do not learn are shown at a time
_MOST_BYTES = 1 << 29  # of what they make of all images; where it is more, they work in every epoch


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a surrogate is to learn. ``module``, where it begins, stays as it is; in eval mode, to logits.

    ``images`` float32 [N, ...]; ``targets`` float32 [N, n_classes], rows that sum to 1, for the cross-entropy. ``rate``
    is Adam's (Kingma and Ba 2015) at its highest; it follows one cycle, as ``victims.recipe.Recipe`` has it.
    """

    module: nn.Module
    images: NDArray[np.float32]
    targets: NDArray[np.float32]
    epochs: int
    rate: float
    batch: int = 64
    seed: int = 0

    @property
    def digest(self) -> str:
        """SHA-256, hex, over everything that the outcome depends on, except for code and versions."""
        state = [tensor.numpy() for tensor in self.module.state_dict().values()]
        graphs = [part.graph.fingerprint() for part in self.module.modules() if isinstance(part, GraphModule)]
        learned = [name for name, parameter in self.module.named_parameters() if parameter.requires_grad]
        arrays = hash_arrays([*state, self.images, self.targets])
        settings = [self.epochs, self.rate, self.batch, self.seed]
        return hash_json([repr(self.module), graphs, learned, arrays, settings])


Teacher = Callable[[Lesson], nn.Module]


def epochs_for(n: int, passes: int = 12000, least: int = 3, most: int = 30) -> int:
    """How often to show ``n`` answered images: about ``passes`` images in all, few answers more often than many.

    Learning on does little for fidelity: on AlexNet, half as much costs 0.02 of it with 4,000 answers.
    """
    return max(least, min(most, round(passes / max(n, 1))))


def targets_of(answers: Outputs, n_classes: int) -> NDArray[np.float32]:
    """What a deployment let out, as probabilities [N, n_classes]: rounded or cut ones are scaled to sum to 1.

    A label is taken for certain. Where nothing is left, every class is as likely.
    """
    if answers.ndim == 1:
        return np.eye(n_classes, dtype=np.float32)[answers.astype(np.int64)]
    wide = answers.astype(np.float64)
    sums = wide.sum(axis=1, keepdims=True)
    shares = np.where(sums > 0, wide / np.where(sums > 0, sums, 1.0), 1.0 / n_classes)
    return shares.astype(np.float32)


def teach(lesson: Lesson, checkpoint: Path | None = None) -> nn.Module:
    """The module after the lesson, on the CPU, in eval mode. Trained parameters are rounded to half precision.

    On a CPU a pure function of the lesson, for one version of PyTorch and one instruction set, on one thread. With
    ``checkpoint`` an interrupted lesson goes on where it was.

    Raises:
        ValueError: the loss is not finite, images and targets do not fit, or there are none.
    """
    if len(lesson.images) != len(lesson.targets) or not len(lesson.images):
        raise ValueError(f"a lesson of {len(lesson.images)} images and {len(lesson.targets)} targets")
    with one_thread(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(lesson.seed)
        run = _Run(lesson)
        state = read_checkpoint(checkpoint, lesson.digest) if checkpoint else None
        if state is not None:
            run.resume(state)
        saved = time.monotonic()
        for epoch in range(run.done + 1, lesson.epochs + 1):
            run.epoch()
            if checkpoint and epoch < lesson.epochs and time.monotonic() - saved >= CHECKPOINT_EVERY_S:
                write_checkpoint(checkpoint, lesson.digest, run.state())
                saved = time.monotonic()
        return _finished(lesson.module, run.learned())


def kept_in(store: Store) -> Teacher:
    """A teacher that keeps what was learned: deployments that answer the same, to the bit, share their surrogates."""

    def taught(lesson: Lesson) -> nn.Module:
        def make(folder: Path, scratch: Path) -> None:
            module = teach(lesson, scratch / "lesson.pt")
            learned = {name: p.detach().half() for name, p in module.named_parameters() if p.requires_grad}
            torch.save(learned | dict(module.named_buffers()), folder / "learned.pt")
            (folder / "lesson.json").write_text(json.dumps({"epochs": lesson.epochs, "images": len(lesson.images)}))

        learned = torch.load(store.get(_key(lesson), make) / "learned.pt", weights_only=True)
        return _finished(lesson.module, learned)

    return taught


def _key(lesson: Lesson) -> Key:
    parts = {
        "lesson": lesson.digest,
        "code": code_hash(type(lesson.module).__module__, "suite.surrogates", roots=("suite", "victims")),
        "versions": {name: versions()[name] for name in ("torch", "numpy")},
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }
    return Key("surrogate", parts)


def _finished(start: nn.Module, learned: dict[str, Tensor]) -> nn.Module:
    module = copy.deepcopy(start)
    module.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in learned.items()}, strict=False
    )
    return module.eval()


def _lasting(module: nn.Module, images: Tensor) -> tuple[Callable[[dict[str, Tensor]], Tensor], dict[str, Tensor]]:
    """How to get an answer of ``module``, and from what: as much of its work as stays the same in every epoch, done."""
    if isinstance(module, GraphModule) and module.prepared_bytes * len(images) <= _MOST_BYTES:
        with torch.no_grad():
            parts = [module.prepare(_channels_last(part)) for part in images.tensor_split(1 + len(images) // _PART)]
        return module.finish, {name: _channels_last(torch.cat([part[name] for part in parts])) for name in parts[0]}
    return lambda shown: module(shown["images"]), {"images": _channels_last(images)}


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


class _Run:
    """One lesson under way."""

    def __init__(self, lesson: Lesson) -> None:
        self.lesson, self.done = lesson, 0
        gpu = torch.cuda.is_available()
        self.device = torch.device("cuda" if gpu else "cpu")
        self.module = copy.deepcopy(lesson.module).train().to(self.device)
        # a copy: torch warns about arrays that must not be written
        images = torch.tensor(lesson.images, device=self.device)
        if not gpu:
            accelerate(self.module)
        self.answer, self.shown = _lasting(self.module, images)
        self.targets = torch.tensor(lesson.targets, device=self.device)
        parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(parameters, lr=lesson.rate, fused=True)
        self.order = torch.Generator().manual_seed(lesson.seed)
        size = max(2, min(lesson.batch, len(lesson.images) // 4))
        self.recipe = Recipe(learning_rate=lesson.rate, batch_size=size)
        # even parts: batch norm cannot train on the single image that may be left over
        self.batches = max(1, len(lesson.images) // size)

    def epoch(self) -> None:
        """Show every image once."""
        order = torch.randperm(len(self.targets), generator=self.order).to(self.device)
        total = torch.zeros((), device=self.device)
        for i, chosen in enumerate(order.tensor_split(self.batches)):
            step, steps = self.done * self.batches + i, self.lesson.epochs * self.batches
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate_at(step, steps)
            shown = {name: tensor[chosen] for name, tensor in self.shown.items()}
            loss = F.cross_entropy(self.answer(shown), self.targets[chosen])
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total += loss.detach()
        if not torch.isfinite(total):
            raise ValueError(f"a surrogate's loss is not finite in epoch {self.done + 1}: lower its rate")
        self.done += 1

    def learned(self) -> dict[str, Tensor]:
        """Parameters that were to learn, rounded, and all buffers."""
        found = {name: p.detach().half() for name, p in self.module.named_parameters() if p.requires_grad}
        return {name: value.cpu().contiguous() for name, value in (found | dict(self.module.named_buffers())).items()}

    def state(self) -> dict[str, object]:
        """All that the rest of the lesson depends on."""
        return {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self.order.get_state(),
            "rng": torch.get_rng_state(),
            "done": self.done,
        }

    def resume(self, state: dict[str, object]) -> None:
        """Go on from ``state``."""
        self.module.load_state_dict(state["module"])  # type: ignore[arg-type]
        self.optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        self.order.set_state(state["order"])  # type: ignore[arg-type]
        torch.set_rng_state(state["rng"])  # type: ignore[arg-type]
        self.done = int(state["done"])  # type: ignore[call-overload]
