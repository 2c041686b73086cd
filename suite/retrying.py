"""Measuring a cell once more when its board was lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from device.board import Board, BoardError, BoardLost
from suite.progress import announce

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Attempt:
    """Which attempt at a cell this is, from 1, and what ended the ones before."""

    number: int = 1
    incidents: tuple[str, ...] = ()


FIRST = Attempt()


def with_recovery(board: Board, cell_id: str, measure: Callable[[Attempt], T]) -> T:
    """``measure``, and when the board is lost, the board restarted and ``measure`` once more.

    What was finished and kept before the loss (models, deployments, answers of whole data sets) is not done again.

    Raises:
        BoardLost: it was lost twice.
        BoardError: it could not be brought back; the next cell tries again.
    """
    try:
        return measure(FIRST)
    except BoardLost as lost:
        first = one_line(lost)
    announce(f"board {board.name} was lost: {first}; restarting it, then {cell_id} is measured once more")
    try:
        board.recover()
    except BoardError as error:
        raise BoardError(f"board {board.name} was lost ({first}) and cannot be brought back: {error}") from error
    try:
        return measure(Attempt(2, (first,)))
    except BoardLost as lost:
        raise BoardLost(f"board {board.name} was lost twice: first {first}; restarted, then {one_line(lost)}") from lost


def one_line(error: Exception) -> str:
    """An error's text without its line breaks."""
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
