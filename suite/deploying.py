"""From a trained victim and a defense to the two files that a board takes, and the plan of what they need."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from device.board import DeploymentFiles
from device.owner import OwnerKey
from suite import learning
from suite.finetuning import pack_hidden
from suite.graph.format import pack_public, pack_sealed, pack_slices
from suite.graph.ir import GraphError
from suite.graph.macs import graph_macs, int8_macs
from suite.graph.planner import DoesNotFit, MemoryPlan, plan_memory, plan_tee
from suite.graph.train_plan import training_bytes
from suite.model import Defense, Deployment, Learned, LearnedDefense, Victim
from suite.models import TrainJob
from suite.owning import trained_victim, untrained_victim
from suite.provenance import code_hash
from suite.registry import REGISTRY, Kind, PluginError
from suite.spec import PluginSpec
from suite.store import Key, Store

GRAPH_CODE = (
    "suite.graph.export",
    "suite.graph.format",
    "suite.graph.planner",
    "suite.graph.train_plan",
    "suite.graph.macs",
    "suite.deploying",
)
_ROOTS = ("suite", "defenses")


@dataclass(frozen=True, slots=True)
class Laid:
    """A deployment on disk: its files, and ``about`` (policy, views shown, planned bytes, share of work hidden)."""

    key: Key
    files: DeploymentFiles
    about: dict[str, Any]


def code_of(spec: PluginSpec) -> str:
    """Hash of all code that decides what a defense's deployment is."""
    return code_hash(spec.plugin.cls.__module__, *GRAPH_CODE, roots=_ROOTS)


def deploy(spec: PluginSpec, victim: Victim, learned: Learned | None = None) -> Deployment:
    """Run a defense; one that learns with what it has ``learned``, or without, for a survey.

    Raises:
        PluginError: its parameters do not fit the victim, or what it made is no deployment; names it.
    """
    defense: Defense = spec.make()
    try:
        if isinstance(defense, LearnedDefense):  # noqa: SIM108  (the line would not end)
            deployment = defense.deploy(victim, learned)
        else:
            deployment = defense.deploy(victim)
    except GraphError as error:
        raise PluginError(f"defense {spec.text} on {victim.architecture} ({spec.plugin.where}): {error}") from error
    except ValueError as error:
        raise PluginError(str(error)) from error
    if not isinstance(deployment, Deployment):
        raise PluginError(f"defense {spec.text} ({spec.plugin.where}): deploy() returned {type(deployment).__name__}")
    if deployment.n_classes != victim.n_classes:
        raise PluginError(
            f"defense {spec.text} ({spec.plugin.where}): the deployment answers {deployment.n_classes} classes,"
            f" {victim.architecture} has {victim.n_classes}"
        )
    return deployment


def survey(
    store: Store, spec: PluginSpec, architecture: str, input_shape: tuple[int, int, int], n_classes: int
) -> dict[str, Any]:
    """What a deployment would need and show, found out before anything is trained.

    Returns ``planned_bytes``, ``training_bytes`` (what training takes beside them), ``table`` (per layer), ``shows``,
    ``policy``, ``answers_alone`` and ``disguised``.

    Raises:
        PluginError: the defense cannot be put on this victim (a k beyond the model, for example).
        GraphError: the architecture has an operator that boards do not know.
    """
    module = REGISTRY.get(Kind.VICTIM, architecture).cls.__module__
    key = Key(
        "survey",
        {
            "architecture": [architecture, list(input_shape), n_classes, code_hash(module, roots=("victims",))],
            "defense": spec.text,
            "code": code_of(spec),
            "torch": torch.__version__,
        },
    )

    def make(folder: Path, scratch: Path) -> None:
        deployment = deploy(spec, untrained_victim(architecture, input_shape, n_classes))
        plan = plan_memory(deployment.segments)
        found = {**_about(deployment, plan), "table": plan.table()}
        (folder / "survey.json").write_text(json.dumps(found, indent=1), encoding="utf-8")

    content: dict[str, Any] = json.loads((store.get(key, make) / "survey.json").read_text(encoding="utf-8"))
    return content


