"""Attacks' raw scores of candidates: that they are such, and two of them brought into one order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suite.record import AttackScores, RecordError, Scores


def of_candidates(scores: Scores, whose: str) -> AttackScores:
    """``scores`` as those of an attack on candidates.

    Raises:
        RecordError: they are other raw data; ``whose`` says of which cell.
    """
    if not isinstance(scores, AttackScores):
        raise RecordError(f"{whose}: other raw data where scores of candidates belong")
    return scores


def paired(
    ours: Scores, theirs: Scores, names: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Both scores float64 [N] and the truth bool [N], in the order of the candidates' numbers.

    Raises:
        RecordError: they are not scores of the same candidates; ``names`` says whose.
    """
    ours, theirs = of_candidates(ours, names), of_candidates(theirs, names)
    a, b = np.argsort(ours.candidates, kind="stable"), np.argsort(theirs.candidates, kind="stable")
    same = np.array_equal(ours.candidates[a], theirs.candidates[b])
    if not same or not np.array_equal(ours.is_member[a], theirs.is_member[b]):
        raise RecordError(f"{names} were not scored on the same candidates; run both again with one version")
    return ours.scores[a], theirs.scores[b], ours.is_member[a]
