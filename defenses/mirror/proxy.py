"""How well a strategy may do, without training it: its branch with random weights, read out by ridge regression."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from defenses.mirror.branch import CORRECTION, mirrored, read_at
from defenses.mirror.reading import Backbone
from defenses.mirror.strategy import GRIDS, Strategy
from suite.graph.building import GraphBuilder
from suite.graph.ir import subgraph
from suite.graph.trainable import TrainableGraph, run_in_batches
from suite.model import LabelledImages
from victims.inference import one_thread

PROBE_MEMBERS = 600
HELD_OUT = 4
"""One member in so many is held out."""
_RIDGE = 1e-2


class Proxy:
    """Agreement with the victim, on members held out from the read-out, of a branch whose weights are random.

    Random features with a closed-form read-out (Rahimi and Recht 2007) rank branches by what they can see: where
    they read, how wide they are, how finely. The maps are the victim's own, and the members are what it was trained
    on, so the figure is a rank and no estimate of accuracy.
    """

    def __init__(self, backbone: Backbone, members: LabelledImages, seed: int) -> None:
        self.backbone, self.seed = backbone, seed
        builder = GraphBuilder(backbone.graph, None)
        readings = itertools.product(backbone.readable, GRIDS, (False, True))
        crossing = [read_at(builder, *reading) for reading in readings]
        wanted = tuple(dict.fromkeys((*crossing, backbone.logits)))
        with one_thread():
            self.read = run_in_batches(builder.graph(wanted), members.images[:PROBE_MEMBERS])
        answers = self.read[backbone.logits]
        self.answers, self.n_classes = answers.argmax(1), answers.shape[1]
        self.held_out = torch.arange(len(answers)) % HELD_OUT == 0

    def __call__(self, strategy: Strategy) -> float:
        """The proxy of ``strategy``, 0 to 1."""
        with one_thread(), torch.no_grad():
            return self._agreement(self._features(strategy))

    def _features(self, strategy: Strategy) -> Tensor:
        whole = mirrored(self.backbone, strategy, self.seed)
        branch = whole.branch()
        module = TrainableGraph(subgraph(branch, [n for n in branch.nodes if n.name != CORRECTION]), ())
        read = {name: self.read[name] for name in whole.crossing}
        (made,) = module(
            {name: maps / maps.pow(2).mean().sqrt().clamp(min=1e-6) for name, maps in read.items()}
        ).values()
        return torch.cat([made, torch.ones(len(made), 1)], 1)

    def _agreement(self, features: Tensor) -> float:
        fitted, tested = features[~self.held_out], features[self.held_out]
        wanted = F.one_hot(self.answers[~self.held_out], self.n_classes).float()
        # Of the two equal forms of ridge regression the smaller system is solved.
        if len(fitted) < fitted.shape[1]:
            inner = fitted @ fitted.T
            weights = fitted.T @ torch.linalg.solve(_loaded(inner), wanted)
        else:
            weights = torch.linalg.solve(_loaded(fitted.T @ fitted), fitted.T @ wanted)
        agreed = (tested @ weights).argmax(1) == self.answers[self.held_out]
        return float(agreed.float().mean())


def _loaded(matrix: Tensor) -> Tensor:
    return matrix + _RIDGE * matrix.diagonal().mean() * torch.eye(len(matrix))
