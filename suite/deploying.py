"""From a trained victim and a defense to the two files that a board takes, and the plan of what they need."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from device.board import DeploymentFiles
from suite import models
from suite.graph.export import export_graph
from suite.graph.format import pack_public, pack_sealed
from suite.graph.ir import GraphError
from suite.graph.macs import graph_macs
from suite.graph.planner import DoesNotFit, MemoryPlan, plan_memory, plan_tee
from suite.model import Defense, Deployment, LabelledImages, Victim
from suite.models import TrainJob
from suite.provenance import code_hash
from suite.registry import REGISTRY, Kind, PluginError
from suite.spec import PluginSpec
from suite.store import Key, Store
from victims.task import build_model

GRAPH_CODE = ("suite.graph.export", "suite.graph.format", "suite.graph.planner", "suite.graph.macs", "suite.deploying")
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


@functools.lru_cache(maxsize=2)
def trained_victim(store: Store, job: TrainJob) -> Victim:
    """The victim with its module and exported graph; trains it if the store does not have it."""
    module = models.load_trained(models.train_job(store, job), job)
    dataset, members = job.material().dataset, job.material().members
    return _victim(job.architecture, dataset.input_shape, dataset.n_classes, module, members)


@functools.lru_cache(maxsize=8)
def untrained_victim(architecture: str, input_shape: tuple[int, int, int], n_classes: int) -> Victim:
    """A victim with random weights and no members: enough to see what a defense would hide and whether it fits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build_model(architecture, input_shape, n_classes).eval()
    nobody = LabelledImages(torch.empty(0, *input_shape).numpy(), torch.empty(0, dtype=torch.int64).numpy())
    return _victim(architecture, input_shape, n_classes, module, nobody)


def _victim(
    architecture: str, shape: tuple[int, int, int], n_classes: int, module: torch.nn.Module, members: LabelledImages
) -> Victim:
    graph = export_graph(module, shape, softmax=True)
    return Victim(architecture, shape, n_classes, module, graph, members)


def deploy(spec: PluginSpec, victim: Victim) -> Deployment:
    """Run a defense.

    Raises:
        PluginError: its parameters do not fit the victim, or what it made is no deployment; names it.
    """
    defense: Defense = spec.make()
    try:
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

    Returns ``planned_bytes``, ``table`` (per layer), ``shows`` and ``policy``.

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


def refuse_too_large(spec: PluginSpec, victim: Victim, limit_bytes: int) -> MemoryPlan:
    """The memory plan of a defense on a victim.

    Raises:
        DoesNotFit: it needs more than the limit; carries the per-layer table.
    """
    return plan_tee(deploy(spec, victim).segments, limit_bytes)


def lay(store: Store, spec: PluginSpec, job: TrainJob) -> Laid:
    """The store entry of a deployment, made now if it is not there.

    Raises:
        PluginError, StoreError: see there.
    """
    key = Key(
        "deployment",
        {"victim": job.key().digest, "defense": spec.text, "code": code_of(spec), "torch": torch.__version__},
    )

    def make(folder: Path, scratch: Path) -> None:
        deployment = deploy(spec, trained_victim(store, job))
        model_id = bytes.fromhex(key.digest)[:16]
        (folder / "public.lbm").write_bytes(pack_public(deployment.segments, deployment.policy, model_id))
        if deployment.hidden:
            (folder / "sealed.lbm").write_bytes(pack_sealed(deployment.segments, deployment.policy, model_id))
        about = _about(deployment, plan_memory(deployment.segments))
        (folder / "deployment.json").write_text(json.dumps(about, indent=1), encoding="utf-8")

    entry = store.get(key, make)
    sealed = entry / "sealed.lbm"
    about: dict[str, Any] = json.loads((entry / "deployment.json").read_text(encoding="utf-8"))
    return Laid(key, DeploymentFiles(entry / "public.lbm", sealed if sealed.exists() else None), about)


def _about(deployment: Deployment, plan: MemoryPlan) -> dict[str, Any]:
    hidden = sum(graph_macs(graph) for graph in deployment.hidden)
    public = sum(graph_macs(graph) for graph in deployment.public)
    return {
        "policy": str(deployment.policy),
        "shows": sorted(deployment.shows),
        "planned_bytes": plan.peak_bytes,
        "tee_flops_frac": hidden / (hidden + public) if hidden else 0.0,
    }


__all__ = ["DoesNotFit", "Laid", "deploy", "lay", "refuse_too_large", "survey", "trained_victim", "untrained_victim"]
