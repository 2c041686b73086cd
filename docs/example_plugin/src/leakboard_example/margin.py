"""Margin: how much surer of the true class than of the next one, beside models that never saw the candidate."""

import numpy as np

from suite import Attack, Goal, Guess, Observation, View, attack

_LEAST = 1e-7  # about what a float32 tells from 1; rounded answers hold zeros


@attack("margin", goal=Goal.MEMBERSHIP, needs={View.OUTPUT, View.AUXILIARY})
class Margin(Attack):
    """The margin of the true class in log-probability, less what shadow models show for strangers of that class.

    The margin as a statistic is Carlini et al. 2022, section IV.C; thresholds by class are Song and Mittal 2021's.
    """

    def infer(self, observation: Observation) -> Guess:
        """One score a candidate, float64 [N]: higher means member."""
        if observation.policy.label_only:  # int64 [N]: right or wrong is all there is
            return Guess(scores=(observation.outputs == observation.labels).astype(np.float64))
        usual = np.zeros(observation.n_classes)
        for label in range(observation.n_classes):
            strangers = [
                _margins(shadow.outputs[chosen], shadow.labels[chosen])
                for shadow in observation.shadows
                if (chosen := (shadow.labels == label) & ~shadow.is_member).any()
            ]
            usual[label] = np.median(np.concatenate(strangers)) if strangers else 0.0
        return Guess(scores=_margins(observation.outputs, observation.labels) - usual[observation.labels])


def _margins(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    logs = np.log(np.maximum(outputs.astype(np.float64), _LEAST))
    rows = np.arange(len(labels))
    right = logs[rows, labels]
    logs[rows, labels] = -np.inf
    return right - logs.max(axis=1)
