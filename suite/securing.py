"""From a model of anybody's to a deployment sealed to one device, in memory."""

from __future__ import annotations

import dataclasses
import datetime
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from device.board import Board, BoardError, DeploymentFiles, SealedRefused
from device.sealing import seal
from device.slice_sealing import seal_slices
from suite import sealed_deployment as layout
from suite.deploying import deploy
from suite.graph.format import pack_public, pack_sealed, pack_slices
from suite.graph.macs import graph_macs
from suite.graph.partition import World
from suite.graph.planner import MemoryPlan, plan_tee
from suite.graph.reference import run_segments
from suite.leakcheck import Needles, numbers_in
from suite.model import Defense, Deployment, LabelledImages, LearnedDefense, Victim, View
from suite.outside_models import OutsideModel
from suite.policy import OutputPolicy, PolicyKind
from suite.provenance import suite_version, versions
from suite.registry import PluginError
from suite.spec import PluginSpec

MODEL_ID_BYTES = 16
TOLERANCE = 1e-4
_QUERIES = 4
_SEEN = {
    View.OUTPUT: "the answers, as the output policy lets them out",
    View.QUERY: "answers for inputs of its own choosing",
    View.WEIGHTS: "graph and parameters of the public layers",
    View.BOUNDARY: "every tensor that crosses between the worlds",
    View.GRADIENTS: "gradients of the public layers",
    View.AUXILIARY: "images of its own, and models trained on them",
}


class _Withheld(LabelledImages):
    """Images that nobody gave: a defense that asks for them is told so."""

    @classmethod
    def by(cls, spec: PluginSpec) -> _Withheld:
        """From the defense ``spec``."""
        made = cls.__new__(cls)
        object.__setattr__(made, "_asked_by", f"defense {spec.text} ({spec.plugin.where})")
        return made

    def _refuse(self) -> NoReturn:
        asked_by: str = self.__dict__["_asked_by"]
        raise ValueError(f"{asked_by} looks at images that the model was trained on: name some with --data FILE.npy")

    @property
    def images(self) -> NDArray[np.float32]:
        self._refuse()

    @property
    def labels(self) -> NDArray[np.int64]:
        self._refuse()

    def __len__(self) -> int:
        self._refuse()


@dataclass(frozen=True, slots=True)
class Secured:
    """A deployment and its plan; nothing is packed yet."""

    model: OutsideModel
    spec: PluginSpec
    deployment: Deployment
    plan: MemoryPlan


def lay_out(
    model: OutsideModel, spec: PluginSpec, policy: str | None, images: NDArray[np.float32] | None, limit_bytes: int
) -> Secured:
    """Run a defense on a model.

    Args:
        model: whose.
        spec: of the defense.
        policy: an output policy instead of the defense's own.
        images: float32 [N, *input_shape] for a defense that looks at some, or None.
        limit_bytes: of the TEE's memory.

    Raises:
        PluginError: the defense does not suit the model, or takes what is not there.
        DoesNotFit: the TEE part takes more memory than the limit; carries the table.
        GraphError: the policy would hide nothing.
    """
    defense: Defense = spec.make()
    if isinstance(defense, LearnedDefense):
        raise PluginError(
            f"defense {spec.text} ({spec.plugin.where}) trains layers of its own on the images that the model was"
            " trained on, with the suite's training: it secures victims of the suite (pytest suite), not other models"
        )
    held = _Withheld.by(spec) if images is None else _labelled(model, images)
    victim = Victim(model.name, model.input_shape, model.n_classes, model.module, model.graph, held, held)
    deployment = deploy(spec, victim)
    if deployment.training is not None:
        raise PluginError(f"defense {spec.text}: the device may train it, which is leakboard finetune's to prepare")
    if policy is not None:
        deployment = dataclasses.replace(deployment, policy=OutputPolicy.parse(policy))
    return Secured(model, spec, deployment, plan_tee(deployment.segments, limit_bytes))


def _labelled(model: OutsideModel, images: NDArray[np.float32]) -> LabelledImages:
    """The images with the classes that the model itself gives them."""
    return LabelledImages(images, model.probabilities(torch.from_numpy(images)).argmax(1).numpy().astype(np.int64))


