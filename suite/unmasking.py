"""Undoing what disguises a linear layer's filters: random ones added, scaled, shuffled.

The public part has n + m filters for a layer of n: n disguised ones, each a filter times a scalar plus one of m masks,
and the masks, all in random order; with m = 0 they are scaled alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import squareform

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEAST_ROWS = 4
"""Observations of a channel below which it counts as never active."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Filters as sums of public ones. ``rows`` float64 [n, n + m]; ``bias`` float64 [n].

    ``explained`` float64 [n]: share of the variance of what was seen of each, NaN where nothing can be told, and
    the row is zeros.
    """

    rows: Floats
    bias: Floats
    explained: Floats

    @property
    def quality(self) -> float:
        """The mean share over what could be told; 0 where nothing could."""
        told = self.explained[~np.isnan(self.explained)]
        return float(told.mean()) if len(told) else 0.0

    def or_else(self, other: Mixture) -> Mixture:
        """Each channel as the one has it that explains more of it."""
        mine = np.nan_to_num(self.explained, nan=-1.0) >= np.nan_to_num(other.explained, nan=-1.0)
        return Mixture(
            np.where(mine[:, None], self.rows, other.rows),
            np.where(mine, self.bias, other.bias),
            np.where(mine, self.explained, other.explained),
        )


def differences(filters: NDArray[np.float32], n: int) -> Floats:
    """Rows [n, n + m] that take the mask off each disguised filter, in no particular order of the filters.

    A disguised filter resembles its mask, and the others with that mask resemble it less: average-linkage clusters of
    the cosines, the mask in the middle of each.
    """
    flat = filters.reshape(len(filters), -1).astype(np.float64)
    total = len(flat)
    if total == n:
        return np.eye(n)
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    cosine = unit @ unit.T
    distance = np.clip(1.0 - cosine, 0.0, 2.0)
    np.fill_diagonal(distance, 0.0)
    groups = fcluster(linkage(squareform(distance, checks=False), "average"), total - n, "maxclust")
    rows = []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        mask = members[cosine[np.ix_(members, members)].sum(axis=1).argmax()]
        for member in members[members != mask]:
            row = np.zeros(total)
            row[member], row[mask] = 1.0, -1.0
            rows.append(row)
    found = np.zeros((n, total))  # where the clusters were not told apart there are fewer differences, or more
    found[: min(n, len(rows))] = rows[:n]
    return found


def by_least_squares(made: Floats, seen: Floats, active: Bools) -> Mixture:
    """Filters from what the public ones made, float64 [S, n + m], and what the layer let through, [S, n].

    Where ``active`` [S, n], what was seen is the layer's own value: linear in what the public filters made.
    """
    design = np.column_stack([made, np.ones(len(made))])
    unknown = design.shape[1]
    rows, bias = np.zeros((seen.shape[1], made.shape[1])), np.zeros(seen.shape[1])
    explained = np.full(len(rows), np.nan)
    for channel in range(len(rows)):
        every = np.flatnonzero(active[:, channel])
        if len(every) < 2 * unknown + LEAST_ROWS:
            continue
        chosen = every[np.linspace(0, len(every) - 1, min(len(every), 8 * unknown)).astype(int)]
        solved, *_ = np.linalg.lstsq(design[chosen], seen[chosen, channel], rcond=1e-9)
        rows[channel], bias[channel] = solved[:-1], solved[-1]
        spread = float(seen[every, channel].var())
        left = float(((design[every] @ solved - seen[every, channel]) ** 2).mean())
        explained[channel] = 1.0 - left / spread if spread > 0 else float(left == 0)
    return Mixture(rows, bias, explained)


def by_matching(directions: Floats, up: Floats, down: Floats, seen: Floats, active: Bools) -> Mixture:
    """Filters from ``directions`` [n, n + m], each of them one of them times a scalar, by what they let through.

    ``up`` and ``down`` [S, n]: what would be seen of each direction, and of its opposite, but for scale and bias.
    Each channel takes the direction whose values go with those seen of it, each direction is taken once.
    """
    n = seen.shape[1]
    count = np.maximum(active.sum(axis=0).astype(np.float64), 1.0)
    values = np.where(active, seen, 0.0)
    mean_seen = values.sum(axis=0) / count
    spread_seen = np.maximum((values**2).sum(axis=0) / count - mean_seen**2, 1e-18)
    slopes, corr = [], []
    means = []
    for made in (up, down):
        mean = made.T @ active / count  # [directions, channels]
        spread = np.maximum((made**2).T @ active / count - mean**2, 1e-18)
        joint = made.T @ values / count - mean * mean_seen
        corr.append(joint / np.sqrt(spread * spread_seen))
        slopes.append(joint / spread)
        means.append(mean)
    best = np.maximum(*corr)
    best[:, active.sum(axis=0) < LEAST_ROWS] = 0.0
    taken, channels = linear_sum_assignment(-best)
    rows, bias = np.zeros((n, directions.shape[1])), np.zeros(n)
    explained = np.full(n, np.nan)
    for direction, channel in zip(taken, channels, strict=True):
        if active[:, channel].sum() < LEAST_ROWS:
            continue
        side = int(corr[1][direction, channel] > corr[0][direction, channel])
        slope = slopes[side][direction, channel]
        rows[channel] = (-1.0 if side else 1.0) * slope * directions[direction]
        bias[channel] = mean_seen[channel] - slope * means[side][direction, channel]
        explained[channel] = max(best[direction, channel], 0.0) ** 2
    return Mixture(rows, bias, explained)


def by_likeness(directions: Floats, filters: NDArray[np.float32], model: NDArray[np.float32]) -> Floats:
    """Rows [n, n + m] for filters in the order, of the sign and of the length of a pre-trained model's [n, ...].

    Each of its filters takes the direction that is most like it, each direction is taken once.
    """
    found = directions @ filters.reshape(len(filters), -1).astype(np.float64)
    known = model.reshape(len(model), -1).astype(np.float64)
    lengths = np.maximum(np.linalg.norm(found, axis=1), 1e-12), np.linalg.norm(known, axis=1)
    cosine = (found / lengths[0][:, None]) @ (known / np.maximum(lengths[1], 1e-12)[:, None]).T
    taken, channels = linear_sum_assignment(-np.abs(cosine))
    rows = np.zeros((len(model), directions.shape[1]))
    scale = np.sign(cosine[taken, channels]) * lengths[1][channels] / lengths[0][taken]
    rows[channels] = directions[taken] * scale[:, None]
    return rows
