"""Stacked: everything that answers say of membership, weighed by a model that learned from reference models."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from suite import Goal, Guess, Observation, ReferenceAttack, View, attack
from suite.answer_rows import AnswerRows

_MOST_ROWS = 150_000  # more of the same kind only cost time
_MOST_TREES = 200  # few rows bear fewer


@attack("stacked", goal=Goal.MEMBERSHIP, needs={View.OUTPUT, View.AUXILIARY, View.QUERY})
class Stacked(ReferenceAttack):
    """Gradient-boosted trees over the signals of the other attacks, one row a candidate.

    Original; its parts are the attack model of Shokri et al. 2017, the signals of Yeom et al. 2018 and of Song and
    Mittal 2021, the reference models and likelihood ratios of LiRA (Carlini et al. 2022), and RMIA (Zarifzadeh et al.
    2024). Some non-members are more certain than members, so that a threshold on any one signal loses what their
    combination tells.

    Every reference model plays the victim once: its answers, compared with those of the models outside its pair, and
    what it was trained on are what the trees learn from. Since the pair is then lacking, the deployment is compared as
    often, each time without another pair, and the log-odds are averaged. Under label-only answers the rows are made of
    labels: which views are right, how often models that know the candidate are, and who agrees with the deployment.
    """

    views: int = 4

    def n_views(self) -> int:
        """As many as asked for."""
        return self.views

    def infer(self, observation: Observation) -> Guess:
        """Fit on the reference models, score the candidates by the log-odds of membership; 0 is the threshold."""
        assert observation.references is not None
        rows, is_member = AnswerRows(observation), observation.references.is_member
        known = np.concatenate([rows.as_reference(model).astype(np.float32) for model in range(rows.n_models)])
        truth = is_member.ravel()
        if len(known) > _MOST_ROWS:
            chosen = np.random.default_rng(0).choice(len(known), _MOST_ROWS, replace=False)
            known, truth = known[chosen], truth[chosen]
        learner = HistGradientBoostingClassifier(
            max_iter=min(_MOST_TREES, 30 + len(known) // 100),
            learning_rate=0.06,
            max_leaf_nodes=15,
            min_samples_leaf=60,
            l2_regularization=5.0,
            random_state=0,
        )
        # One thread: several that wait for one another on busy cores took a hundred times as long.
        with threadpool_limits(limits=1):
            learner.fit(known, truth)
            odds = [learner.decision_function(against.astype(np.float32)) for against in rows.without_each_pair()]
        return Guess(scores=np.mean(odds, axis=0), threshold=0.0)
