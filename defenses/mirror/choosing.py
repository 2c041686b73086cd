"""The choice of a strategy: predicted cost, the Pareto front, and the best one that a budget allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from defenses.mirror.branch import mirrored
from defenses.mirror.reading import Backbone
from defenses.mirror.strategy import Strategy, strategies
from suite.graph.partition import split
from suite.predicting import BoardModel

FINALISTS = 8


@dataclass(frozen=True, slots=True)
class Budget:
    """What a branch may cost: latency as a fraction of the unprotected model's, TA memory in bytes."""

    overhead_frac: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Costed:
    """A strategy with its predicted cost, and a proxy of its accuracy (0 to 1) once one was found."""

    strategy: Strategy
    overhead_frac: float
    memory_bytes: int
    proxy_frac: float = 0.0

    def about(self) -> dict[str, object]:
        """For the record."""
        return {
            "taps": list(self.strategy.taps),
            "width": self.strategy.width,
            "depth": self.strategy.depth,
            "grid": self.strategy.grid,
            "sampled": self.strategy.sampled,
            "overhead_frac": self.overhead_frac,
            "memory_bytes": self.memory_bytes,
            "proxy_frac": self.proxy_frac,
        }


def costs(backbone: Backbone, board: BoardModel) -> list[Costed]:
    """Every strategy with what it would cost on ``board``, against the backbone alone."""
    unprotected = board.predict(split(backbone.graph, in_tee=())).total_us
    found = []
    for strategy in strategies(backbone):
        whole = mirrored(backbone, strategy, seed=None)
        predicted = board.predict(split(whole.graph, in_tee=whole.hidden))
        found.append(Costed(strategy, predicted.total_us / unprotected - 1, predicted.memory.peak_bytes))
    return found


def affordable(found: Sequence[Costed], budget: Budget) -> tuple[list[Costed], bool]:
    """The strategies within ``budget``, and whether its latency could be kept.

    A small model may not be able to pay for a single switch: then strategies may cost up to twice what the cheapest one
    does. Memory is never exceeded.

    Raises:
        ValueError: no strategy fits the memory.
    """
    fitting = [one for one in found if one.memory_bytes <= budget.memory_bytes]
    if not fitting:
        least = min(one.memory_bytes for one in found)
        raise ValueError(f"the smallest companion branch takes {least} bytes of the TEE, not {budget.memory_bytes}")
    least_frac = min(one.overhead_frac for one in fitting)
    kept = least_frac <= budget.overhead_frac
    limit = budget.overhead_frac if kept else 2 * least_frac
    return [one for one in fitting if one.overhead_frac <= limit], kept


def with_proxy(found: Sequence[Costed], proxy: Callable[[Strategy], float]) -> list[Costed]:
    """The most promising of ``found``, with a proxy of accuracy each.

    Where a branch reads, and how finely, matters most: of every choice of taps and reading one strategy of middling
    cost is tried, and all widths and depths of the ``FINALISTS`` best.
    """
    groups: dict[tuple[tuple[str, ...], int, bool], list[Costed]] = {}
    for one in sorted(found, key=lambda one: (one.overhead_frac, one.memory_bytes)):
        groups.setdefault((one.strategy.taps, one.strategy.grid, one.strategy.sampled), []).append(one)
    tried = {place: proxy(group[len(group) // 2].strategy) for place, group in groups.items()}
    finalists = sorted(groups, key=lambda place: -tried[place])[:FINALISTS]
    return [replace(one, proxy_frac=proxy(one.strategy)) for place in finalists for one in groups[place]]


def pareto_front(found: Sequence[Costed]) -> list[Costed]:
    """The strategies that no other beats: one that is no worse in overhead, memory and proxy, and better in one.

    Of several equal in all three the first stands for all. In order of overhead.
    """
    ordered = sorted(found, key=lambda one: (one.overhead_frac, one.memory_bytes, -one.proxy_frac))
    front: list[Costed] = []
    for one in ordered:  # whoever beats it comes before it
        if not any(o.memory_bytes <= one.memory_bytes and o.proxy_frac >= one.proxy_frac for o in front):
            front.append(one)
    return front


def best(front: Sequence[Costed]) -> Costed:
    """The highest proxy; of equals the fastest, then the smallest."""
    return max(front, key=lambda one: (one.proxy_frac, -one.overhead_frac, -one.memory_bytes))