def refuse_too_large(spec: PluginSpec, victim: Victim, limit_bytes: int) -> tuple[MemoryPlan, int]:
    """The memory plan of a defense on a victim, and the bytes that training takes beside it where the device may train.

    Raises:
        DoesNotFit: answering queries needs more than the limit; carries the per-layer table.
    """
    deployment = deploy(spec, victim)
    plan = plan_tee(deployment.segments, limit_bytes)
    return plan, training_bytes(deployment.segments) if deployment.training else 0


def deployed(store: Store, spec: PluginSpec, job: TrainJob) -> Deployment:
    """The deployment of a trained victim; trains the victim, and what the defense learns, if need be."""
    return deploy(spec, trained_victim(store, job), learning.learned_for(store, spec, job))


def lay(store: Store, spec: PluginSpec, job: TrainJob) -> Laid:
    """The store entry of a deployment, made now if it is not there.

    Raises:
        PluginError, StoreError: see there.
    """
    parts = {"victim": job.key().digest, "defense": spec.text, "code": code_of(spec), "torch": torch.__version__}
    lesson = learning.learn_job_of(spec, job)
    if lesson is not None:
        parts["learned"] = lesson.key().digest
    key = Key("deployment", parts)

    def make(folder: Path, scratch: Path) -> None:
        deployment = deployed(store, spec, job)
        model_id = bytes.fromhex(key.digest)[:16]
        (folder / "public.lbm").write_bytes(pack_public(deployment.segments, deployment.policy, model_id))
        if deployment.hidden and deployment.training:
            owner = OwnerKey.generate()
            (folder / "owner.pem").write_bytes(owner.to_pem())
            (folder / "sealed.lbm").write_bytes(pack_hidden(deployment, model_id, owner.public))
        elif deployment.hidden:
            (folder / "sealed.lbm").write_bytes(pack_sealed(deployment.segments, deployment.policy, model_id))
        if slices := pack_slices(deployment.segments):
            (folder / "slices.bin").write_bytes(b"".join(slices))
        about = _about(deployment, plan_memory(deployment.segments))
        (folder / "deployment.json").write_text(json.dumps(about, indent=1), encoding="utf-8")

    entry = store.get(key, make)
    sealed, slices = entry / "sealed.lbm", entry / "slices.bin"
    about: dict[str, Any] = json.loads((entry / "deployment.json").read_text(encoding="utf-8"))
    files = DeploymentFiles(
        entry / "public.lbm", sealed if sealed.exists() else None, slices if slices.exists() else None
    )
    return Laid(key, files, about)


def _about(deployment: Deployment, plan: MemoryPlan) -> dict[str, Any]:
    # Of all that the deployment computes, not of what the bare model would: a layer that is taken apart counts on both
    # sides, as its dense kernels run it, however many of its numbers are zeros.
    hidden = sum(graph_macs(graph) for graph in deployment.hidden)
    public = sum(graph_macs(graph) for graph in deployment.public)
    return {
        "policy": str(deployment.policy),
        "shows": sorted(deployment.shows),
        "answers_alone": deployment.answers_alone is not None,
        "disguised": deployment.disguised,
        "planned_bytes": plan.peak_bytes,
        "training_bytes": training_bytes(deployment.segments) if deployment.training else 0,
        "tee_flops_frac": hidden / (hidden + public) if hidden else 0.0,
        "ree_macs": public,
        "tee_macs": hidden,
        "int8_macs": sum(int8_macs(segment.graph) for segment in deployment.segments),
    }


__all__ = [
    "DoesNotFit", "Laid", "deploy", "deployed", "lay", "refuse_too_large", "survey", "trained_victim",
    "untrained_victim",
]  # fmt: skip
