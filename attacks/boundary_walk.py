"""Boundary walk: how far an image must be changed before the predicted class changes; members lie deeper inside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from suite import Goal, Guess, LabelledImages, Observation, ReferenceAttack, View, attack
from suite.metrics import best_threshold
from suite.signals import hit, predicted
from suite.view import AdversaryView

Images = NDArray[np.float32]
Floats = NDArray[np.float64]
Classify = Callable[[Images], NDArray[np.int64]]

_STARTS, _HALVINGS, _DIRECTIONS, _STEPS = 3, 8, 30, 3
_AN_ITERATION = _DIRECTIONS + _STEPS + _HALVINGS
_REFERENCES = 2
"""Reference models that are walked around as well, for the threshold."""


@attack("boundary_walk", goal=Goal.MEMBERSHIP, needs={View.OUTPUT, View.AUXILIARY, View.QUERY}, variants=())
class BoundaryWalk(ReferenceAttack):
    """The distance to the decision boundary as the score, found by asking for labels alone; 0 for what is wrong.

    Choquette-Choo, Tramèr, Carlini and Papernot, "Label-only membership inference attacks", ICML 2021, section 3.4
    (decision boundary distance), with a walk as of HopSkipJump (Chen, Jordan and Wainwright, IEEE S&P 2020, algorithm
    2): bisect towards an image of another class, estimate the boundary's normal from the labels of random neighbours,
    step along it, bisect again. The distance is Euclidean, of normalised images.

    Not in the default matrix: the paper spends thousands of queries an image, and a board answers hundreds a second.
    Interpretation: ``candidates`` drawn at random are walked around, with at most ``budget`` queries each; those that
    are right but were not drawn stand at the median of those that were (0 walks around all). The threshold is the best
    one on walks around two reference models.
    """

    candidates: int = 200
    budget: int = 100

    def observe(self, view: AdversaryView) -> Observation:
        """Walk around the deployment and around reference models; distances go into ``extra``.

        Raises:
            ValueError: the budget does not pay for a start and one bisection.
        """
        if self.budget < _STARTS + _HALVINGS:
            raise ValueError(
                f"boundary_walk[budget={self.budget}]: a walk takes at least {_STARTS + _HALVINGS} queries"
            )
        seen = view.observation()
        policy = view.policy

        def deployed(images: Images) -> NDArray[np.int64]:
            return predicted(view.query(images), policy)

        right = hit(seen.outputs, seen.labels, policy) > 0.5
        distances = self._distances(deployed, right, view, draw=0)
        known, truth = [], []
        for number, reference in enumerate(view.reference_models[:_REFERENCES]):
            classify = _classifier(reference.load())
            theirs = classify(view.candidates.images) == seen.labels
            known.append(self._distances(classify, theirs, view, draw=1 + number))
            truth.append(reference.is_member)
        threshold = best_threshold(np.concatenate(known), np.concatenate(truth))
        return dataclasses.replace(seen, extra={"distances": distances, "threshold": np.array([threshold])})

    def infer(self, observation: Observation) -> Guess:
        """Score the candidates by their distances."""
        found = observation.extra["distances"].astype(np.float64)
        return Guess(scores=found, threshold=float(observation.extra["threshold"][0]))

    def _distances(self, classify: Classify, right: NDArray[np.bool_], view: AdversaryView, draw: int) -> Floats:
        """Distances [N]: 0 for what is wrong, the median for what is right and not drawn."""
        rng = np.random.default_rng((view.seed, draw))
        found = np.zeros(len(right))
        walked = rng.permutation(np.flatnonzero(right))[: self.candidates or None]
        if not len(walked):
            return found
        inside = LabelledImages(view.candidates.images[walked], view.candidates.labels[walked])
        distances = walk(classify, inside, view.auxiliary, self.budget, rng)
        found[right] = np.median(distances)
        found[walked] = distances
        return found


def _classifier(module: torch.nn.Module) -> Classify:
    def classify(images: Images) -> NDArray[np.int64]:
        with torch.inference_mode():
            parts = [module(part).argmax(1) for part in torch.from_numpy(images).split(256)]
        return torch.cat(parts).numpy()

    return classify


def walk(
    classify: Classify, inside: LabelledImages, others: LabelledImages, budget: int, rng: np.random.Generator
) -> Floats:
    """Distances float64 [n] to the boundary around images that are given the right class, all walked at once.

    ``others`` are images to start from: the nearest of another class. Where none of the nearest is given another class,
    the distance to the farthest of them stands: the boundary was not met.
    """
    images, labels = inside.images, inside.labels
    starts = _nearest(inside, others)
    outside, met = starts[-1].copy(), np.zeros(len(images), bool)
    for start in reversed(starts):  # the nearest last, so that it counts
        crossed = classify(start) != labels
        outside[crossed] = start[crossed]
        met |= crossed
    at = _bisect(classify, images, outside, labels)
    best = _apart(at, images)
    for iteration in range((budget - _STARTS - _HALVINGS) // _AN_ITERATION):
        normal = _normal(classify, at, labels, 0.1 * _apart(at, images), rng)
        step = _apart(at, images) / np.sqrt(iteration + 2.0)
        further, found = at.copy(), np.zeros(len(at), bool)
        for _ in range(_STEPS):
            tried = (at + _wide(step, at) * normal).astype(np.float32)
            crossed = (classify(tried) != labels) & ~found
            further[crossed] = tried[crossed]
            found |= crossed
            step = step / 2
        at = _bisect(classify, images, further, labels)
        best = np.minimum(best, _apart(at, images))
    return np.where(met, best, _apart(outside, images))


def _nearest(inside: LabelledImages, others: LabelledImages) -> list[Images]:
    """For each image the nearest ones of other true classes, nearest first: ``_STARTS`` arrays [n, ...]."""
    flat, theirs = (group.images.reshape(len(group), -1).astype(np.float64) for group in (inside, others))
    squares = (theirs**2).sum(axis=1) - 2 * flat @ theirs.T
    squares[inside.labels[:, None] == others.labels] = np.inf
    order = np.argsort(squares, axis=1, kind="stable")[:, :_STARTS]
    return [others.images[order[:, place]] for place in range(order.shape[1])]


def _bisect(classify: Classify, images: Images, outside: Images, labels: NDArray[np.int64]) -> Images:
    """The point on the way from each image to the one outside, just beyond the boundary."""
    low, high = np.zeros(len(images)), np.ones(len(images))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        crossed = classify(_between(images, outside, middle)) != labels
        low, high = np.where(crossed, low, middle), np.where(crossed, middle, high)
    return _between(images, outside, high)


def _normal(
    classify: Classify, at: Images, labels: NDArray[np.int64], radius: Floats, rng: np.random.Generator
) -> Images:
    """Unit vectors [n, ...] that point away from the true class, estimated from the labels of random neighbours."""
    directions = np.stack([_unit(rng.standard_normal(at.shape).astype(np.float32)) for _ in range(_DIRECTIONS)])
    votes = np.stack([classify(at + _wide(radius, at) * one) != labels for one in directions]).astype(np.float32)
    mean = votes.mean(axis=0)
    weights = np.where((mean == 0) | (mean == 1), 2 * votes - 1, votes - mean)
    return _unit(np.einsum("dn,dn...->n...", weights, directions))


def _between(images: Images, outside: Images, share: Floats) -> Images:
    wide = _wide(share, images)
    return (1 - wide) * images + wide * outside


def _wide(values: Floats, like: Images) -> Images:
    return values.astype(np.float32).reshape(-1, *(1,) * (like.ndim - 1))


def _apart(a: Images, b: Images) -> Floats:
    return np.asarray(np.sqrt(((a - b).astype(np.float64) ** 2).sum(axis=tuple(range(1, a.ndim)))))


def _unit(vectors: Images) -> Images:
    return vectors / _wide(np.maximum(_apart(vectors, np.zeros_like(vectors)), 1e-12), vectors)
