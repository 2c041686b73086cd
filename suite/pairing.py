"""Two attacks' raw scores of the same candidates, brought into one order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suite.record import AttackScores, RecordError, Scores


def paired(
    ours: Scores, theirs: Scores, names: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Both scores float64 [N] and the truth bool [N], in the order of the candidates' numbers.

    Raises:
        RecordError: they are not scores of the same candidates; ``names`` says whose.
    """
    if not isinstance(ours, AttackScores) or not isinstance(theirs, AttackScores):
        raise RecordError(f"{names}: other raw data where scores of candidates belong")
    a, b = np.argsort(ours.candidates, kind="stable"), np.argsort(theirs.candidates, kind="stable")
    same = np.array_equal(ours.candidates[a], theirs.candidates[b])
    if not same or not np.array_equal(ours.is_member[a], theirs.is_member[b]):
        raise RecordError(f"{names} were not scored on the same candidates; run both again with one version")
    return ours.scores[a], theirs.scores[b], ours.is_member[a]
