"""One threshold a class, set on the attacker's shadow models."""

from __future__ import annotations

from typing import Literal

import numpy as np

from suite.attack_model import Guess, Observation
from suite.likelihood import Signal
from suite.metrics import best_threshold

Thresholds = Literal["class", "one"]

_FEWEST = 10
"""Members, and non-members, of a class on which its threshold is set; with fewer it takes that of all classes."""


def by_threshold(observation: Observation, signal: Signal, thresholds: Thresholds) -> Guess:
    """Guess by a signal: by how far it is above the threshold of its true class, or as it is.

    Song and Mittal 2021, section 3.1.2: the threshold of a class is the one that tells the shadow models' members and
    non-members of that class apart best.
    """
    scores = signal(observation.outputs, observation.labels, observation.policy)
    if thresholds == "one":
        return Guess(scores=scores)
    known = np.concatenate([signal(s.outputs, s.labels, observation.policy) for s in observation.shadows])
    labels = np.concatenate([s.labels for s in observation.shadows])
    is_member = np.concatenate([s.is_member for s in observation.shadows])
    levels = np.full(observation.n_classes, best_threshold(known, is_member))
    for label in range(observation.n_classes):
        mine = labels == label
        if min((mine & is_member).sum(), (mine & ~is_member).sum()) >= _FEWEST:
            levels[label] = best_threshold(known[mine], is_member[mine])
    return Guess(scores=scores - levels[observation.labels], threshold=0.0)
