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
from suite.conformance_membership import (
    finds_nothing_where_nothing_is,
    infers_the_same_twice,
    leaves_the_observation_alone,
    scores_are_one_finite_number_each,
)
from suite.conformance_rules import Check, ConformanceError, docstring_cites_its_source
from suite.conformance_victims import board_equals_the_module_at_every_shape, builds_for_every_shape
from suite.registry import Kind

__all__ = [
    "CHECKS", "Check", "ConformanceError", "board_equals_pytorch", "board_equals_the_module_at_every_shape",
    "builds_for_every_shape", "deploys_the_same_twice", "docstring_cites_its_source", "finds_nothing_where_nothing_is",
    "hides_what_it_hides", "infers_the_same_twice", "is_surveyed_before_it_learns",
    "learns_the_same_after_an_interruption", "leaves_the_observation_alone", "leaves_the_victim_alone",
    "scores_are_one_finite_number_each",
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
    Kind.ATTACK: (
        docstring_cites_its_source,
        infers_the_same_twice,
        scores_are_one_finite_number_each,
        leaves_the_observation_alone,
        finds_nothing_where_nothing_is,
    ),
}
