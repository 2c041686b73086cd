"""What an attacker sees. Attacks get this object and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from device.board import Answer, Session
from device.training import TrainOptions
from suite import surrogates
from suite.attack_model import Observation, ReferenceModel, References, ShadowObservation
from suite.graph.ir import Graph
from suite.graph.parse import FileSegment
from suite.model import LabelledImages, View
from suite.policy import OutputPolicy, Outputs
from suite.seen_training import SeenStep, SeenTraining
from suite.surrogates import Lesson, Teacher


class ViewError(PermissionError):
    """An attack asked for something that it did not declare, or that the deployment does not show."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything that lies on the attacker's side of one deployment, before the attack's declaration narrows it.

    ``public``: the graphs of ``public_file``, the normal world's model file as it is. The last ones are for attacks
    with reference models, see ``suite.attack_model.Observation``; ``scratch`` is a folder for the attack's checkpoints,
    and ``budget`` the images it may still ask for, None where there is no limit. ``pretrained`` reads the model of
    ``AdversaryView.pretrained``, which has seen the auxiliary images at the positions ``pretrained_on``; ``teacher``
    trains what ``teach`` is asked for. ``steps`` of a query as the public file
    tells them, of which ``public`` has the graphs.
    """

    architecture: str
    input_shape: tuple[int, int, int]
    n_classes: int
    policy: OutputPolicy
    candidates: LabelledImages
    outputs: Outputs
    shows: frozenset[View]
    public: tuple[Graph, ...]
    public_file: bytes
    boundary: Mapping[str, NDArray[np.float32]]
    auxiliary: LabelledImages
    shadows: tuple[ShadowObservation, ...]
    seed: int = 0
    views: Outputs | None = None
    population: Outputs | None = None
    population_labels: NDArray[np.int64] | None = None
    references: References | None = None
    reference_models: tuple[ReferenceModel, ...] = ()
    scratch: Path | None = None
    budget: int | None = None
    disguised: bool = False
    pretrained: Callable[[], nn.Module] | None = None
    pretrained_on: NDArray[np.int64] | None = None
    teacher: Teacher = surrogates.teach
    steps: tuple[FileSegment, ...] = ()

    @property
    def n_asked(self) -> int:
        """Images that the deployment was asked for before the attack began."""
        n_views = 1 if self.views is None else len(self.views)
        return n_views * len(self.candidates) + (0 if self.population is None else len(self.population))


class AdversaryView:
    """One deployment as one attack may see it.

    What is not declared in the attack's ``needs`` or ``uses``, or not shown by the deployment, raises ``ViewError``.
    Nothing hidden can be reached from here: the public part is read back from the public file, and a live session knows
    the board's process, not the sealed file.
    """

    __slots__ = ("_needs", "_session", "_shown", "_uses", "n_queries")

    def __init__(
        self,
        shown: Shown,
        needs: frozenset[View],
        session: Session | None = None,
        uses: frozenset[View] = frozenset(),
    ) -> None:
        self._shown = shown
        self._needs = needs
        self._uses = uses
        self._session = session
        self.n_queries = 0

    def _allow(self, view: View) -> None:
        if view not in self._shown.shows:
            raise ViewError(
                f"this deployment does not show {view.value!r} (it shows {', '.join(sorted(self._shown.shows))})"
            )
        if view not in self._needs | self._uses:
            raise ViewError(f"the attack did not declare {view.value!r}: add View.{view.name} to its needs")

    def shows(self, view: View) -> bool:
        """Whether the deployment shows it and the attack has declared it."""
        return view in self._shown.shows & (self._needs | self._uses)

    @property
    def architecture(self) -> str:
        """The victim's architecture, which the attacker is taken to know."""
        return self._shown.architecture

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self._shown.input_shape

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self._shown.n_classes

    @property
    def policy(self) -> OutputPolicy:
        """What the answers reveal."""
        return self._shown.policy

    @property
    def candidates(self) -> LabelledImages:
        """The images whose membership is in question, with their true labels."""
        return self._shown.candidates

    def observation(self) -> Observation:
        """The deployment's answers for the candidates, with boundary tensors and shadows where declared."""
        self._allow(View.OUTPUT)
        boundary = self.boundary if View.BOUNDARY in self._needs else {}
        shadows = self.shadows if View.AUXILIARY in self._needs else ()
        shown = self._shown
        plain = Observation(
            shown.outputs, shown.candidates.labels, shown.n_classes, shown.policy, boundary=boundary, shadows=shadows
        )
        if shown.references is None:
            return plain
        self._allow(View.AUXILIARY)
        self._allow(View.QUERY)
        return dataclasses.replace(
            plain,
            views=shown.views,
            population=shown.population,
            population_labels=shown.population_labels,
            references=shown.references,
        )

    @property
    def public(self) -> tuple[Graph, ...]:
        """Graphs and parameters of the normal world's part, as its file tells them."""
        self._allow(View.WEIGHTS)
        return self._shown.public

    @property
    def steps(self) -> tuple[FileSegment, ...]:
        """The steps of a query as the public file tells them: what each reads and makes, and the public ones' graphs.

        ``step<i>.in<j>`` of a boundary is the tensor ``steps[i].inputs[j]``.
        """
        self._allow(View.WEIGHTS)
        return self._shown.steps

    @property
    def boundary(self) -> Mapping[str, NDArray[np.float32]]:
        """Every tensor that crossed for the candidates, float32 [N, ...] each, by step."""
        self._allow(View.BOUNDARY)
        return self._shown.boundary

    @property
    def auxiliary(self) -> LabelledImages:
        """The attacker's own images: none of them is a candidate."""
        self._allow(View.AUXILIARY)
        return self._shown.auxiliary

    @property
    def shadows(self) -> tuple[ShadowObservation, ...]:
        """What the attacker's shadow models answer under the same output policy."""
        self._allow(View.AUXILIARY)
        return self._shown.shadows

    @property
    def reference_models(self) -> tuple[ReferenceModel, ...]:
        """The attacker's reference models themselves, of an attack that has any."""
        self._allow(View.AUXILIARY)
        return self._shown.reference_models

    @property
    def pretrained(self) -> nn.Module:
        """A copy of the attacker's own model of the victim's architecture, or of the one that the attack names.

        Trained on labelled auxiliary images, as many as the victim has members; in eval mode, to logits. It stands for
        the public pre-trained model that an attacker starts from.
        """
        self._allow(View.AUXILIARY)
        if self._shown.pretrained is None:
            raise ViewError(
                "this view has no pre-trained model: wants_pretrained() of the attack says that it needs none"
            )
        return self._shown.pretrained()

    @property
    def pretrained_on(self) -> LabelledImages:
        """The auxiliary images that ``pretrained`` was trained on."""
        self._allow(View.AUXILIARY)
        if self._shown.pretrained_on is None:
            raise ViewError("this view has no pre-trained model, and so no images that it was trained on")
        own, chosen = self._shown.auxiliary, self._shown.pretrained_on
        return LabelledImages(own.images[chosen], own.labels[chosen])

    @property
    def disguised(self) -> bool:
        """Whether public parameters are hidden ones in disguise; how a defense works is no secret."""
        return self._shown.disguised

    def teach(self, lesson: Lesson) -> nn.Module:
        """Train a surrogate on what was learned; see ``suite.surrogates``. The same lesson is trained once."""
        return self._shown.teacher(lesson)

    @property
    def seed(self) -> int:
        """Of whatever the attack draws."""
        return self._shown.seed

    @property
    def scratch(self) -> Path:
        """A folder for checkpoints of the attack's own trainings, found again after an interruption."""
        if self._shown.scratch is None:
            raise ViewError("this view has no folder for checkpoints")
        return self._shown.scratch

    def query(self, images: NDArray[np.float32]) -> Outputs:
        """Ask the deployment: float32 [N, *input_shape] to what its policy lets out.

        Raises:
            ViewError: QUERY is not declared or not shown, the session is over, or the budget is spent.
        """
        return self._asked(images, boundary=False).outputs

    def query_boundary(self, images: NDArray[np.float32]) -> Answer:
        """As ``query``, and every tensor that crosses between the worlds meanwhile.

        Raises:
            ViewError: as ``query``, or BOUNDARY is not declared or not shown.
        """
        self._allow(View.BOUNDARY)
        return self._asked(images, boundary=True)

    def _asked(self, images: NDArray[np.float32], *, boundary: bool) -> Answer:
        self._allow(View.QUERY)
        if self._session is None:
            raise ViewError("the session is over: query inside observe()")
        budget = self._shown.budget
        if budget is not None and self.n_queries + len(images) > budget:
            raise ViewError(f"{self.n_queries} of {budget} queries are spent, {len(images)} more are over the budget")
        self.n_queries += len(images)
        return self._session.infer(images, boundary=True) if boundary else self._session.infer(images)

    def train(self, options: TrainOptions) -> SeenTraining:
        """Begin to train the deployment on the board, on whatever the attacker likes.

        It ends with the session, or where the next one begins.

        Who owns the normal world of a device that may train can do so: that world supplies images and labels and runs
        the public layers, and the TA takes part in every step that it is asked for. It chooses learning rate, momentum
        and dropouts of its own layers (``options.dropouts``); those of hidden layers are the owner's, sealed in the
        model. What steps that update change, later queries of the same attack answer with; no other attack meets it.

        Raises:
            ViewError: gradients are not shown or not declared, or the session is over.
            BoardError: the secure world cannot hold what training takes.
        """
        self._allow(View.GRADIENTS)
        if self._session is None:
            raise ViewError("the session is over: train inside observe()")
        return SeenTraining(self._session.train(options), self._shown.public_file)

    def gradients(self, data: LabelledImages | None = None) -> Iterator[SeenStep]:
        """What a training step on each image by itself shows, in order, with no weight changed; streamed.

        Of the candidates, with their true labels, unless ``data`` are given. Each is a step that the board ran, asked
        for by the attacker: it says what training on that image looks like to the normal world, and nothing about
        whether the image was trained on, which is for the attack to guess. The owner's own training steps are not
        shown: whoever was in the normal world then has seen the images themselves, and has nothing left to infer.

        Raises:
            ViewError: gradients are not shown or not declared, or the session is over.
        """
        training = self.train(TrainOptions(learning_rate=0.0))
        chosen = self.candidates if data is None else data
        return (training.step(chosen.images[i : i + 1], chosen.labels[i : i + 1]) for i in range(len(chosen)))

    def crossings(self, images: NDArray[np.float32], batch: int = 64) -> Iterator[Mapping[str, NDArray[np.float32]]]:
        """Ask about ``images``, ``batch`` at a time, for what crosses: as ``boundary``, but never all of it at once.

        Raises:
            ViewError: as ``query``; BOUNDARY has to be shown and declared, too.
        """
        self._allow(View.BOUNDARY)
        for start in range(0, len(images), batch):
            yield self._asked(images[start : start + batch], boundary=True).boundary
