"""Loss threshold: low loss suggests a member."""

import numpy as np

from suite import Attack, Goal, Guess, Observation, PolicyKind, View, attack

_LEAST = 1e-45  # the smallest positive float32: rounded or truncated outputs may hold zeros


@attack("loss_threshold", goal=Goal.MEMBERSHIP, needs={View.OUTPUT})
class LossThreshold(Attack):
    """The negative cross-entropy of the true class as the score.

    Yeom et al., "Privacy risk in machine learning: analyzing the connection to overfitting", IEEE CSF 2018, section 3
    (adversary 1). The threshold comes from shadow models instead of the victim's average training loss, which the
    attacker does not have. On label-only outputs it becomes the 0-1 loss (the gap attack of the same section).
    """

    def infer(self, observation: Observation) -> Guess:
        """Score the candidates by the loss of what the deployment answered."""
        outputs, labels = observation.outputs, observation.labels
        if observation.policy.label_only:
            return Guess(scores=(outputs == labels).astype(np.float64))
        others = outputs.astype(np.float64)
        rows = np.arange(len(labels))
        right = others[rows, labels]
        scores = np.log(np.maximum(right, _LEAST))
        if observation.policy.kind is PolicyKind.PROBS:
            # Close to 1 a float32 no longer moves; the little that is left for the other classes still does. Where
            # some of it was rounded or cut away, it says less than the true class's own value.
            others[rows, labels] = 0.0
            scores = np.where(right > 0.5, np.log1p(-np.clip(others.sum(axis=1), 0.0, 0.5)), scores)
        return Guess(scores=scores)
