"""How much work a run does: sizes of the splits, length of training, number of shadows and of timed rounds."""

from __future__ import annotations

from dataclasses import dataclass

from suite.registry import did_you_mean
from victims.data.splits import SplitSizes


@dataclass(frozen=True, slots=True)
class Profile:
    """One scale. ``datasets`` are the default ones; ``epochs`` is multiplied by a recipe's own factor.

    ``references``: the attacker's reference models, an even number. ``budgets``: queries that extraction may take.
    ``defense_epochs``: passes over the members by a defense that learns.
    ``queries``: at most so many candidates are put to the board, half of them members, and half as many test images;
    None puts all. What is trained does not depend on it.
    """

    name: str
    datasets: tuple[str, ...]
    sizes: SplitSizes
    epochs: int
    shadows: int
    latency_rounds: int
    defense_epochs: int = 12
    queries: int | None = None
    references: int = 4
    budgets: tuple[int, ...] = (50,)

    def __post_init__(self) -> None:
        if self.references < 4 or self.references % 2:
            raise ValueError(f"profile {self.name!r}: references come in pairs, at least two: {self.references}")


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "smoke",
            ("digits",),
            SplitSizes(members=300, auxiliary=700, test=300),
            40,
            2,
            16,
            defense_epochs=40,
            references=4,
            budgets=(50, 200),
        ),
        Profile(
            "quick",
            ("cifar10",),
            SplitSizes(members=2000, auxiliary=8000, test=2000),
            25,
            6,
            64,
            defense_epochs=12,
            references=16,
            budgets=(50, 500, 4000),
        ),
        Profile(
            "paper",
            ("cifar100",),
            SplitSizes(members=10000, auxiliary=24000, test=10000),
            100,
            16,
            320,
            defense_epochs=20,
            references=64,
            budgets=(50, 500, 5000, 20000),
        ),
    )
}


def get_profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        ValueError: there is none; says which come close.
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}{did_you_mean(name, PROFILES)}")
    return PROFILES[name]
