"""Trained models, victims and shadows alike: made once per (task, data), kept in the store."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from suite import augment
from suite.augment import KEPT, view_of
from suite.material import Material, prepare
from suite.model import LabelledImages
from suite.profiles import Profile
from suite.provenance import code_hash, hash_arrays, hash_file, versions
from suite.registry import COST_ONLY, REGISTRY, Kind, PluginError
from suite.store import Key, Store
from victims.precision import choose_precision
from victims.training import Progress, TrainTask, load_model, predict, train

_FIRST_SEED = {"victim": 0, "shadow": 1, "reference": 500_000}  # no two models of a run begin alike


_TRAINED_ON = {"victim": "members", "shadow": "auxiliary", "reference": "pool"}


class Role(StrEnum):
    """What a model is trained for."""

    VICTIM = "victim"
    SHADOW = "shadow"  # on the attacker's own images
    REFERENCE = "reference"  # on half of the images whose membership is in question


@dataclass(frozen=True, slots=True)
class TrainJob:
    """One model to train: a victim, or the attacker's shadow or reference model number ``index``. Picklable."""

    architecture: str
    dataset: str
    profile: Profile
    seed: int
    role: Role = Role.VICTIM
    index: int = 0

    def __str__(self) -> str:
        role = self.role if self.role is Role.VICTIM else f"{self.role} {self.index + 1}"
        return f"{self.architecture} {role} on {self.dataset}" + (f", seed {self.seed}" if self.seed else "")

    def material(self) -> Material:
        """The images of the run that the job belongs to."""
        return prepare(self.dataset, self.seed, self.profile)

    def task(self) -> TrainTask:
        """What to train."""
        material = self.material()
        plugin = REGISTRY.get(Kind.VICTIM, self.architecture)
        if plugin.cost_only:
            raise PluginError(f"victim {self.architecture!r} ({plugin.where}) has no training recipe: {COST_ONLY}")
        recipe = plugin.options["recipe"]
        return TrainTask(
            architecture=self.architecture,
            input_shape=material.dataset.input_shape,
            n_classes=material.dataset.n_classes,
            recipe=recipe,
            epochs=recipe.epochs(self.profile.epochs),
            seed=1_000_000 * self.seed + _FIRST_SEED[self.role] + self.index,
            precision=choose_precision(),
        )

    def split(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions that a model of the attacker's is, and is not, trained on: of its auxiliary images, or of the pool.

        Raises:
            ValueError: the victim is not trained on the attacker's images.
        """
        if self.role is Role.VICTIM:
            raise ValueError(f"{self} is trained on the members")
        if self.role is Role.SHADOW:
            return self.material().shadow_split(self.seed, self.index)
        return self.material().reference_split(self.seed, self.index)

    def key(self) -> Key:
        """Everything the trained model depends on."""
        material, plugin = self.material(), REGISTRY.get(Kind.VICTIM, self.architecture)
        sizes = len(material.pool), len(material.auxiliary), len(material.members)
        chosen = [] if self.role is Role.VICTIM else [_split_hash(self, sizes)]
        parts: dict[str, Any] = {
            "task": dataclasses.asdict(self.task()),
            "images": [material.training_fingerprint, _TRAINED_ON[self.role], *chosen],
            "code": code_hash("victims.training", "victims.inference", plugin.cls.__module__, roots=("victims",)),
            "versions": {name: versions()[name] for name in ("torch", "numpy")},
            "device": "cuda" if torch.cuda.is_available() else "cpu",
        }
        if self.role is Role.REFERENCE:
            # That file alone: as a module it would bring the whole harness, and each change of that would train anew.
            parts["views"] = hash_file(Path(augment.__file__))
        return Key("model", parts)


@functools.lru_cache(maxsize=4096)
def _split_hash(job: TrainJob, _sizes: tuple[int, ...]) -> str:
    """Asked for thousands of times in a run; a split depends on the job and on how many images there are."""
    return hash_arrays(job.split())


def train_job(
    store: Store, job: TrainJob, on_progress: Callable[[Progress], None] | None = None, *, wait: bool = True
) -> Path:
    """The store entry of a trained model, trained now if it is not there; an interrupted training goes on.

    The entry holds ``model.pt`` (a state dict), ``training.json``, and for shadows ``probabilities.npy``: float32
    [2n, n_classes], what the model answers for the n images it was trained on and the n it was not. For reference
    models this is float32 [KEPT, pool, n_classes], for the first views of the images of the pool in their order, and
    ``population.npy`` [P, n_classes] for the population.

    Raises:
        TrainingDiverged: the loss is not finite.
        Busy: another process is training it, and ``wait`` is false.
        StoreError, DataError: see there.
    """

    def make(folder: Path, scratch: Path) -> None:
        material, task = job.material(), job.task()
        images, others = _images_of(job, material)
        trained = train(
            task, images.images, images.labels, checkpoint=scratch / "checkpoint.pt", on_progress=on_progress
        )
        model = load_model(task, trained.state_dict)
        outside = predict(model, others.images)
        about = {
            "task": dataclasses.asdict(task),
            "train_accuracy_frac": trained.train_accuracy,
            "test_accuracy_frac": float((outside.argmax(1) == others.labels).mean()),
            "parameters": sum(p.numel() for p in model.parameters()),
            "history": [dataclasses.asdict(epoch) for epoch in trained.history],
        }
        buffer = io.BytesIO()  # torch would hide a full disk in an error of its own
        torch.save(trained.state_dict, buffer)
        (folder / "model.pt").write_bytes(buffer.getvalue())
        (folder / "training.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        if job.role is Role.SHADOW:
            np.save(folder / "probabilities.npy", np.concatenate([predict(model, images.images), outside]))
        elif job.role is Role.REFERENCE:
            views = [predict(model, view_of(material.pool.images, index)) for index in range(KEPT)]
            np.save(folder / "probabilities.npy", np.stack(views))
            np.save(folder / "population.npy", predict(model, material.population.images))

    return store.get(job.key(), make, wait=wait)


def _images_of(job: TrainJob, material: Material) -> tuple[LabelledImages, LabelledImages]:
    """What a model is trained on, and what it is tested on."""
    if job.role is Role.VICTIM:
        return material.members, material.test
    inside, outside = job.split()
    take = material.auxiliary_at if job.role is Role.SHADOW else material.pool_at
    return take(inside), take(outside)


def load_trained(entry: Path, job: TrainJob) -> torch.nn.Module:
    """The model of a store entry, on the CPU, in eval mode."""
    return load_model(job.task(), torch.load(entry / "model.pt", weights_only=True))


def about(entry: Path) -> dict[str, Any]:
    """What ``training.json`` of a store entry says."""
    content: dict[str, Any] = json.loads((entry / "training.json").read_text(encoding="utf-8"))
    return content
