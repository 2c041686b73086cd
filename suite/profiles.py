"""How much work a run does: sizes of the splits, length of training, number of shadows and of timed rounds."""

from __future__ import annotations

from dataclasses import dataclass

from suite.registry import did_you_mean
from victims.data.splits import SplitSizes


@dataclass(frozen=True, slots=True)
class Profile:
    """One scale. ``datasets`` are the default ones; ``epochs`` is multiplied by a recipe's own factor.

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


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("smoke", ("digits",), SplitSizes(members=300, auxiliary=700, test=300), 40, 2, 16, 40),
        Profile("quick", ("cifar10",), SplitSizes(members=2000, auxiliary=8000, test=2000), 25, 6, 64, 12),
        Profile("paper", ("cifar100",), SplitSizes(members=10000, auxiliary=24000, test=10000), 100, 16, 320, 20),
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
