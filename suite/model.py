"""The data classes and base classes that plugins and harness share. The threat model lives here, as types."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from suite.graph.ir import Graph, GraphError
from suite.graph.partition import Segment, World
from suite.graph.training import check_trainable, is_trainable, place_dropouts
from suite.policy import OutputPolicy, PolicyKind

if TYPE_CHECKING:
    import torch

MAX_SEGMENTS = 256
"""``LB_MAX_SEGMENTS`` of ta/runtime/lb_runtime.h; a test compares them."""


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
    GRADIENTS = "gradients"  # training steps on the device: what crosses in them, and the public layers' gradients
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

    ``public`` are images of the members' distribution that everybody has, the attacker too: its auxiliary data, from
    which the images of its shadow models are drawn. None of them is a member, a candidate or a test image. They are
    normalised as the members are, by the members' mean and deviation, which everybody is taken to know.
    """

    architecture: str
    input_shape: tuple[int, int, int]
    n_classes: int
    module: torch.nn.Module
    graph: Graph
    members: LabelledImages
    public: LabelledImages


@dataclass(frozen=True, slots=True)
class OnDeviceTraining:
    """That the owner of a deployment lets the device train it further, the hidden part inside the TEE.

    ``dropouts``: probability of becoming 0 by tensor of the deployment, while training (``suite.graph.dropouts``).
    """

    dropouts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deployment:
    """How a model is laid out over the two worlds, and what its answer reveals.

    Everything an attacker can see follows from this object and from nothing else. ``segments`` run in order, each in
    one world; the last one makes the [n_classes] probabilities, to which ``policy`` is applied. ``public_answer``
    names a tensor (n_classes,), logits or probabilities, that the public part hands out without any help of the TEE,
    if it has one: what somebody gets who uses the model without being allowed to. ``training``: None where the device
    answers queries and no more. ``disguised``: parameters of the public part are hidden ones in disguise (scaled,
    masked, shuffled), which the TEE undoes in what they compute.

    Raises:
        GraphError: there is no segment or there are too many, the last one does not end in one (n_classes,) tensor, the
            policy lets out more classes than there are, or would be enforced by the normal world (which hides nothing:
            whoever owns that world reads the probabilities); or it is to be trained and boards cannot do that.
    """

    segments: tuple[Segment, ...]
    policy: OutputPolicy
    public_answer: str | None = None
    training: OnDeviceTraining | None = None
    disguised: bool = False

    def __post_init__(self) -> None:
        if not self.segments:
            raise GraphError("a deployment needs at least one segment")
        if len(self.segments) > MAX_SEGMENTS:
            raise GraphError(
                f"a query would take {len(self.segments)} segments, one a change of world, and boards run at most"
                f" {MAX_SEGMENTS}: put layers that follow one another into one world"
            )
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
        if self.public_answer is not None:
            self._check_public_answer(self.public_answer)
        if self.training is not None:
            check_trainable(self.segments)
            for world in World:
                place_dropouts(self.segments, world, self.training.dropouts)

    def _check_public_answer(self, name: str) -> None:
        made = set(self.segments[0].graph.inputs)
        for segment in self.segments:
            if segment.world is World.REE and made.issuperset(segment.graph.inputs):
                made.update(segment.graph.outputs)
        shapes = {tensor: shape for s in self.segments for tensor, shape in s.graph.shapes.items()}
        if name not in made or shapes[name] != (self.n_classes,):
            raise GraphError(
                f"public answer {name!r} must be an output (n_classes,) of a normal-world segment that needs nothing"
                " of the TEE"
            )

    @property
    def answers_alone(self) -> str | None:
        """The tensor that the public part answers with when there is no TEE; None when it has no answer."""
        if self.hidden:
            return self.public_answer
        return self.public_answer or self.segments[-1].graph.outputs[0]

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
        """What an attacker on the normal world's side sees of this deployment.

        Gradients are seen where the device may train and the normal world has layers to train; and of a model that
        lies open as a whole, which needs nobody's leave to be trained.
        """
        seen = {View.OUTPUT, View.QUERY, View.AUXILIARY}
        has_public_layers = any(node.has_parameters for graph in self.public for node in graph.nodes)
        if has_public_layers:
            seen.add(View.WEIGHTS)
        if self.public and self.hidden:
            seen.add(View.BOUNDARY)
        if has_public_layers and (self.training is not None or (not self.hidden and is_trainable(self.segments))):
            seen.add(View.GRADIENTS)
        return frozenset(seen)


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


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a defense may learn: passes over the members, and the seed of whatever it draws."""

    epochs: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class LearningProgress:
    """Where a defense's training is: mean loss and accuracy over the last epoch, seconds left at the pace so far."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    seconds_left: float


OnProgress = Callable[[LearningProgress], None]


@dataclass(frozen=True, slots=True)
class Learned:
    """What a defense has learned about one victim: ``arrays`` for its own ``deploy``, ``about`` for the record.

    ``about`` holds what JSON can say; the record keeps it as it is.
    """

    arrays: Mapping[str, NDArray[np.generic]]
    about: Mapping[str, object]


class LearnedDefense(Defense):
    """A defense that trains something of its own, once for each victim, before it can be deployed.

    What it learns is kept and shared by every deployment; parameters named in ``layout_only`` have no influence on
    it. The attacker's shadow models stay plain models of the victim's architecture: they do not go through ``learn``.
    """

    layout_only: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def learn(self, victim: Victim, effort: Effort, scratch: Path, on_progress: OnProgress | None = None) -> Learned:
        """Train on the victim, its members and public images (never on anything that attacks are scored on).

        Must not change the victim, and be deterministic. ``scratch`` is a folder for checkpoints, which the next
        attempt finds again after an interruption: it has to end with the same arrays.

        Raises:
            ValueError: the parameters do not fit this victim; says which, and the allowed range.
        """

    @abstractmethod
    def deploy(self, victim: Victim, learned: Learned | None = None) -> Deployment:
        """Lay ``victim`` out with what ``learn`` has found.

        Without ``learned`` it is a survey, before anything is trained: the victim has random weights and no members.
        Then the layout must be the one that takes most TEE memory of those that ``learn`` may come to, show the same
        to an attacker, and have the same policy; its numbers do not matter.
        """
