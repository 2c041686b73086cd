"""What answers say of membership, all at once: one row a candidate, for a model that learns from reference models.

Every reference model plays the deployment once (``as_reference``): its answers, compared with those of the models
outside its pair, are what is learned from. Since its pair is lacking then, the deployment is compared as often, each
time without another pair (``without_each_pair``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suite.attack_model import Observation
from suite.likelihood import Compared, hit_ratio_offline, hit_ratio_online, lira_offline, lira_online, rmia
from suite.policy import OutputPolicy, Outputs
from suite.signals import certainty, hit, logit, modified_certainty, predicted, soft_confidence

Floats = NDArray[np.float64]

_LARGEST_KEPT = 4
_GAMMA, _OFFLINE_A = 2.0, 0.3


class AnswerRows:
    """The signals of an observation that has references, and rows [N, F] of them.

    The parts are the signals of Yeom et al. 2018 and of Song and Mittal 2021, the likelihood ratios of LiRA (Carlini et
    al. 2022) and RMIA (Zarifzadeh et al. 2024). Under label-only answers rows are made of labels: which views are
    right, how often models that know the candidate are, and who agrees with the deployment.
    """

    def __init__(self, observation: Observation) -> None:
        assert observation.references is not None
        assert observation.views is not None
        self._seen = observation
        self._hits = Compared.of(observation, hit)
        self._odds = self._hits if observation.policy.label_only else Compared.of(observation, logit)
        self._chances = Compared.of(observation, soft_confidence)
        self._own_class = predicted(observation.views[0], observation.policy)
        self._their_class = predicted(observation.references.answers[:, 0], observation.policy)
        self.n_models = len(observation.references)

    def as_reference(self, model: int) -> Floats:
        """Rows with a reference model in the deployment's place."""
        assert self._seen.references is not None
        kept = np.arange(self.n_models) // 2 != model // 2
        compared = [one.as_reference(model) for one in (self._hits, self._odds, self._chances)]
        alone = self._alone(self._seen.references.answers[model, 0])
        return np.column_stack([alone, self._against(compared, self._their_class[model], self._their_class[kept])])

    def without_each_pair(self) -> list[Floats]:
        """Rows of the deployment, compared with all reference models but one pair, for each pair."""
        assert self._seen.views is not None
        alone = self._alone(self._seen.views[0])
        found = []
        for pair in range(self.n_models // 2):
            kept = np.arange(self.n_models) // 2 != pair
            compared = [one.without(kept) for one in (self._hits, self._odds, self._chances)]
            against = self._against(compared, self._own_class, self._their_class[kept])
            found.append(np.column_stack([alone, against]))
        return found

    def _alone(self, answer: Outputs) -> Floats:
        return _of_answer(answer, self._seen.labels, self._seen.policy)

    def _against(
        self,
        compared: list[Compared],
        own_class: NDArray[np.int64],
        their_class: NDArray[np.int64],
    ) -> Floats:
        """What answers say beside those of models that know the candidate and of models that do not."""
        hits, odds, chances = compared
        columns = [*hits.own, hits.own.mean(axis=0)]
        for inside in (True, False):
            chosen = (hits.is_member == inside).astype(np.float64)
            agree = ((their_class == own_class) * chosen).sum(axis=0) / np.maximum(chosen.sum(axis=0), 1.0)
            columns += [hits.mean(inside).mean(axis=0), hits.mean(inside)[0], agree]
        columns += [hit_ratio_online(hits).mean(axis=0), hit_ratio_offline(hits).mean(axis=0)]
        columns += [rmia(chances, _GAMMA, a).mean(axis=0) for a in (None, _OFFLINE_A)]
        if self._seen.policy.label_only:
            return np.column_stack(columns)
        columns += [*np.log(chances.own), np.log(chances.mean(True))[0], np.log(chances.mean(False))[0]]
        columns += [*odds.own, odds.own.mean(axis=0), odds.own.min(axis=0), odds.own.std(axis=0)]
        for inside in (True, False):
            mean = odds.mean(inside)
            spread = np.broadcast_to(odds.spread(inside, per_sample=True), mean.shape)
            columns += [mean[0], mean.mean(axis=0), spread.mean(axis=0), (odds.own - mean).mean(axis=0)]
        for per_sample in (False, True):
            columns += [ratio(odds, per_sample) for ratio in (lira_online, lira_offline)]
        return np.column_stack(columns)


def _of_answer(answer: Outputs, labels: NDArray[np.int64], policy: OutputPolicy) -> Floats:
    """What one answer says by itself: [N, F]."""
    if policy.label_only:
        return np.column_stack([answer == labels, answer, labels]).astype(np.float64)
    signals = (logit, certainty, modified_certainty)
    rank = (answer > np.take_along_axis(answer, labels[:, None], axis=1)).sum(axis=1)
    largest = np.log(np.maximum(-np.sort(-answer.astype(np.float64), axis=1)[:, :_LARGEST_KEPT], 1e-45))
    return np.column_stack([*(signal(answer, labels, policy) for signal in signals), rank, labels, largest])
