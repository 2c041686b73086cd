"""What every plugin must keep, in the tree or not. ``leakboard check`` and tests/test_conformance.py run it.

Each check takes one plugin with its parameters and raises ``ConformanceError`` with one line when it does not hold.
"""

from __future__ import annotations

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
from suite.registry import Kind, Plugin

__all__ = [
    "ATTACK_CHECKS", "CHECKS", "Check", "ConformanceError", "board_equals_pytorch",
    "board_equals_the_module_at_every_shape", "builds_a_model_within_its_budget", "builds_for_every_shape",
    "checks_of", "deploys_the_same_twice", "docstring_cites_its_source", "finds_nothing_where_nothing_is",
    "hides_what_it_hides", "infers_the_same_twice", "is_surveyed_before_it_learns",
    "learns_the_same_after_an_interruption", "leaves_its_view_alone", "leaves_the_observation_alone",
    "leaves_the_victim_alone", "measures_the_same_twice",
    "scores_are_one_finite_number_each", "steals_the_same_twice",
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
