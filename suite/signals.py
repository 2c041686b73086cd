"""What one answer says about one image: per-sample signals that membership attacks have in common.

Every function takes answers [..., N, n_classes], or predicted classes [..., N] under a label-only policy, true classes
int64 [N], and the policy that the answers went through; it gives float64 [..., N], finite, higher for what looks more
like a member. What a policy holds back is filled in by the middle of what it leaves possible.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suite.policy import OutputPolicy, Outputs, PolicyKind

Floats = NDArray[np.float64]

_LEAST = 1e-45  # the smallest positive float32
_TEMPERATURE, _MARGIN = 2.0, 0.6  # of RMIA's softmax
_HALF_STEP = 2.0**-25  # half of the step of a float32 below 1: what is left beside a kept 1.0


def hit(outputs: Outputs, labels: NDArray[np.int64], policy: OutputPolicy) -> Floats:
    """1 where the predicted class is the true one, else 0."""
    right: Floats = (predicted(outputs, policy) == labels).astype(np.float64)
    return right


def predicted(outputs: Outputs, policy: OutputPolicy) -> NDArray[np.int64]:
    """Predicted classes int64 [..., N]."""
    return np.asarray(outputs if policy.label_only else outputs.argmax(axis=-1), dtype=np.int64)


def right_and_rest(outputs: Outputs, labels: NDArray[np.int64], policy: OutputPolicy) -> tuple[Floats, Floats]:
    """The probability of the true class, and of all others together, both above 0.

    The others' is not one minus the first where there is better: near 1 a float32 no longer moves, and the little that
    is left for the other classes still does. A label-only answer counts as a probability rounded to 0 or 1.
    """
    if policy.label_only:
        right = hit(outputs, labels, policy)
        return _unrounded(right, 1.0 - right, 0.5)
    right = _of_true_class(outputs, labels)
    total = outputs.sum(axis=-1, dtype=np.float64)
    if policy.kind is PolicyKind.TOPK:
        least = np.where(outputs > 0, outputs, np.inf).min(axis=-1).astype(np.float64)
        cut = max(outputs.shape[-1] - policy.arg, 1)
        left = np.minimum(np.maximum(1.0 - total, 0.0) / cut, least)
        right = np.maximum(np.where(right > 0, right, left), _LEAST)
        return right, np.maximum(1.0 - right, _HALF_STEP)
    if policy.kind is PolicyKind.ROUNDED:
        return _unrounded(right, np.maximum(1.0 - right, 0.0), 0.5 * 10.0**-policy.arg)
    others = _without(outputs, labels)
    return np.maximum(right, _LEAST), np.maximum(others, _LEAST)


def logit(outputs: Outputs, labels: NDArray[np.int64], policy: OutputPolicy) -> Floats:
    """The log-odds of the true class.

    Over models they are bell-shaped, which its probability is not (Carlini et al. 2022, section IV.C).
    """
    right, rest = right_and_rest(outputs, labels, policy)
    scaled: Floats = np.log(right) - np.log(rest)
    return scaled


def confidence(outputs: Outputs, labels: NDArray[np.int64], policy: OutputPolicy) -> Floats:
    """The probability of the true class."""
    right, rest = right_and_rest(outputs, labels, policy)
    return right / (right + rest)


def soft_confidence(outputs: Outputs, labels: NDArray[np.int64], policy: OutputPolicy) -> Floats:
    """The probability of the true class under a softmax that saturates late: Taylor's, with a margin.

    As in the experiments of Zarifzadeh et al. 2024: order 4, margin 0.6, temperature 2. Interpretation: an answer gives
    logits but for a constant, which is chosen so that they add up to 0. Rounded, cut and label-only answers do not;
    there it is ``confidence``.
    """
    if policy.kind is not PolicyKind.PROBS:
        return confidence(outputs, labels, policy)
    logits = np.log(np.maximum(outputs.astype(np.float64), _LEAST))
    logits = (logits - logits.mean(axis=-1, keepdims=True)) / _TEMPERATURE
    rows = np.broadcast_to(labels, logits.shape[:-1])[..., None]
    true = np.take_along_axis(logits, rows, axis=-1)[..., 0]
    others = _taylor(logits).sum(axis=-1) - _taylor(true)
    right = _taylor(true - _MARGIN)
    soft: Floats = right / (right + others)
    return soft


def _taylor(x: Floats) -> Floats:
    """Four orders of exp(x): always above 0."""
    powers: Floats = 1 + x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4)))
    return powers


def certainty(outputs: Outputs, labels: NDArray[np.int64], policy: OutputPolicy) -> Floats:
    """The negative logarithm of the answer's entropy (Song and Mittal 2021, section 3.1.3); it looks at no true class.

    The logarithm, since overfitted models differ in small entropies. Label-only answers have none; the correctness
    stands for it.
    """
    if policy.label_only:
        return hit(outputs, labels, policy)
    p, rest = _filled(outputs, policy)
    certain: Floats = -np.log(np.maximum(-(p * _log(p, rest)).sum(axis=-1), _LEAST))
    return certain


def modified_certainty(outputs: Outputs, labels: NDArray[np.int64], policy: OutputPolicy) -> Floats:
    """The negative logarithm of the modified entropy (Song and Mittal 2021, equation 8).

    It falls with the true class's probability, unlike entropy, and counts what other classes get against the image.
    Of label-only answers the correctness stands for it.
    """
    if policy.label_only:
        return hit(outputs, labels, policy)
    p, rest = _filled(outputs, policy)
    terms = p * _log(rest, p)
    rows = np.broadcast_to(labels, p.shape[:-1])[..., None]
    np.put_along_axis(terms, rows, np.take_along_axis(rest * _log(p, rest), rows, axis=-1), axis=-1)
    modified: Floats = -np.log(np.maximum(-terms.sum(axis=-1), _LEAST))
    return modified


def _log(p: Floats, rest: Floats) -> Floats:
    """log(p), from its complement where that says more."""
    logs: Floats = np.where(p > 0.5, np.log1p(-np.minimum(rest, 0.5)), np.log(p))
    return logs


def _filled(outputs: Outputs, policy: OutputPolicy) -> tuple[Floats, Floats]:
    """Each class's probability and that of all others, [..., N, n_classes], both above 0.

    What was cut away is shared out evenly.
    """
    p = outputs.astype(np.float64)
    if policy.kind is PolicyKind.TOPK:
        cut = p <= 0
        left = np.maximum(1.0 - p.sum(axis=-1, keepdims=True), 0.0) / np.maximum(cut.sum(axis=-1, keepdims=True), 1)
        p = np.where(cut, left, p)
    p = np.maximum(p, _LEAST)
    # Only the largest can be close to 1: its complement is the sum of the others, not a difference.
    top = p.argmax(axis=-1)[..., None]
    rest = 1.0 - p
    others = p.copy()
    np.put_along_axis(others, top, 0.0, axis=-1)
    np.put_along_axis(rest, top, others.sum(axis=-1, keepdims=True), axis=-1)
    return p, np.maximum(rest, _LEAST)


def _unrounded(right: Floats, rest: Floats, half: float) -> tuple[Floats, Floats]:
    """Nothing is as little as it is rounded to: what went to 0 lies between 0 and ``half`` a unit."""
    return np.clip(right, half / 2, 1.0), np.clip(rest, half / 2, 1.0)


def _of_true_class(outputs: Outputs, labels: NDArray[np.int64]) -> Floats:
    rows = np.broadcast_to(labels, outputs.shape[:-1])[..., None]
    return np.take_along_axis(outputs, rows, axis=-1)[..., 0].astype(np.float64)


def _without(outputs: Outputs, labels: NDArray[np.int64]) -> Floats:
    others = outputs.astype(np.float64)
    np.put_along_axis(others, np.broadcast_to(labels, outputs.shape[:-1])[..., None], 0.0, axis=-1)
    total: Floats = others.sum(axis=-1)
    return total
