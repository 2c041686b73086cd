"""Prediction entropy: an answer more certain than is usual for the class suggests a member."""

from suite import Attack, Goal, Guess, Observation, View, attack
from suite.class_thresholds import Thresholds, by_threshold
from suite.signals import certainty


@attack("prediction_entropy", goal=Goal.MEMBERSHIP, needs={View.OUTPUT, View.AUXILIARY})
class PredictionEntropy(Attack):
    """The entropy of the answer, held against a threshold of the true class.

    Song and Mittal, "Systematic evaluation of privacy risks of machine learning models", USENIX Security 2021, section
    3.1.3. The entropy itself looks at no true class: certain and wrong counts as a member, which
    ``modified_entropy`` mends. Label-only answers have no entropy; the correctness stands for it.

    Interpretation: the paper decides and has no scores; here a candidate's score is by what factor the entropy lies
    below its class's threshold, as a logarithm. ``thresholds``: ``class``, or ``one`` for all classes.
    """

    thresholds: Thresholds = "class"

    def infer(self, observation: Observation) -> Guess:
        """Score the candidates by how far the logarithm of their entropy is below the threshold."""
        return by_threshold(observation, certainty, self.thresholds)
