"""What a cell must hold to count as measured. How much a deployment leaks is no gate."""

from __future__ import annotations

from suite.record import Record

MAX_REL_ERROR = 1e-4
"""Of outputs against PyTorch running the same segments (the kernels' promise)."""
MIN_LABEL_AGREEMENT = 0.995
"""Of predicted classes: near-ties may flip, nothing else may."""


class GateError(AssertionError):
    """A deployment that does not compute what it should; names figure and limit."""


def check(record: Record, max_accuracy_loss_frac: float) -> None:
    """Hold a record against its gates: parity with PyTorch, and accuracy lost by deploying.

    Raises:
        GateError: one does not hold.
    """
    parity, loss = record.parity, record.utility.accuracy_loss_frac
    if not parity.max_rel_error <= MAX_REL_ERROR:  # nor when it is not a number
        raise GateError(
            f"{record.cell.id}: outputs are {parity.max_rel_error:.2e} off PyTorch's (relative),"
            f" allowed {MAX_REL_ERROR:g}"
        )
    if not parity.label_agreement_frac >= MIN_LABEL_AGREEMENT:
        raise GateError(
            f"{record.cell.id}: {parity.label_agreement_frac:.4f} of labels agree with PyTorch's, at least"
            f" {MIN_LABEL_AGREEMENT} must"
        )
    if not loss <= max_accuracy_loss_frac:
        raise GateError(
            f"{record.cell.id}: the deployment loses {loss:.4f} accuracy against the victim, allowed"
            f" {max_accuracy_loss_frac}; a defense that means to must say so (max_accuracy_loss_frac)"
        )
