"""A store in which every night asks its board anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from suite.store import Key, Store

ASKED = frozenset({"evaluation", "queries", "guess", "stolen"})
"""Kinds of entries that come from a board, or from what it answered."""


class NightStore(Store):
    """The usual store for what no board is asked for (models, deployments), a folder of the night's own for the rest.

    So a night measures on the board whatever earlier nights have measured, and one that was cut off goes on where it
    was. Keys are the same every night: equal keys must give equal results.
    """

    def __init__(self, answers: Path) -> None:
        super().__init__()
        self._answers = Store(answers)

    def path(self, key: Key) -> Path:  # noqa: D102  (see Store)
        return self._answers.path(key) if key.kind in ASKED else super().path(key)

    def find(self, key: Key) -> Path | None:  # noqa: D102  (see Store)
        return self._answers.find(key) if key.kind in ASKED else super().find(key)

    def get(self, key: Key, make: Callable[[Path, Path], None], *, wait: bool = True) -> Path:  # noqa: D102
        if key.kind in ASKED:
            return self._answers.get(key, make, wait=wait)
        return super().get(key, make, wait=wait)
