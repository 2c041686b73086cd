"""The data classes and base classes of attacks: what they see, what they answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from suite.model import Goal, View
from suite.policy import OutputPolicy, Outputs

if TYPE_CHECKING:
    import torch

    from suite.view import AdversaryView


@dataclass(frozen=True, slots=True)
class ShadowObservation:
    """What a shadow model, trained by the attacker on its own data, answers under the victim's output policy.

    ``outputs`` as in ``Observation``; ``is_member`` bool [M]: whether the shadow was trained on the image.
    """

    outputs: Outputs
    labels: NDArray[np.int64]
    is_member: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class References:
    """What reference models answer: each was trained on a random half of all images whose membership is in question.

    They come in pairs (2i, 2i + 1) that share no image and have seen all of them together, so that half of the models
    know a candidate and half do not (Carlini et al. 2022, section V.A). ``answers`` [M, V, N, n_classes], or [M, V, N]
    predicted classes under a label-only policy: of M models for V views of N candidates, see ``Observation.views``.
    ``is_member`` bool [M, N]: whether the model was trained on the candidate. ``population`` [M, P, ...]: answers for
    the images of ``Observation.population``, which none of them has seen.
    """

    answers: Outputs
    is_member: NDArray[np.bool_]
    population: Outputs

    def __len__(self) -> int:
        return len(self.is_member)

    def without_pair(self, model: int) -> References:
        """All but one model and its complement: of those left, as many know a candidate as do not, as before.

        With the complement among them, the number of models that know a candidate would tell whether ``model`` does.
        """
        kept = np.arange(len(self)) // 2 != model // 2
        return References(self.answers[kept], self.is_member[kept], self.population[kept])


@dataclass(frozen=True, slots=True)
class Observation:
    """All that an attack bases its guess on.

    ``outputs``: float32 [N, n_classes], or int64 [N] predicted classes when ``policy.label_only``; ``labels``: int64
    [N] true classes of the candidates; ``boundary``: float32 [N, ...] per crossing tensor, filled when the attack
    needs ``View.BOUNDARY``; ``shadows``: filled when it needs ``View.AUXILIARY``; ``extra``: whatever the attack's own
    ``observe`` adds.

    Of a ``ReferenceAttack`` also: ``views`` [V, N, ...], the deployment's answers for ``V`` views of the candidates as
    ``suite.augment`` makes them, the first being the image itself; ``population`` [P, ...] and ``population_labels``
    int64 [P], its answers for auxiliary images, certain non-members; and ``references``.
    """

    outputs: Outputs
    labels: NDArray[np.int64]
    n_classes: int
    policy: OutputPolicy
    boundary: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    shadows: tuple[ShadowObservation, ...] = ()
    extra: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    views: Outputs | None = None
    population: Outputs | None = None
    population_labels: NDArray[np.int64] | None = None
    references: References | None = None

    def as_reference(self, model: int) -> Observation:
        """The same candidates with reference model ``model`` in the deployment's place, its pair no longer there.

        Its membership is ``references.is_member[model]``: what an attack learns from, or sets its threshold by.
        """
        assert self.references is not None
        mine = self.references.answers[model]
        return replace(
            self,
            outputs=mine[0],
            views=mine,
            population=self.references.population[model],
            references=self.references.without_pair(model),
        )


@dataclass(frozen=True, slots=True)
class Guess:
    """An attack's answer.

    ``scores``: float64 [N], higher means "member". ``threshold``: at or above it the attack says "member"; None lets
    the harness take the one with the best balanced accuracy on the attacker's shadow models (or reference models, of
    an attack that has them), never on the candidates.
    """

    scores: NDArray[np.float64]
    threshold: float | None = None


Arrays = Mapping[str, NDArray[Any]]
Remember = Callable[[str, Mapping[str, Any], Callable[[], Arrays]], Arrays]


def _compute(name: str, about: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
    """Nothing is kept."""
    return make()


@dataclass(frozen=True, slots=True)
class ReferenceModel:
    """One of the attacker's reference models, weights and all. ``is_member`` bool [N], see ``References``.

    ``load`` reads the module, in eval mode: float32 [N, *input_shape] to logits [N, n_classes].
    ``remember(name, about, make)``: what ``make()`` computes of this model and the candidates, arrays by name, kept for
    whoever asks for the same; ``about``, JSON-able, holds everything else that it depends on, but for the code of the
    module that ``make`` is from.
    """

    load: Callable[[], torch.nn.Module]
    is_member: NDArray[np.bool_]
    remember: Remember = _compute


@dataclass(frozen=True, slots=True)
class Stolen:
    """What an extraction attack built. ``module`` maps float32 [N, *input_shape] to logits, in eval mode.

    ``queries``: images that the deployment was asked for.
    """

    module: torch.nn.Module
    queries: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What is publicly known of a defense's way to lay a model out, before anything is trained.

    ``answers_alone``: the public part gives an answer without the TEE. ``disguised``: see ``suite.model.Deployment``.
    """

    answers_alone: bool
    disguised: bool


class AnyAttack(ABC):
    """A way to learn from what a deployment shows. Annotated class attributes are its parameters."""

    name: ClassVar[str]
    goal: ClassVar[Goal]
    needs: ClassVar[frozenset[View]]
    uses: ClassVar[frozenset[View]] = frozenset()

    def shadow_architecture(self, victim: str) -> str:
        """The architecture of the models this attack trains; the victim's own unless overridden."""
        return victim

    def unsuited(self, layout: Layout) -> str:
        """Why there is nothing for this attack to do on such a deployment, beyond ``needs``; empty where there is."""
        return ""


class Attack(AnyAttack):
    """A membership attack."""

    def observe(self, view: AdversaryView) -> Observation:
        """Gather what the guess will rest on. The default takes what the deployment answers for the candidates."""
        return view.observation()

    @abstractmethod
    def infer(self, observation: Observation) -> Guess:
        """Turn an observation into one score a candidate. Must be deterministic and leave its input unchanged."""


class ReferenceAttack(Attack):
    """A membership attack that compares the deployment with reference models, which know half of the candidates each.

    The attacker has the candidates, since it asks about them, and may train on them: its threat model is that of
    LiRA's online attack (Carlini et al. 2022). An attack of the offline kind looks only at the models that do not know
    a candidate. The models are trained once a victim, data set and seed, and shared by all attacks.
    """

    def n_views(self) -> int:
        """How many views of each candidate the deployment is asked for; see ``suite.augment``."""
        return 1


class ExtractionAttack(AnyAttack):
    """An attack that builds a model of its own that does what the victim does.

    It has images of its own (``view.auxiliary``) and no candidates. One without ``View.QUERY`` among its needs asks
    for nothing and is run once, with a budget of 0.
    """

    def wants_pretrained(self) -> bool:
        """Whether ``view.pretrained`` is used: a model of ``shadow_architecture``, trained on the auxiliary images."""
        return View.AUXILIARY in self.needs

    @abstractmethod
    def extract(self, view: AdversaryView, budget: int) -> Stolen:
        """Steal the model with at most ``budget`` queries (``view.query`` refuses more). Must be deterministic.

        Surrogates are best trained by ``view.teach``: what was learned before from the same answers is not learned
        again. ``view.scratch`` is a folder for checkpoints of any other training, which the next attempt finds again
        after an interruption.
        """
