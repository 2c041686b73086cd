"""What an output policy lets out of a deployment; the Python twin of ``lb_policy_apply`` in ta/runtime."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Outputs = NDArray[np.float32] | NDArray[np.int64]


class PolicyKind(IntEnum):
    """Values of ``enum lb_policy`` in ta/include/lb_model.h."""

    PROBS = 1
    ROUNDED = 2
    TOPK = 3
    LABEL = 4


@dataclass(frozen=True, slots=True)
class OutputPolicy:
    """What leaves the last layer: all probabilities, rounded ones, the k largest, or the label alone.

    ``arg`` is the number of decimals (0 to 6) for ROUNDED and k (at least 1) for TOPK, else 0.
    """

    kind: PolicyKind
    arg: int = 0

    def __post_init__(self) -> None:
        if self.kind is PolicyKind.ROUNDED and not 0 <= self.arg <= 6:
            raise ValueError(f"output policy 'rounded' takes 0 to 6 decimals, not {self.arg}")
        if self.kind is PolicyKind.TOPK and self.arg < 1:
            raise ValueError(f"output policy 'topk' takes k of at least 1, not {self.arg}")
        if self.kind in (PolicyKind.PROBS, PolicyKind.LABEL) and self.arg:
            raise ValueError(f"output policy {self.kind.name.lower()!r} takes no argument, got {self.arg}")

    @classmethod
    def parse(cls, text: str) -> OutputPolicy:
        """Read ``probs``, ``top1`` (the label alone), ``rounded<decimals>`` or ``topk<k>``.

        Raises:
            ValueError: anything else; the message lists what is allowed.
        """
        if text == "probs":
            return cls(PolicyKind.PROBS)
        if text == "top1":
            return cls(PolicyKind.LABEL)
        match = re.fullmatch(r"(rounded|topk)(\d+)", text)
        if match is None:
            raise ValueError(f"unknown output policy {text!r}: use probs, top1, rounded<decimals> or topk<k>")
        return cls(PolicyKind.ROUNDED if match[1] == "rounded" else PolicyKind.TOPK, int(match[2]))

    def __str__(self) -> str:
        names = {PolicyKind.PROBS: "probs", PolicyKind.LABEL: "top1"}
        return names.get(self.kind) or f"{self.kind.name.lower()}{self.arg}"

    @property
    def label_only(self) -> bool:
        """Whether nothing but the predicted class comes out."""
        return self.kind is PolicyKind.LABEL

    def apply(self, probabilities: NDArray[np.float32]) -> Outputs:
        """What this policy lets out of ``probabilities`` [N, K]: float32 [N, K], or int64 [N] for the label."""
        if self.kind is PolicyKind.LABEL:
            return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
        if self.kind is PolicyKind.ROUNDED:
            return np.round(probabilities.astype(np.float64), self.arg).astype(np.float32)
        if self.kind is PolicyKind.TOPK:
            order = np.argsort(-probabilities, axis=1, kind="stable")
            kept = np.zeros_like(probabilities)
            rows = np.arange(len(probabilities))[:, None]
            top = order[:, : self.arg]
            kept[rows, top] = probabilities[rows, top]
            return kept
        return probabilities


def classes(outputs: Outputs) -> NDArray[np.int64]:
    """The class of each answer, int64 [N]: of probabilities [N, K] the largest, of labels [N] themselves."""
    return (outputs if outputs.ndim == 1 else outputs.argmax(axis=1)).astype(np.int64)


def stacked(answers: Sequence[Outputs]) -> Outputs:
    """One array [len(answers), ...] of answers that have one shape."""
    together: Outputs = np.stack(answers)  # type: ignore[assignment]
    return together
