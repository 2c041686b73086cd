"""The public backbone: the victim's architecture, trained on public images alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from suite.graph.export import export_graph
from suite.graph.ir import Graph
from suite.model import LabelledImages
from suite.provenance import hash_arrays, hash_json
from suite.registry import REGISTRY, Kind
from victims.checkpoint import read_checkpoint, write_checkpoint
from victims.precision import choose_precision
from victims.task import TrainTask, load_model
from victims.training import Progress, train

ROTATIONS, LABELS = "rotations", "labels"
TASKS = (ROTATIONS, LABELS)
_TURNS = 0x7E


def pretrained(
    architecture: str,
    public: LabelledImages,
    n_classes: int,
    task: str,
    epochs: int,
    seed: int,
    scratch: Path,
    on_progress: Callable[[Progress], None],
) -> Graph:
    """The exported backbone, its classifier included. A pure function of the arguments before ``scratch``.

    ``scratch`` keeps the training's checkpoint, and the result once there is one.

    Raises:
        TrainingDiverged: the loss is not finite.
    """
    images, labels, classes = public.images, public.labels, n_classes
    if task == ROTATIONS:
        images, labels, classes = turned(public.images, seed)
    shape = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))
    recipe = REGISTRY.get(Kind.VICTIM, architecture).options["recipe"]
    plan = TrainTask(architecture, shape, classes, recipe, epochs, seed, choose_precision())
    done = scratch / "backbone.pt"
    key = hash_json([repr(plan), hash_arrays((images, labels))])
    state = read_checkpoint(done, key)
    if state is None:
        state = train(plan, images, labels, checkpoint=scratch / "pretext.pt", on_progress=on_progress).state_dict
        write_checkpoint(done, key, state)
    return export_graph(load_model(plan, state), shape, softmax=False)


def turned(images: NDArray[np.float32], seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
    """Each image turned by a random quarter turn (half turn, where it is no square), which one, and of how many.

    Gidaris et al., "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018.
    """
    step = 1 if images.shape[2] == images.shape[3] else 2
    classes = 4 // step
    labels = np.random.default_rng((_TURNS, seed)).integers(0, classes, len(images))
    turns = [np.rot90(image, step * label, (1, 2)) for image, label in zip(images, labels, strict=True)]
    return np.stack(turns).astype(np.float32), labels.astype(np.int64), classes
