"""What the conformance kit tries plugins on: a small victim, random images, a board for its deployments."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from device.board import DeploymentFiles
from device.emulated import EmulatedBoard
from device.owner import OwnerKey
from suite.attack_model import ShadowObservation
from suite.deploying import untrained_victim
from suite.finetuning import pack_hidden
from suite.graph.format import pack_public, pack_sealed, pack_slices
from suite.graph.parse import parse
from suite.model import Deployment, LabelledImages, Victim
from suite.policy import OutputPolicy, Outputs
from suite.provenance import hash_arrays
from suite.view import Shown

SHAPE, CLASSES, IMAGES = (1, 28, 28), 10, 240
TEE_BYTES = 64 << 20
"""Ample: whether a deployment fits a real TEE is the planner's question."""


@functools.cache
def sample_victim() -> Victim:
    """A small victim with random weights and random images; what it leaks about its members is nothing."""
    bare = untrained_victim("vgg7", SHAPE, CLASSES)
    return dataclasses.replace(bare, members=random_images(seed=1, n=64), public=random_images(seed=8, n=64))


def random_images(seed: int, n: int) -> LabelledImages:
    """Noise, with labels that have nothing to do with it."""
    draw = np.random.default_rng(seed)
    return LabelledImages(draw.standard_normal((n, *SHAPE)).astype(np.float32), draw.integers(0, CLASSES, n))


def fingerprint(victim: Victim) -> str:
    """Of everything that a plugin could change in a victim."""
    state = [tensor.detach().numpy() for tensor in victim.module.state_dict().values()]
    images = [array for held in (victim.members, victim.public) for array in (held.images, held.labels)]
    return hash_arrays([*state, *images]) + victim.graph.fingerprint()


def packed(deployment: Deployment) -> tuple[bytes, bytes | None]:
    """The public file and, where anything is hidden, what is to be sealed."""
    parts = (deployment.segments, deployment.policy, bytes(16))
    public = pack_public(*parts)
    if not deployment.hidden:
        return public, None
    return public, pack_hidden(deployment, bytes(16), _owner().public) if deployment.training else pack_sealed(*parts)


@functools.cache
def _owner() -> OwnerKey:
    return OwnerKey.generate()


@contextlib.contextmanager
def on_board(deployment: Deployment) -> Iterator[tuple[DeploymentFiles, Any]]:
    """The files of a deployment and a session with it on the emulated board, for as long as the block lasts."""
    public, sealed = packed(deployment)
    with tempfile.TemporaryDirectory(prefix="leakboard-") as folder:
        written: list[Path | None] = []
        slices = b"".join(pack_slices(deployment.segments))
        for name, data in (("public.lbm", public), ("sealed.lbm", sealed), ("slices.bin", slices)):
            written.append(Path(folder, name) if data else None)
            if data:
                Path(folder, name).write_bytes(data)
        files = DeploymentFiles(Path(folder, "public.lbm"), *written[1:])
        with EmulatedBoard(TEE_BYTES).open(files) as session:
            yield files, session


def shown_side(deployment: Deployment, files: DeploymentFiles, session: Any) -> Shown:
    """An attacker's side of a deployment whose candidates are pure noise: there is nothing to find."""
    candidates = random_images(seed=3, n=IMAGES)
    answer = session.infer(candidates.images, boundary=True)
    return Shown(
        architecture="vgg7",
        input_shape=SHAPE,
        n_classes=CLASSES,
        policy=deployment.policy,
        candidates=candidates,
        outputs=answer.outputs,
        shows=deployment.shows,
        public=tuple(segment.graph for segment in parse(files.public.read_bytes()).as_segments()),
        public_file=files.public.read_bytes(),
        boundary=answer.boundary,
        auxiliary=random_images(seed=4, n=IMAGES),
        shadows=sample_shadows(deployment.policy),
        steps=parse(files.public.read_bytes()).segments,
    )


def sample_outputs(seed: int, n: int, policy: OutputPolicy) -> Outputs:
    """Answers without any signal, as the policy lets them out."""
    logits = np.random.default_rng(seed).standard_normal((n, CLASSES)) * 4
    wide = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Outputs = policy.apply((wide / wide.sum(axis=1, keepdims=True)).astype(np.float32))
    return probabilities


def sample_shadows(policy: OutputPolicy) -> tuple[ShadowObservation, ...]:
    """Shadow models that know nothing."""
    return tuple(
        ShadowObservation(
            sample_outputs(10 + i, IMAGES, policy), random_images(20 + i, IMAGES).labels, np.arange(IMAGES) % 2 == 0
        )
        for i in range(3)
    )
