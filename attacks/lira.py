"""LiRA: whether the answer is more like those of models that know the image, or of models that do not."""

from typing import Literal

from suite import Goal, Guess, Observation, ReferenceAttack, View, attack
from suite.likelihood import Compared, hit_ratio_offline, hit_ratio_online, lira_offline, lira_online
from suite.signals import hit, logit


@attack(
    "lira",
    goal=Goal.MEMBERSHIP,
    needs={View.OUTPUT, View.AUXILIARY, View.QUERY},
    variants=({}, {"mode": "offline"}),
)
class Lira(ReferenceAttack):
    """The likelihood ratio of the true class's log-odds under two bell curves, fitted on reference models.

    Carlini et al., "Membership inference attacks from first principles", IEEE S&P 2022, algorithm 1; with ``mode``
    ``offline`` the one-sided test of section V.B against the models that do not know a candidate alone. ``variance`` is
    ``fixed``, one for all candidates as the paper advises for few models (section VI.C), or ``per_sample``; ``views``
    of each candidate are asked for, the first being the image itself (section VI.D).

    Interpretation: the fixed variance is that around each candidate's own mean (the authors' code takes that around
    the mean of all candidates); views form one bell in as many dimensions, with correlations that all candidates have
    in common (the code takes views as independent). One view by default: the suite's victims are trained without
    augmentation, so that a mirrored image tells less than it disturbs. Rounded and truncated answers are filled in by
    the middle of what they leave possible. Label-only answers are right or wrong, and the two bells become two coins:
    how often are models right that know the candidate, and how often the others?
    """

    mode: Literal["online", "offline"] = "online"
    variance: Literal["fixed", "per_sample"] = "fixed"
    views: int = 1

    def n_views(self) -> int:
        """As many as asked for."""
        return self.views

    def infer(self, observation: Observation) -> Guess:
        """Score the candidates by the log-likelihood ratio of their views."""
        if observation.policy.label_only:
            hits = Compared.of(observation, hit)
            ratios = hit_ratio_online(hits) if self.mode == "online" else hit_ratio_offline(hits)
            return Guess(scores=ratios.mean(axis=0))
        of_mode = lira_online if self.mode == "online" else lira_offline
        return Guess(scores=of_mode(Compared.of(observation, logit), self.variance == "per_sample"))
