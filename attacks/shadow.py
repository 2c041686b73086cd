"""Shadow models: learn from models of one's own what members look like."""

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from suite import Attack, Goal, Guess, Observation, View, attack
from suite.policy import Outputs

_LEAST = 1e-45
_LARGEST_KEPT = 20  # sorted confidences beyond these carry next to nothing, and 200 classes would slow the trees


@attack("shadow", goal=Goal.MEMBERSHIP, needs={View.OUTPUT, View.AUXILIARY}, variants=({}, {"model": "other"}))
class Shadow(Attack):
    """An attack model trained on the sorted outputs of shadow models.

    Shokri et al., "Membership inference attacks against machine learning models", IEEE S&P 2017, sections V.C and V.D:
    shadows trained on data of the attacker's own label their outputs as member or non-member, and a classifier learns
    to tell them apart, given the true class. On label-only outputs it learns from the predicted and the true class.

    ``model`` is the shadows' architecture: ``same`` as the victim's, a name, or ``other`` (VGG-7, and AlexNet against
    VGG-7), as in the second table of the CERIAS poster, where victim and shadow architectures are crossed.

    Interpretation: the attack model is one gradient-boosted tree ensemble with the class as a feature, in place of one
    neural network a class; features are logarithms, since overfitted models differ in digits that probabilities hide.
    """

    model: str = "same"

    def shadow_architecture(self, victim: str) -> str:
        """The victim's own architecture, or the one asked for."""
        if self.model == "other":
            return "alexnet" if victim == "vgg7" else "vgg7"
        return victim if self.model == "same" else self.model

    def infer(self, observation: Observation) -> Guess:
        """Fit on the shadows, score the candidates by the log-odds of membership; 0 is the threshold."""
        shadows = observation.shadows
        known = np.concatenate([features(s.outputs, s.labels) for s in shadows])
        truth = np.concatenate([s.is_member for s in shadows])
        learner = HistGradientBoostingClassifier(
            max_iter=150,
            learning_rate=0.06,
            max_leaf_nodes=15,
            min_samples_leaf=40,
            l2_regularization=1.0,
            random_state=0,
        )
        # One thread: several that wait for one another on busy cores took a hundred times as long.
        with threadpool_limits(limits=1):
            learner.fit(known, truth)
            scores = learner.decision_function(features(observation.outputs, observation.labels))
        return Guess(scores=scores.astype(np.float64), threshold=0.0)


def features(outputs: Outputs, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """What the attack model sees of one answer: float64 [N, F].

    Label-only: whether it is right, predicted and true class. Else the sorted log-confidences, the log-odds of the
    true class, its rank, the entropy, and the true class.
    """
    if outputs.ndim == 1:
        return np.stack([outputs == labels, outputs, labels], axis=1).astype(np.float64)
    wide = outputs.astype(np.float64)
    rows = np.arange(len(labels))
    right = wide[rows, labels]
    logs = np.log(np.maximum(wide, _LEAST))
    entropy = -(wide * logs).sum(axis=1)
    rank = (wide > right[:, None]).sum(axis=1)
    others = wide.copy()
    others[rows, labels] = 0.0
    odds = np.log(np.maximum(right, _LEAST)) - np.log(np.maximum(others.sum(axis=1), _LEAST))
    largest = -np.sort(-logs, axis=1)[:, :_LARGEST_KEPT]
    left = np.log(np.maximum(wide.sum(axis=1) - wide.max(axis=1), _LEAST))
    return np.column_stack([largest, odds, rank, entropy, left, labels])
