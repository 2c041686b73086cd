"""Every combination of victim, data set, defense, measure, board and seed, as cells with readable names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from suite.profiles import Profile
from suite.registry import PluginError
from suite.spec import PluginSpec

LATENCY = "latency"
"""The measure of a cell that times a deployment instead of attacking it."""


def cell_name(victim: str, dataset: str, defense: str, measure: str, board: str, *, seed: int) -> str:
    """The name of a cell, see ``Cell.id``, of the short names that it is made of."""
    name = "-".join((victim, dataset, defense, measure, board))
    return name if seed == 0 else f"{name}-seed{seed}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the matrix. ``attack`` is None where the cell measures latency."""

    victim: PluginSpec
    dataset: str
    defense: PluginSpec
    attack: PluginSpec | None
    board: str
    profile: Profile
    seed: int

    @property
    def measure(self) -> str:
        """Attack slug, or ``latency``."""
        return self.attack.slug if self.attack else LATENCY

    @property
    def id(self) -> str:
        """The name in pytest and of the record: ``alexnet-cifar10-darknetz_k2-shadow-emulated[-seed1]``."""
        return cell_name(self.victim.slug, self.dataset, self.defense.slug, self.measure, self.board, seed=self.seed)

    @property
    def place(self) -> tuple[str, str, str]:
        """(victim, data set, defense): what a deployment depends on, seeds apart."""
        return (self.victim.slug, self.dataset, self.defense.slug)


def _measured(cell: Cell) -> str:
    return cell.attack.text if cell.attack else "the measure of latency"


def build(
    *,
    victims: Iterable[PluginSpec],
    datasets: Sequence[str],
    defenses: Iterable[PluginSpec],
    attacks: Iterable[PluginSpec],
    board: str,
    profile: Profile,
    seeds: Sequence[int],
) -> list[Cell]:
    """All cells, victims outermost, the measures of one deployment next to one another.

    Raises:
        PluginError: two specifications share a name.
    """
    defenses, measures = list(defenses), [*attacks, None]
    cells = [
        Cell(victim, dataset, defense, attack, board, profile, seed)
        for victim in victims
        for dataset in datasets
        for seed in seeds
        for defense in defenses
        for attack in measures
    ]
    seen: dict[str, Cell] = {}
    for cell in cells:
        other = seen.setdefault(cell.id, cell)
        if other != cell:
            both = " and ".join(dict.fromkeys(f"{one.defense.text} with {_measured(one)}" for one in (other, cell)))
            raise PluginError(f"two cells are named {cell.id!r}: {both}; change a parameter's text or name")
    return list(seen.values())
