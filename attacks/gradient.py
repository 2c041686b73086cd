"""Gradient: what open layers do with a candidate, forwards and backwards, beside what the answers say."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from suite import Goal, Guess, Observation, ReferenceAttack, View, attack
from suite.answer_rows import AnswerRows
from suite.graph.surrogate import Fit
from suite.layer_reading import Tail, read_layers
from suite.likelihood import Compared
from suite.view import AdversaryView

Floats = NDArray[np.float64]

_MOST_ROWS = 150_000  # more rows of the same kind only cost time


@attack(
    "gradient",
    goal=Goal.MEMBERSHIP,
    needs={View.OUTPUT, View.AUXILIARY, View.QUERY},
    uses={View.WEIGHTS, View.BOUNDARY, View.GRADIENTS},
)
class Gradient(ReferenceAttack):
    """Gradients, activations, loss and answers of each candidate, weighed by a model that learned from references.

    Nasr, Shokri and Houmansadr, "Comprehensive privacy analysis of deep learning: passive and active white-box
    inference attacks against centralized and federated learning", IEEE S&P 2019, sections III and IV: the white-box
    attacker computes, for every layer that lies open, the gradient of the candidate's loss, besides activations and
    answers, and an attack model tells members by them. DarkneTZ (Mo et al. 2020, section 6) measures hidden layers
    by this attack.

    It adapts to what is hidden. Behind open layers that end at a hidden one, the attacker puts a surrogate of the rest,
    fitted to what the deployment answers for its own images and the candidates, and differentiates through it; open
    layers behind hidden ones are differentiated exactly, from the activations that the TEE hands out; of layers that
    lie open in parts (scaled, masked, thinned) it reads the activations that cross. A device that trains hands the
    gradients back from the hidden layers themselves: there it has steps run on the candidates that change no weight,
    and needs no surrogate. Where nothing is open, answers are all it has.

    Interpretation: gradients come in as norms, and as their part along the weights, for each layer, in place of the
    gradients themselves in front of a convolution, which suits few samples; each is compared with those of reference
    models that know the candidate and of models that do not, as LiRA compares losses (Carlini et al. 2022), and the
    attack model is a gradient-boosted tree ensemble. The paper's attacker knows some members and trains on them; this
    one learns from reference models of its own, laid out as the deployment is.

    ``models``: how many reference models are read layer by layer; ``tail``: the surrogate is ``linear``, a read-out of
    what the open layers make, or ``same``, layers like the hidden ones; ``epochs``: passes in fitting it; ``views``: of
    each candidate, for the answers.
    """

    models: int = 16
    tail: str = "linear"
    epochs: int = 20
    views: int = 4

    def n_views(self) -> int:
        """As many as asked for."""
        return self.views

    def observe(self, view: AdversaryView) -> Observation:
        """The answers, and what the open layers show of the deployment and of reference models.

        Raises:
            ValueError: ``tail`` is neither linear nor same, or ``models`` is not even or below 4.
        """
        if self.tail not in ("linear", "same"):
            raise ValueError(f"gradient[tail={self.tail}]: a surrogate is linear or same")
        if self.models < 4 or self.models % 2:
            raise ValueError(f"gradient[models={self.models}]: reference models come in pairs, at least two")
        seen = view.observation()
        reading = read_layers(view, self.models, Tail(self.tail, Fit(epochs=self.epochs, seed=view.seed)))
        if reading is None:
            return seen
        return dataclasses.replace(seen, extra={"own": reading.own, "others": reading.others})

    def infer(self, observation: Observation) -> Guess:
        """Fit on the reference models, score the candidates by the log-odds of membership; 0 is the threshold."""
        rows = _Rows(observation)
        known = np.concatenate([rows.as_reference(model) for model in range(rows.n_models)])
        assert observation.references is not None
        is_known = observation.references.is_member[: rows.n_models].reshape(-1)
        if len(known) > _MOST_ROWS:
            chosen = np.random.default_rng(0).choice(len(known), _MOST_ROWS, replace=False)
            known, is_known = known[chosen], is_known[chosen]
        learner = HistGradientBoostingClassifier(
            max_iter=250,
            learning_rate=0.06,
            max_leaf_nodes=15,
            min_samples_leaf=60,
            l2_regularization=5.0,
            max_features=0.2,
            random_state=0,
        )
        # One thread: several that wait for one another on busy cores took a hundred times as long.
        with threadpool_limits(limits=1):
            learner.fit(known, is_known)
            odds = [learner.decision_function(row) for row in rows.without_each_pair()]
        return Guess(scores=np.mean(odds, axis=0), threshold=0.0)


class _Rows:
    """Rows [N, F], float32: of the answers, and of the layers where there are any."""

    def __init__(self, observation: Observation) -> None:
        assert observation.references is not None
        self._answers = AnswerRows(observation)
        self._layers: Compared | None = None
        self.n_models = len(observation.references)
        if "own" in observation.extra:
            own = np.asarray(observation.extra["own"], np.float64)
            others = np.asarray(observation.extra["others"], np.float64)
            self.n_models = len(others)
            is_member = observation.references.is_member[: self.n_models]
            nobody = np.zeros((self.n_models, 0))
            self._layers = Compared(own.T, others.transpose(0, 2, 1), is_member, np.zeros(0), nobody)

    def as_reference(self, model: int) -> NDArray[np.float32]:
        """With a reference model in the deployment's place."""
        parts = [self._answers.as_reference(model)]
        if self._layers is not None:
            parts.append(_beside(self._layers.as_reference(model)))
        return np.column_stack(parts).astype(np.float32)

    def without_each_pair(self) -> list[NDArray[np.float32]]:
        """The deployment's, compared with all reference models but one pair, for each pair."""
        found = []
        for pair, row in enumerate(self._answers.without_each_pair()):
            parts = [row]
            if self._layers is not None:
                layers = self._layers
                kept = np.arange(len(layers.others)) // 2 != pair % (len(layers.others) // 2)
                parts.append(_beside(layers.without(kept)))
            found.append(np.column_stack(parts).astype(np.float32))
        return found


def _beside(layers: Compared) -> Floats:
    """Each feature as it is, and in spreads from the mean of models that know the candidate, and that do not."""
    columns = [layers.own]
    for inside in (True, False):
        columns.append((layers.own - layers.mean(inside)) / layers.spread(inside, per_sample=False))
    return np.concatenate(columns).T
