"""Leakboard's conformance kit on both plugins: every rule is a test."""

import pytest

from suite.conformance import cases
from suite.registry import Kind

CASES = [*cases(Kind.DEFENSE, "coarse"), *cases(Kind.ATTACK, "margin")]


@pytest.mark.parametrize(("rule", "spec"), CASES, ids=[f"{spec.slug}-{rule.__name__}" for rule, spec in CASES])
def test_rule(rule, spec):
    """It raises a ConformanceError with one line when the rule is broken."""
    rule(spec)
