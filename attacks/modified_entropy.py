"""Modified entropy: certainty of the true class counts for a member, certainty of any other against it."""

from suite import Attack, Goal, Guess, Observation, View, attack
from suite.class_thresholds import Thresholds, by_threshold
from suite.signals import modified_certainty


@attack("modified_entropy", goal=Goal.MEMBERSHIP, needs={View.OUTPUT, View.AUXILIARY})
class ModifiedEntropy(Attack):
    """The modified entropy of the answer, held against a threshold of the true class.

    Song and Mittal, "Systematic evaluation of privacy risks of machine learning models", USENIX Security 2021, section
    3.1.4, equation 8. Under label-only answers it is the gap attack, with class thresholds.

    Interpretation: the paper decides and has no scores; here a candidate's score is by what factor the modified
    entropy lies below its class's threshold, as a logarithm. ``thresholds``: ``class``, or ``one`` for all classes.
    """

    thresholds: Thresholds = "class"

    def infer(self, observation: Observation) -> Guess:
        """Score the candidates by how far the logarithm of their modified entropy is below the threshold."""
        return by_threshold(observation, modified_certainty, self.thresholds)
