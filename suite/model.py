"""The data classes and base classes that plugins and harness share. The threat model lives here, as types."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from suite.graph.ir import Graph, GraphError
from suite.graph.partition import Segment, World
from suite.policy import OutputPolicy, Outputs, PolicyKind

if TYPE_CHECKING:
    import torch

    from suite.view import AdversaryView


class Goal(StrEnum):
    """What an attack is after."""

    MEMBERSHIP = "membership"
    EXTRACTION = "extraction"
    EXPOSURE = "exposure"


class View(StrEnum):
    """One kind of thing an attacker may see. An attack declares what it needs; a deployment decides what it shows."""

    OUTPUT = "output"  # what the output policy lets out, for the scored candidates
    QUERY = "query"  # queries of the attacker's own choosing, adaptively
    WEIGHTS = "weights"  # graph and parameters of the public part
    BOUNDARY = "boundary"  # every tensor that crosses between the worlds
    AUXILIARY = "auxiliary"  # a data set disjoint from what is scored, and shadow models trained on it


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images as the model takes them, float32 [N, C, H, W], normalised, and labels int64 [N]."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Victim:
    """A trained model, as its owner (who chooses a defense) has it.

    ``module`` maps float32 [N, *input_shape] to logits [N, n_classes], in eval mode; treat it as read-only and copy
    before training. ``graph`` is the same model with batch norms folded and the softmax appended.
    """

    architecture: str
    input_shape: tuple[int, int, int]
    n_classes: int
    module: torch.nn.Module
    graph: Graph
    members: LabelledImages


@dataclass(frozen=True, slots=True)
class Deployment:
    """How a model is laid out over the two worlds, and what its answer reveals.

    Everything an attacker can see follows from this object and from nothing else. ``segments`` run in order, each in
    one world; the last one makes the [n_classes] probabilities, to which ``policy`` is applied.

    Raises:
        GraphError: there is no segment, the last one does not end in one (n_classes,) tensor, the policy lets out more
            classes than there are, or would be enforced by the normal world (which hides nothing: whoever owns that
            world reads the probabilities).
    """

    segments: tuple[Segment, ...]
    policy: OutputPolicy

    def __post_init__(self) -> None:
        if not self.segments:
            raise GraphError("a deployment needs at least one segment")
        last = self.segments[-1]
        outputs = last.graph.outputs
        if len(outputs) != 1 or len(last.graph.shapes[outputs[0]]) != 1:
            raise GraphError(f"the last segment must end in one (n_classes,) tensor, not {outputs}")
        if last.world is World.REE and self.policy.kind is not PolicyKind.PROBS:
            raise GraphError(
                f"output policy {self.policy} would be enforced by the normal world, whose owner reads the"
                " probabilities all the same: put the last layers into the TEE, or let probabilities out"
            )
        if self.policy.kind is PolicyKind.TOPK and self.policy.arg > self.n_classes:
            raise GraphError(f"output policy {self.policy} of a model with {self.n_classes} classes: use a smaller k")

    @property
    def n_classes(self) -> int:
        """Length of the probability vector."""
        last = self.segments[-1].graph
        return last.shapes[last.outputs[0]][0]

    @property
    def public(self) -> tuple[Graph, ...]:
        """The graphs, with weights, of what runs in the normal world."""
        return tuple(s.graph for s in self.segments if s.world is World.REE)

    @property
    def hidden(self) -> tuple[Graph, ...]:
        """The graphs of what runs in the secure world."""
        return tuple(s.graph for s in self.segments if s.world is World.TEE)

    @property
    def shows(self) -> frozenset[View]:
        """What an attacker on the normal world's side sees of this deployment."""
        seen = {View.OUTPUT, View.QUERY, View.AUXILIARY}
        if any(node.has_parameters for graph in self.public for node in graph.nodes):
            seen.add(View.WEIGHTS)
        if self.public and self.hidden:
            seen.add(View.BOUNDARY)
        return frozenset(seen)


@dataclass(frozen=True, slots=True)
class ShadowObservation:
    """What a shadow model, trained by the attacker on its own data, answers under the victim's output policy.

    ``outputs`` as in ``Observation``; ``is_member`` bool [M]: whether the shadow was trained on the image.
    """

    outputs: Outputs
    labels: NDArray[np.int64]
    is_member: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Observation:
    """All that an attack bases its guess on.

    ``outputs``: float32 [N, n_classes], or int64 [N] predicted classes when ``policy.label_only``; ``labels``: int64
    [N] true classes of the candidates; ``boundary``: float32 [N, ...] per crossing tensor, filled when the attack
    needs ``View.BOUNDARY``; ``shadows``: filled when it needs ``View.AUXILIARY``; ``extra``: whatever the attack's own
    ``observe`` adds.
    """

    outputs: Outputs
    labels: NDArray[np.int64]
    n_classes: int
    policy: OutputPolicy
    boundary: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    shadows: tuple[ShadowObservation, ...] = ()
    extra: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Guess:
    """An attack's answer.

    ``scores``: float64 [N], higher means "member". ``threshold``: at or above it the attack says "member"; None lets
    the harness take the one with the best balanced accuracy on the attacker's shadow models, never on the candidates.
    """

    scores: NDArray[np.float64]
    threshold: float | None = None


class Defense(ABC):
    """A way to split a model between the worlds. Annotated class attributes are its parameters.

    ``max_accuracy_loss_frac`` is the gate on accuracy lost by deploying; a defense that trades accuracy raises it.
    """

    name: ClassVar[str]
    max_accuracy_loss_frac: ClassVar[float] = 0.005

    @abstractmethod
    def deploy(self, victim: Victim) -> Deployment:
        """Lay ``victim`` out over the two worlds. Must not change it; must be deterministic.

        Raises:
            ValueError: the parameters do not fit this victim; says which, and the allowed range.
        """


class Attack(ABC):
    """A way to learn from what a deployment shows. Annotated class attributes are its parameters."""

    name: ClassVar[str]
    goal: ClassVar[Goal]
    needs: ClassVar[frozenset[View]]

    def shadow_architecture(self, victim: str) -> str:
        """The architecture of the shadow models this attack wants; the victim's own unless overridden."""
        return victim

    def observe(self, view: AdversaryView) -> Observation:
        """Gather what the guess will rest on. The default takes what the deployment answers for the candidates."""
        return view.observation()

    @abstractmethod
    def infer(self, observation: Observation) -> Guess:
        """Turn an observation into one score a candidate. Must be deterministic and leave its input unchanged."""
