"""What all rules of the conformance kit have in common: what a rule is, and how it is broken."""

from __future__ import annotations

import re
from collections.abc import Callable

from suite.spec import PluginSpec


class ConformanceError(AssertionError):
    """A plugin that breaks a rule; names it, its file and line, and the rule."""


Check = Callable[[PluginSpec], None]


def demand(holds: bool, spec: PluginSpec, rule: str) -> None:
    """Raise a ConformanceError that tells the rule, unless it holds."""
    if not holds:
        raise ConformanceError(f"{spec.kind} {spec.text} ({spec.plugin.where}): {rule}")


def docstring_cites_its_source(spec: PluginSpec) -> None:
    """The class says what it is and where it comes from: a year, as in "Yeom et al. 2018", or "original"."""
    text = spec.plugin.cls.__doc__ or ""
    cited = re.search(r"\b(19|20)\d\d\b|\boriginal\b", text) is not None
    demand(cited, spec, "its docstring must cite its source (authors and year), or say that it is original")
