"""What a stolen model is worth: its own accuracy, agreement with the deployment, and adversarial examples made on it.

Shares of images, with Wilson intervals. All are computed from the classes that were answered.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suite.estimate import Z95, Estimate, wilson
from suite.record import ExtractionPoint, StolenAnswers


def extraction_points(answers: StolenAnswers) -> tuple[ExtractionPoint, ...]:
    """One point a budget. Accuracy and fidelity as in Jagielski et al. 2020, section 3: of truth and of deployment.

    Adversarial examples count as transferred where the deployment, right on the image, errs on what was made of it.
    """
    truth = answers.labels[answers.changed]
    return tuple(
        ExtractionPoint(
            budget=int(budget),
            n_queries=int(answers.queries[i]),
            accuracy=_share(answers.stolen[i] == answers.labels),
            fidelity=_share(answers.stolen[i] == answers.deployed),
            transfer_fgsm=_share(answers.fgsm[i] != truth) if len(truth) else None,
            transfer_pgd=_share(answers.pgd[i] != truth) if len(truth) else None,
        )
        for i, budget in enumerate(answers.budgets)
    )


def fidelity_excess(ours: StolenAnswers, bound: StolenAnswers) -> Estimate:
    """Fidelity at the largest budget above that of another extraction, paired over the test images that both have.

    The interval is normal, with the variance of the differences of single images.
    """
    _, mine, theirs = np.intersect1d(ours.images, bound.images, return_indices=True)
    first = (ours.stolen[-1] == ours.deployed)[mine].astype(np.float64)
    second = (bound.stolen[-1] == bound.deployed)[theirs].astype(np.float64)
    difference = first - second
    half = Z95 * float(difference.std(ddof=1)) / len(difference) ** 0.5
    value = float(difference.mean())
    return Estimate(value, value - half, value + half)


def _share(hits: NDArray[np.bool_]) -> Estimate:
    return wilson(float(hits.sum()), len(hits))
