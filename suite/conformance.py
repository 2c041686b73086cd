"""What every plugin must keep, in the tree or not. ``leakboard check`` and tests/test_conformance.py run it.

Each check takes one plugin with its parameters and raises ``ConformanceError`` with one line when it does not hold.
"""

from __future__ import annotations

from suite.conformance_boards import (
    answers_as_pytorch_does,
    counts_what_happens,
    is_one_device,
    names_the_memory_limit,
    reports_a_lost_agent,
    says_what_it_is,
)
from suite.conformance_defenses import (
    board_equals_pytorch,
    deploys_the_same_twice,
    hides_what_it_hides,
    is_surveyed_before_it_learns,
    learns_the_same_after_an_interruption,
    leaves_the_victim_alone,
)
from suite.conformance_exposure import measures_the_same_twice
from suite.conformance_extraction import (
    builds_a_model_within_its_budget,
    leaves_its_view_alone,
    steals_the_same_twice,
)
from suite.conformance_membership import (
    finds_nothing_where_nothing_is,
    infers_the_same_twice,
    leaves_the_observation_alone,
    scores_are_one_finite_number_each,
)
from suite.conformance_rules import Check, ConformanceError, docstring_cites_its_source
from suite.conformance_victims import board_equals_the_module_at_every_shape, builds_for_every_shape
from suite.model import Goal
from suite.registry import REGISTRY, Kind, Plugin, discover
from suite.spec import PluginSpec, parse

__all__ = [
    "ATTACK_CHECKS", "CHECKS", "Check", "ConformanceError", "answers_as_pytorch_does", "board_equals_pytorch",
    "board_equals_the_module_at_every_shape", "builds_a_model_within_its_budget", "builds_for_every_shape", "cases",
    "checks_of", "counts_what_happens", "deploys_the_same_twice", "docstring_cites_its_source",
    "finds_nothing_where_nothing_is", "hides_what_it_hides", "infers_the_same_twice", "is_one_device",
    "is_surveyed_before_it_learns", "learns_the_same_after_an_interruption", "leaves_its_view_alone",
    "leaves_the_observation_alone", "leaves_the_victim_alone", "measures_the_same_twice", "names_the_memory_limit",
    "reports_a_lost_agent", "says_what_it_is", "scores_are_one_finite_number_each", "steals_the_same_twice",
]  # fmt: skip

CHECKS: dict[Kind, tuple[Check, ...]] = {
    Kind.VICTIM: (docstring_cites_its_source, builds_for_every_shape, board_equals_the_module_at_every_shape),
    Kind.DEFENSE: (
        docstring_cites_its_source,
        learns_the_same_after_an_interruption,
        is_surveyed_before_it_learns,
        deploys_the_same_twice,
        leaves_the_victim_alone,
        board_equals_pytorch,
        hides_what_it_hides,
    ),
    Kind.ATTACK: (docstring_cites_its_source,),
    Kind.BOARD: (
        says_what_it_is,
        answers_as_pytorch_does,
        counts_what_happens,
        names_the_memory_limit,
        reports_a_lost_agent,
        is_one_device,
    ),
}
"""The rules of a kind, whatever its plugin is after."""

ATTACK_CHECKS: dict[Goal, tuple[Check, ...]] = {
    Goal.MEMBERSHIP: (
        infers_the_same_twice,
        scores_are_one_finite_number_each,
        leaves_the_observation_alone,
        finds_nothing_where_nothing_is,
    ),
    Goal.EXTRACTION: (builds_a_model_within_its_budget, steals_the_same_twice, leaves_its_view_alone),
    Goal.EXPOSURE: (measures_the_same_twice,),
}
"""Those that come with what an attack is after."""


def checks_of(plugin: Plugin) -> tuple[Check, ...]:
    """All rules that a plugin must keep."""
    if plugin.kind is not Kind.ATTACK:
        return CHECKS[plugin.kind]
    return CHECKS[Kind.ATTACK] + ATTACK_CHECKS.get(plugin.cls.goal, ())  # type: ignore[attr-defined]


def cases(kind: Kind, name: str) -> list[tuple[Check, PluginSpec]]:
    """Every rule on every variant of one plugin, which is installed or of the tree: for a package's own tests.

    Raises:
        PluginError: there is none of that name; installing its package brings it.
    """
    discover()
    return [(rule, spec) for rule in checks_of(REGISTRY.get(kind, name)) for spec in parse(kind, name)]
