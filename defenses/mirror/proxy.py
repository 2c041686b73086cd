"""How well a strategy may do, without training it: its branch with random weights, read out by ridge regression."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from defenses.mirror.branch import PREFIX, mirrored
from defenses.mirror.reading import Backbone
from defenses.mirror.strategy import GRIDS, Strategy
from defenses.mirror.training import maps_of, pooled_like
from suite.graph.ir import subgraph
from suite.graph.trainable import TrainableGraph
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
        with one_thread():
            wanted = (*backbone.readable, backbone.logits)
            self.maps = maps_of(backbone, wanted, members.images[:PROBE_MEMBERS], max(GRIDS))
        self.held_out = torch.arange(len(self.maps[backbone.logits])) % HELD_OUT == 0
        self.answers = self.maps[backbone.logits].argmax(1)

    def __call__(self, strategy: Strategy) -> float:
        """The proxy of ``strategy``, 0 to 1."""
        with one_thread(), torch.no_grad():
            return self._agreement(self._features(strategy))

    def _features(self, strategy: Strategy) -> Tensor:
        whole = mirrored(self.backbone, strategy, self.seed)
        branch = whole.branch()
        module = TrainableGraph(subgraph(branch, [n for n in branch.nodes if n.name != f"{PREFIX}correction"]), ())
        read = {}
        for tap, crossing in zip(strategy.taps, whole.crossing, strict=True):
            pooled = pooled_like(self.maps[tap], whole.graph.shapes[crossing])
            read[crossing] = pooled / pooled.pow(2).mean().sqrt().clamp(min=1e-6)
        (made,) = module(read).values()
        return torch.cat([made, torch.ones(len(made), 1)], 1)

    def _agreement(self, features: Tensor) -> float:
        fitted, tested = features[~self.held_out], features[self.held_out]
        n_classes = self.maps[self.backbone.logits].shape[1]
        wanted = F.one_hot(self.answers[~self.held_out], n_classes).float()
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
