"""Running a deployment on a board: what it answers, how true it stays to the model, what a query costs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.board import Board
from suite import deploying
from suite.deploying import Laid
from suite.graph.fold import without_dead_nodes
from suite.graph.ir import Graph
from suite.graph.parse import parse_file
from suite.graph.partition import World, merge
from suite.graph.reference import run_graph, run_segments
from suite.material import Material
from suite.model import Deployment, LabelledImages
from suite.models import TrainJob
from suite.policy import Outputs, PolicyKind, classes
from suite.progress import tell
from suite.provenance import code_hash
from suite.spec import PluginSpec
from suite.store import Key, Store
from victims.inference import one_thread, predict

PARITY_IMAGES = 256


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a board answered. ``about`` holds accuracy, parity, session statistics and seconds.

    ``candidates`` and ``test``: outputs as the policy lets them out, float32 [N, n_classes] or int64 [N].
    ``boundary``: as in ``device.board.Answer``, for the candidates; empty unless asked for.
    """

    key: Key
    candidates: Outputs
    test: Outputs
    boundary: Mapping[str, NDArray[np.float32]]
    about: dict[str, Any]


def evaluate(
    store: Store, laid: Laid, spec: PluginSpec, job: TrainJob, board: Board, *, boundary: bool = False
) -> Evaluation:
    """The store entry of a deployment's answers on a board, measured now if it is not there.

    Raises:
        TeeOutOfMemory, BoardError, StoreError: see there.
    """
    material = job.material()
    key = Key(
        "evaluation",
        {
            "deployment": laid.key.digest,
            "board": board.fingerprint(),
            "images": material.fingerprint,
            "boundary": boundary,
            "code": code_hash("suite.evaluating", "device.board", roots=("device",)),
        },
    )

    def make(folder: Path, scratch: Path) -> None:
        images = len(material.candidates) + len(material.queried_test)
        asked = material.queried_test
        tell(f"running {images} images through {spec.text} ({job.architecture}) on {board.name}")
        with board.open(laid.files) as session:
            answer = session.infer(material.candidates.images, boundary=boundary)
            test = session.infer(asked.images).outputs
            stats = session.stats()
        victim = deploying.trained_victim(store, job)
        deployment = deploying.deployed(store, spec, job)
        found = {
            "accuracy_frac": float((classes(test) == asked.labels).mean()),
            "accuracy_without_tee_frac": accuracy_without_tee(deployment, laid.files.public, asked),
            "victim_accuracy_frac": float((classes(predict(victim.module, asked.images)) == asked.labels).mean()),
            "parity": parity(deployment, material, answer.outputs),
            "stats": dataclasses.asdict(stats),
        }
        np.savez(folder / "outputs.npz", candidates=answer.outputs, test=test)
        if boundary:
            np.savez(folder / "boundary.npz", **dict(answer.boundary))  # type: ignore[arg-type]
        (folder / "evaluation.json").write_text(json.dumps(found, indent=1), encoding="utf-8")

    entry = store.get(key, make)
    with np.load(entry / "outputs.npz") as arrays:
        candidates, test = arrays["candidates"], arrays["test"]
    crossed: dict[str, NDArray[np.float32]] = {}
    if boundary:
        with np.load(entry / "boundary.npz") as arrays:
            crossed = {name: arrays[name] for name in arrays.files}
    about: dict[str, Any] = json.loads((entry / "evaluation.json").read_text(encoding="utf-8"))
    return Evaluation(key, candidates, test, crossed, about)


def parity(deployment: Deployment, material: Material, outputs: Outputs) -> dict[str, float | int]:
    """How far the board's answers are from PyTorch's, running the same segments on the first candidates.

    Errors are over the outputs as the policy lets them out, relative to the largest of an image's values; labels
    agree where the predicted class is the same.
    """
    images = material.candidates.images[:PARITY_IMAGES]
    first = deployment.segments[0].graph.inputs[0]
    last = deployment.segments[-1].graph.outputs[0]
    with one_thread():
        expected = deployment.policy.apply(run_segments(deployment.segments, {first: images})[last])
    ours = outputs[: len(images)]
    agreement = float((classes(ours) == classes(expected)).mean())
    if deployment.policy.label_only:
        return {"max_abs_error": 0.0, "max_rel_error": 0.0, "label_agreement_frac": agreement, "n_images": len(images)}
    error = np.abs(ours.astype(np.float64) - expected)
    if deployment.policy.kind is PolicyKind.ROUNDED:
        # A value on the edge between two roundings may fall to either side: one unit is no error.
        error = np.maximum(error - 10.0**-deployment.policy.arg, 0.0)
    # Rounded to few decimals, all values may be 0.
    scale = np.maximum(np.abs(expected.astype(np.float64)).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return {
        "max_abs_error": float(error.max()),
        "max_rel_error": float((error / scale).max()),
        "label_agreement_frac": agreement,
        "n_images": len(images),
    }


def accuracy_without_tee(deployment: Deployment, public: Path, test: LabelledImages) -> float | None:
    """Accuracy of what somebody computes who has the public file and no TEE; None where that gives no answer.

    Run in PyTorch on the graphs as the file tells them, not on the defense's own.
    """
    answer = deployment.answers_alone
    if answer is None:
        return None
    index, place = next(
        (i, s.graph.outputs.index(answer))
        for i, s in enumerate(deployment.segments)
        if s.world is World.REE and answer in s.graph.outputs
    )
    segments = parse_file(public).as_segments()
    name = segments[index].graph.outputs[place]
    whole = merge([segment for segment in segments[: index + 1] if segment.world is World.REE])
    alone = without_dead_nodes(Graph(whole.inputs, (name,), whole.nodes, whole.shapes))
    image = segments[0].graph.inputs[0]
    found = []
    with one_thread():
        for start in range(0, len(test), PARITY_IMAGES):
            images = test.images[start : start + PARITY_IMAGES]
            inputs = {tensor: images for tensor in alone.inputs if tensor == image}
            found.append(run_graph(alone, inputs)[name].argmax(axis=1))
    return float((np.concatenate(found) == test.labels).mean())
