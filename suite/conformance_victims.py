"""The rules of victims."""

from __future__ import annotations

import numpy as np
import torch

from suite.conformance_rules import demand
from suite.conformance_samples import on_board
from suite.gates import MAX_REL_ERROR
from suite.graph.export import export_graph
from suite.graph.partition import split
from suite.model import Deployment
from suite.policy import OutputPolicy
from suite.spec import PluginSpec
from victims.inference import predict

SHAPES = (((1, 28, 28), 10), ((3, 32, 32), 100), ((3, 64, 64), 7))


def _shapes(spec: PluginSpec) -> tuple[tuple[tuple[int, int, int], int], ...]:
    """What a victim must take: images of every data set, or one size for one that is there for its cost alone."""
    return SHAPES[-1:] if spec.plugin.cost_only else SHAPES


def builds_for_every_shape(spec: PluginSpec) -> None:
    """28x28x1, 32x32x3 and 64x64x3 images, any number of classes, logits out."""
    for shape, n_classes in _shapes(spec):
        model = spec.plugin.cls(shape, n_classes).eval()
        with torch.inference_mode():
            out = model(torch.zeros(2, *shape))
        demand(tuple(out.shape) == (2, n_classes), spec, f"gives {tuple(out.shape)} for two {shape} images")


def board_equals_the_module_at_every_shape(spec: PluginSpec) -> None:
    """torch.export takes it, every operator is known, and the C code computes what the module computes."""
    for shape, n_classes in _shapes(spec):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = spec.plugin.cls(shape, n_classes).eval()
        images = np.random.default_rng(7).standard_normal((3, *shape)).astype(np.float32)
        graph = export_graph(model, shape, softmax=True)
        with on_board(Deployment(split(graph, in_tee=()), OutputPolicy.parse("probs"))) as (_, session):
            ours = session.infer(images).outputs
        expected = predict(model, images)
        error = float((np.abs(ours - expected).max(axis=1) / expected.max(axis=1)).max())
        demand(error <= MAX_REL_ERROR, spec, f"the board is {error:.1e} off PyTorch for {shape} images (relative)")
