"""What the peers are handed: models, images and answers, as files that need nothing of this suite to be read."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from peers.cases import Case
from suite import models
from suite.attacking import observe_shadows
from suite.policy import OutputPolicy, Outputs
from suite.references import references_of
from suite.store import Store

WALKED_SHADOW = 40
"""Images of a shadow's that ART sets the threshold of its label-only attack by, half of them the shadow's members."""


def export(case: Case, store: Store, answers: Outputs, walked: int, folder: Path) -> Path:
    """Fill ``folder`` with what the peers need, unless it is there.

    ``answers`` [N, n_classes]: the deployment's for the candidates. ``walked``: candidates in the subset that slow
    attacks are tried on, half of them members. Who is a member is not handed over, nor can it be told from the subset.
    """
    if folder.is_dir():
        return folder
    aside = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}")
    aside.mkdir(parents=True)
    try:
        material = case.victim.material()
        np.savez(aside / "handed.npz", **arrays(case, store, answers, walked))  # type: ignore[arg-type]
        named = {"victim": case.victim, **{f"shadow{i}": job for i, job in enumerate(case.shadows)}}
        for name, job in named.items():
            module = models.load_trained(models.train_job(store, job), job)
            export_module(module, material.dataset.input_shape, aside / f"{name}.pt2")
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def export_references(case: Case, store: Store, folder: Path) -> Path:
    """What the reference models answer, as a file in ``folder``, made if it is not there.

    Of M reference models: ``reference_answers`` [M, N, K], ``reference_is_member`` [M, N] and, for the images of the
    population, ``reference_population`` [M, P, K].
    """
    file = folder / f"references-{case.references_key()}.npz"
    if not file.is_file():
        found = references_of(store, case.references, 1, OutputPolicy.parse("probs"))
        aside = file.with_suffix(f".{uuid.uuid4().hex[:8]}")
        with aside.open("wb") as opened:
            np.savez(
                opened,
                reference_answers=found.answers[:, 0],
                reference_is_member=found.is_member,
                reference_population=found.population,
            )
        aside.replace(file)
    return file


def arrays(case: Case, store: Store, answers: Outputs, walked: int) -> dict[str, NDArray[np.generic]]:
    """By name, of S shadows, N candidates, P images of the population.

    ``images`` [N, ...], ``labels`` [N], ``answers`` [N, K]; ``shadow_answers`` [S, 2n, K], ``shadow_labels`` and
    ``shadow_is_member`` [S, 2n]; ``population`` [P, ...], ``population_labels`` [P]; ``subset`` int64, places among
    the candidates; ``walk_images``, ``walk_labels``, ``walk_is_member``: some of the first shadow's own.
    """
    material, policy = case.victim.material(), OutputPolicy.parse("probs")
    shadows = observe_shadows(store, case.shadows, policy)
    inside, outside = case.shadows[0].split()
    half = min(WALKED_SHADOW // 2, len(inside))
    own = material.auxiliary_at(np.concatenate([inside[:half], outside[:half]]))
    return {
        "images": material.candidates.images,
        "labels": material.candidates.labels,
        "answers": answers,
        "shadow_answers": np.stack([one.outputs for one in shadows]),
        "shadow_labels": np.stack([one.labels for one in shadows]),
        "shadow_is_member": np.stack([one.is_member for one in shadows]),
        "population": material.queried_population.images,
        "population_labels": material.queried_population.labels,
        "subset": subset(material.is_member, walked),
        "walk_images": own.images,
        "walk_labels": own.labels,
        "walk_is_member": np.arange(2 * half) < half,
    }


def subset(is_member: NDArray[np.bool_], n: int) -> NDArray[np.int64]:
    """Places of the first n / 2 members and n / 2 non-members, in the candidates' own random order."""
    half = min(n // 2, int(is_member.sum()))
    chosen = np.concatenate([np.flatnonzero(side)[:half] for side in (is_member, ~is_member)])
    return np.sort(chosen).astype(np.int64)


def export_module(module: torch.nn.Module, input_shape: tuple[int, int, int], file: Path) -> None:
    """Write a model for ``torch.export.load``, for any number of images at once."""
    example = torch.zeros(2, *input_shape)
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(module.eval(), (example,), dynamic_shapes=({0: batch},))
    torch.export.save(exported, file)