def seal_to(secured: Secured, device_key: bytes, version: int = 0) -> dict[str, bytes]:
    """The files for the device by name. What is hidden was never in a file in the clear.

    Raises:
        BoardError: the key or the version is none.
        PluginError: a hidden parameter stands in the public file: the defense does not hide it.
    """
    deployment, model_id = secured.deployment, secrets.token_bytes(MODEL_ID_BYTES)
    files = {layout.PUBLIC: pack_public(deployment.segments, deployment.policy, model_id)}
    if deployment.hidden:
        hidden = pack_sealed(deployment.segments, deployment.policy, model_id)
        if slices := pack_slices(deployment.segments):
            hidden, files[layout.SLICES] = seal_slices(hidden, slices)
        files[layout.SEALED] = seal(hidden, device_key, version=version)
    needles = Needles(deployment.hidden)
    for name, data in files.items():
        if leaked := next((one for words in numbers_in(data) if (one := needles.find(words))), None):
            raise PluginError(f"defense {secured.spec.text}: hidden parameter {leaked} stands in the clear in {name}")
    return files


def description(
    secured: Secured, files: Mapping[str, bytes], device_key: bytes, limit_bytes: int, predicted: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of ``deployment.json``; ``predicted`` goes into it as it is."""
    model, deployment, plan = secured.model, secured.deployment, secured.plan
    crossing = [
        {"tensor": name, "shape": list(segment.graph.shapes[name]), "way": way}
        for segment in deployment.segments
        if segment.world is World.TEE
        for way, names in (("to the TEE", segment.graph.inputs), ("from the TEE", segment.graph.outputs))
        for name in names
    ]
    macs = {world: sum(graph_macs(s.graph) for s in deployment.segments if s.world is world) for world in World}
    layers = {
        world: [n.layer for s in deployment.segments if s.world is world for n in s.graph.parameter_nodes()]
        for world in World
    }
    return {
        "schema": layout.SCHEMA,
        "created_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": {
            "name": model.name,
            "input_shape": list(model.input_shape),
            "input": "float32, as the model itself takes it: normalising is the caller's, labels are its class indices",
            "n_classes": model.n_classes,
            "softmax_appended": model.appended,
        },
        "defense": secured.spec.text,
        "policy": str(deployment.policy),
        "files": {name: {"bytes": len(data), "sha256": layout.digest(data)} for name, data in files.items()},
        "device_key_sha256": layout.digest(device_key) if deployment.hidden else None,
        "shows": {str(view): _SEEN[view] for view in sorted(deployment.shows)},
        "crossing": crossing,
        "public_layers": layers[World.REE],
        "hidden_layers": layers[World.TEE],
        "answers_alone": deployment.answers_alone is not None,
        "disguised": deployment.disguised,
        "tee_limit_bytes": limit_bytes,
        "tee_planned_bytes": plan.peak_bytes,
        "tee_macs_frac": macs[World.TEE] / max(1, sum(macs.values())),
        "predicted": predicted,
        "versions": {"leakboard": suite_version(), **versions()},
    }


def try_on(board: Board, secured: Secured, files: DeploymentFiles) -> dict[str, Any]:
    """Answer a few random images on the board and hold the answers against PyTorch's.

    Returns ``queries``; ``max_abs_error`` against PyTorch running the same segments; and what is left of the model that
    was given: ``labels_agree_frac``, and ``model_max_abs_error``, None where the label alone comes out.

    Raises:
        BoardError: the board fails, cannot open what was sealed to it, or answers something else.
    """
    deployment, model = secured.deployment, secured.model
    images = np.random.default_rng(0).standard_normal((_QUERIES, *model.input_shape)).astype(np.float32)
    try:
        with board.open(files) as session:
            ours = session.infer(images).outputs
    except SealedRefused as error:
        if error.reason != "WRONG_DEVICE":
            raise
        raise BoardError(
            f"board {board.name} is another device each time, so nothing can be sealed to it: {error}"
        ) from error
    first, last = deployment.segments[0].graph.inputs[0], deployment.segments[-1].graph.outputs[0]
    expected = deployment.policy.apply(run_segments(deployment.segments, {first: images})[last])
    if ours.shape != expected.shape:
        raise BoardError(f"board {board.name} answers {ours.shape}, expected is {expected.shape}: not written")
    is_rounded = deployment.policy.kind is PolicyKind.ROUNDED
    allowed = TOLERANCE + (10.0**-deployment.policy.arg if is_rounded else 0.0)
    off = float(np.abs(ours.astype(np.float64) - expected).max())
    if not off <= allowed:
        raise BoardError(
            f"board {board.name} answers {off:.1e} off PyTorch's answers, allowed {allowed:g}: not written"
        )
    original = deployment.policy.apply(model.probabilities(torch.from_numpy(images)).numpy())
    label_only = deployment.policy.label_only
    labels, theirs = (one if label_only else one.argmax(axis=1) for one in (ours, original))
    return {
        "board": board.name,
        "queries": _QUERIES,
        "max_abs_error": off,
        "labels_agree_frac": float((labels == theirs).mean()),
        "model_max_abs_error": None if label_only else float(np.abs(ours - original).max()),
    }
