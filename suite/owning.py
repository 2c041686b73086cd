"""The victim as its owner has it: what a defense is given."""

from __future__ import annotations

import functools

import torch

from suite import models
from suite.graph.export import export_graph
from suite.model import LabelledImages, Victim
from suite.models import TrainJob
from suite.store import Store
from victims.task import build_model


@functools.lru_cache(maxsize=2)
def trained_victim(store: Store, job: TrainJob) -> Victim:
    """The victim with its module and exported graph; trains it if the store does not have it."""
    module = models.load_trained(models.train_job(store, job), job)
    material = job.material()
    dataset = material.dataset
    images = (material.members, material.auxiliary)
    return _victim(job.architecture, dataset.input_shape, dataset.n_classes, module, *images)


@functools.lru_cache(maxsize=8)
def untrained_victim(architecture: str, input_shape: tuple[int, int, int], n_classes: int) -> Victim:
    """A victim with random weights and no images: enough to see what a defense would hide and whether it fits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build_model(architecture, input_shape, n_classes).eval()
    nobody = LabelledImages(torch.empty(0, *input_shape).numpy(), torch.empty(0, dtype=torch.int64).numpy())
    return _victim(architecture, input_shape, n_classes, module, nobody, nobody)


def _victim(
    architecture: str,
    shape: tuple[int, int, int],
    n_classes: int,
    module: torch.nn.Module,
    members: LabelledImages,
    public: LabelledImages,
) -> Victim:
    graph = export_graph(module, shape, softmax=True)
    return Victim(architecture, shape, n_classes, module, graph, members, public)
