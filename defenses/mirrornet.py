"""MirrorNet: a public backbone that answers badly, and a light branch in the secure world that corrects it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np

from defenses.mirror.branch import mirrored
from defenses.mirror.choosing import Budget, Costed, affordable, best, costs, pareto_front, with_proxy
from defenses.mirror.proxy import Proxy
from defenses.mirror.reading import Backbone, backbone_of
from defenses.mirror.strategy import Strategy
from defenses.mirror.training import Settings, train_mirror
from suite import Deployment, Effort, Learned, LearnedDefense, OutputPolicy, Victim, defense, split
from suite.graph.trainable import with_weights
from suite.model import OnProgress
from suite.predicting import board_model
from suite.provenance import hash_json


@defense("mirrornet")
class MirrorNet(LearnedDefense):
    """BackboneNet in the normal world, Companion Partial Monitor (CPM) in the TEE, one way from one to the other.

    Liu et al., "MirrorNet: A TEE-Friendly Framework for Secure On-device DNN Inference", ICCAD 2023. Their abstract
    gives the parts: a backbone in the normal world of lower accuracy; a light mirrored branch in the secure world that
    monitors its intermediate results and rectifies its classification; a generator of strategies; an emulator that
    foretells the performance of each, and picks. 18.6 points between use with and without the TEE, 0.99 % overhead.

    Interpretation of what it leaves open:

    - The CPM reads maps at the ends of stages (where the size of the maps changes) and at one deeper place, brought to
      few pixels before they cross (averaged, all or a quarter of them: this can cost more than the switch), all in one
      call at the end of a query. It adds corrections to the backbone's logits.
    - The backbone begins as the victim. Behind the first map that the CPM reads it is trained on: its classifier to
      answer as well as it can, the layers before it to give the classifier nothing to answer from, and the CPM to say
      what the victim says. Before that map it keeps the victim's weights, which lie open.
    - Trained on the members alone. A strategy's accuracy is foretold by reading out its untrained branch in closed
      form on held-out members. The best strategy within the budget is trained, the Pareto front is recorded.
    - Where a model is so small that one world switch exceeds the budget, a branch may cost up to twice what the
      cheapest one does; the record says so (``within_budget``).

    Public features are there for anybody to train a classifier on: the accuracy without the TEE is what the files give
    as they are, not what an attacker with data and time can make of them.

    ``overhead_pct``: the budget of latency, percent of the unprotected model's on ``board`` (a name of
    ``suite.predicting``), of which ``reserve_pct`` percent stay unspent: the board model foretells with an error, and
    the best strategy tends to be one that it takes for too cheap. ``memory_kib``: of TEE memory; ``against``: weight of
    the loss that makes the backbone unhelpful, 0 leaves it to itself.
    """

    max_accuracy_loss_frac = 0.02
    layout_only = frozenset({"output"})

    output: str = "top1"
    overhead_pct: float = 1.0
    reserve_pct: float = 20.0
    memory_kib: int = 4096
    board: str = "qemu"
    against: float = 1.0

    def learn(self, victim: Victim, effort: Effort, scratch: Path, on_progress: OnProgress | None = None) -> Learned:
        """Choose a strategy, train its CPM and the backbone behind its first tap.

        Raises:
            ValueError: a parameter is out of range, the victim has no map to read, or no CPM fits the memory.
        """
        backbone, choice, kept = self._affordable(victim)
        costed = with_proxy(choice, Proxy(backbone, victim.members, effort.seed))
        front = pareto_front(costed)
        chosen = best(front)
        settings = Settings(effort.epochs, effort.seed, self.against)
        key = hash_json([victim.graph.fingerprint(), chosen.about(), dataclasses.asdict(settings)])
        weights, history = train_mirror(backbone, chosen.strategy, victim.members, settings, key, scratch, on_progress)
        model = board_model(self.board)
        about = {
            "strategy": chosen.about(),
            "within_budget": kept,
            "board_model": {"name": model.name, "source": model.source},
            "affordable": len(choice),
            "tried": len(costed),
            "pareto_front": [one.about() for one in front],
            "history": history,
        }
        return Learned(weights, about)

    def deploy(self, victim: Victim, learned: Learned | None = None) -> Deployment:
        """Backbone in the normal world, then the branch in one call; without ``learned``, the largest branch.

        Raises:
            ValueError: as ``learn``.
        """
        if learned is None:
            backbone, choice, _ = self._affordable(victim)
            strategy = max(choice, key=lambda one: one.memory_bytes).strategy
            weights: Mapping[str, np.ndarray] = {}
        else:
            backbone = backbone_of(victim.architecture, victim.graph)
            strategy, weights = _strategy(learned), learned.arrays
        whole = mirrored(backbone, strategy, seed=0)
        graph = with_weights(whole.graph, weights)
        return Deployment(split(graph, in_tee=whole.hidden), OutputPolicy.parse(self.output), backbone.logits)

    def _affordable(self, victim: Victim) -> tuple[Backbone, list[Costed], bool]:
        sound = 0 < self.overhead_pct <= 1000 and 0 <= self.reserve_pct < 100
        if not sound or self.memory_kib <= 0 or self.against < 0:
            raise ValueError(
                "mirrornet: overhead_pct is above 0 and at most 1000, reserve_pct from 0 and below 100, memory_kib"
                f" above 0, against not negative; got {self.overhead_pct:g}, {self.reserve_pct:g},"
                f" {self.memory_kib} and {self.against:g}"
            )
        backbone = backbone_of(victim.architecture, victim.graph)
        budget = Budget(self.overhead_pct / 100 * (1 - self.reserve_pct / 100), self.memory_kib << 10)
        choice, kept = affordable(costs(backbone, board_model(self.board)), budget)
        return backbone, choice, kept


def _strategy(learned: Learned) -> Strategy:
    told = cast(Mapping[str, object], learned.about["strategy"])
    taps = tuple(cast(list[str], told["taps"]))
    width, depth, grid, sampled = (cast(int, told[name]) for name in ("width", "depth", "grid", "sampled"))
    return Strategy(taps, width, depth, grid, bool(sampled))
