"""Confidence: a probability of the true class above what is usual for that class suggests a member."""

from suite import Attack, Goal, Guess, Observation, View, attack
from suite.class_thresholds import Thresholds, by_threshold
from suite.signals import logit


@attack("confidence", goal=Goal.MEMBERSHIP, needs={View.OUTPUT, View.AUXILIARY})
class Confidence(Attack):
    """The probability of the true class, held against a threshold of that class.

    Song and Mittal, "Systematic evaluation of privacy risks of machine learning models", USENIX Security 2021, section
    3.1.2, after Yeom et al. 2018. Under label-only answers it is the gap attack (section 3.1.1), with class thresholds.

    Interpretation: the paper decides and has no scores; here a candidate's score is how far its log-odds lie above its
    class's threshold. Log-odds, since overfitted models differ in digits that probabilities hide. ``thresholds`` is
    ``class``, or ``one`` for all classes, which orders candidates as their loss does.
    """

    thresholds: Thresholds = "class"

    def infer(self, observation: Observation) -> Guess:
        """Score the candidates by their log-odds above the threshold."""
        return by_threshold(observation, logit, self.thresholds)
