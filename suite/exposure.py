"""How exposed each layer of a victim is: measured once a victim and layer, kept in the store, told as equation 4."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.estimate import Estimate, over_seeds
from suite.exposure_model import ExposureAttack, LayerLosses
from suite.material import Material
from suite.model import LabelledImages, OnProgress
from suite.models import TrainJob, train_job
from suite.owning import trained_victim, untrained_victim
from suite.provenance import code_hash, versions
from suite.registry import REGISTRY, Kind, PluginError
from suite.spec import PluginSpec
from suite.store import Key, Store

RESAMPLES = 1000
"""Random draws behind an interval."""
FIELDS = tuple(field.name for field in dataclasses.fields(LayerLosses))
_BOOTSTRAP = 0xE4
NOT_OVERFITTED = (
    "M_p is no worse on unseen images than on its own (interval included), so there is nothing to divide by"
)


@dataclass(frozen=True, slots=True)
class ExposureJob:
    """One layer to measure: a node of the victim's graph, and its ``number`` among those with parameters. Picklable.

    Numbers count from 1, as defenses count layers.
    """

    attack: PluginSpec
    victim: TrainJob
    layer: str
    number: int

    def __str__(self) -> str:
        where = f"{self.victim.architecture} on {self.victim.dataset}"
        return f"exposure of layer {self.number} of {where}" + (
            f", seed {self.victim.seed}" if self.victim.seed else ""
        )

    @property
    def architecture(self) -> str:
        """What measurements of about one length have in common."""
        return f"{self.attack.text} {self.victim.architecture}"

    def key(self) -> Key:
        """Everything that the measurement depends on."""
        module = self.attack.plugin.cls.__module__
        parts: dict[str, Any] = {
            "victim": self.victim.key().digest,
            "attack": self.attack.text,
            "layer": self.layer,
            "seed": self.victim.seed,
            "unseen": self.victim.material().splits.fingerprint,
            "code": code_hash(module, "suite.exposure", roots=("suite", "attacks", "victims")),
            "versions": {name: versions()[name] for name in ("torch", "numpy")},
        }
        return Key("exposure", parts)


@dataclass(frozen=True, slots=True)
class LayerExposure:
    """The exposure of one layer of one victim. ``exposure`` is None where it has no meaning: ``withheld`` says why.

    ``number`` as in ``ExposureJob``; ``layer``: dotted path of the PyTorch module that the layer was; ``parameters``:
    its learned numbers. ``private_gap`` and ``reference_gap``: generalization errors of M_p and M_r, nats.
    """

    number: int
    layer: str
    parameters: int
    exposure: Estimate | None
    private_gap: float
    reference_gap: float
    withheld: str = ""


def exposure_jobs(store: Store, attack: PluginSpec, victim: TrainJob) -> tuple[ExposureJob, ...]:
    """One job a layer with parameters; none unless the attack is an ``ExposureAttack``."""
    if not issubclass(attack.plugin.cls, ExposureAttack):
        return ()
    dataset = victim.material().dataset
    layers = _layers_of(store, victim.architecture, dataset.input_shape, dataset.n_classes)
    return tuple(ExposureJob(attack, victim, name, number) for number, name in enumerate(layers, 1))


@functools.lru_cache(maxsize=64)
def _layers_of(store: Store, architecture: str, input_shape: tuple[int, int, int], n_classes: int) -> tuple[str, ...]:
    """Names of the nodes with parameters. From the store, since exporting a graph takes PyTorch seconds to begin."""
    module = REGISTRY.get(Kind.VICTIM, architecture).cls.__module__
    parts = {
        "architecture": architecture,
        "shape": [*input_shape, n_classes],
        "code": code_hash(module, "suite.graph.export", roots=("suite", "victims")),
        "versions": {"torch": versions()["torch"]},
    }

    def make(folder: Path, _scratch: Path) -> None:
        nodes = untrained_victim(architecture, input_shape, n_classes).graph.parameter_nodes()
        (folder / "layers.json").write_text(json.dumps([node.name for node in nodes]), encoding="utf-8")

    return tuple(json.loads((store.get(Key("layers", parts), make) / "layers.json").read_text(encoding="utf-8")))


def unseen_images(material: Material) -> LabelledImages:
    """As many images as members, of the same distribution, that the victim was not trained on."""
    ids = np.sort(np.concatenate([material.splits.members, material.splits.nonmembers]))
    return material.pool_at(np.searchsorted(ids, material.splits.nonmembers))


def measure_job(store: Store, job: ExposureJob, on_progress: OnProgress | None = None, *, wait: bool = True) -> Path:
    """The store entry of one layer's losses, measured now if it is not there; an interrupted one goes on.

    The entry holds ``losses.npz``, the fields of ``LayerLosses``, and ``measured.json``.

    Raises:
        PluginError: the plugin's parameters do not fit the victim, or it gave no losses; names it.
        Busy: another process is at it, and ``wait`` is false.
        StoreError, DataError: see there.
    """

    def make(folder: Path, scratch: Path) -> None:
        plugin: ExposureAttack = job.attack.make()
        victim, unseen = trained_victim(store, job.victim), unseen_images(job.victim.material())
        began = time.perf_counter()
        try:
            losses = plugin.measure(victim, unseen, job.layer, job.victim.seed, scratch, on_progress)
        except ValueError as error:
            raise PluginError(str(error)) from error
        losses = check_losses(job.attack, losses, len(victim.members), len(unseen))
        np.savez(folder / "losses.npz", **dataclasses.asdict(losses))
        about = {"seconds": time.perf_counter() - began}
        (folder / "measured.json").write_text(json.dumps(about), encoding="utf-8")

    train_job(store, job.victim, wait=wait)  # outside of the entry's lock
    return store.get(job.key(), make, wait=wait)


def check_losses(spec: PluginSpec, losses: object, n_seen: int, n_unseen: int) -> LayerLosses:
    """What ``measure`` returned.

    Raises:
        PluginError: it is no ``LayerLosses``, or not of the images that were given.
    """
    label = f"attack {spec.text} ({spec.plugin.where}): measure()"
    if not isinstance(losses, LayerLosses):
        raise PluginError(f"{label} returned {type(losses).__name__}, not a LayerLosses")
    if (len(losses.private_seen), len(losses.private_unseen)) != (n_seen, n_unseen):
        raise PluginError(f"{label}: losses must be of the {n_seen} members and {n_unseen} unseen images, in order")
    return losses


def load_losses(entry: Path) -> LayerLosses:
    """What a store entry holds."""
    with np.load(entry / "losses.npz") as arrays:
        return LayerLosses(**{name: arrays[name] for name in arrays.files})


def exposures(store: Store, jobs: Sequence[ExposureJob]) -> tuple[tuple[LayerExposure, ...], tuple[LayerLosses, ...]]:
    """Figures and raw losses of the layers of one victim, measured now where they were not yet."""
    dataset = jobs[0].victim.material().dataset
    graph = untrained_victim(jobs[0].victim.architecture, dataset.input_shape, dataset.n_classes).graph
    nodes = {node.name: node for node in graph.parameter_nodes()}
    losses = tuple(load_losses(measure_job(store, job)) for job in jobs)
    found = []
    for job, one in zip(jobs, losses, strict=True):
        node = nodes[job.layer]
        size = sum(array.size for array in node.weights.values())
        found.append(layer_exposure(job.number, node.layer, size, one, seed=job.victim.seed))
    return tuple(found), losses


def layer_exposure(number: int, layer: str, parameters: int, losses: LayerLosses, *, seed: int = 0) -> LayerExposure:
    """Equation 4 of Mo et al. (2019) with its 95 % interval.

    The interval is a bootstrap over images, seen and unseen apart; both models are shown the same draw, so that what
    makes an image hard for both cancels. ``seed`` is that of the draws.
    """
    private, reference, drawn = _drawn(losses, seed)
    if drawn is None:
        return LayerExposure(number, layer, parameters, None, private, reference, NOT_OVERFITTED)
    return LayerExposure(
        number, layer, parameters, Estimate.of_draws((private - reference) / private, drawn), private, reference
    )


def mean_exposure(layers: Sequence[LayerLosses], *, seed: int = 0) -> Estimate | None:
    """The mean of equation 4 over layers, all shown the same draws; None where it has no meaning for one of them."""
    found = [_drawn(losses, seed) for losses in layers]
    drawn = [one for _, _, one in found if one is not None]
    if len(drawn) < len(layers) or not layers:
        return None
    value = float(np.mean([(private - reference) / private for private, reference, _ in found]))
    return Estimate.of_draws(value, np.mean(drawn, axis=0))


def _drawn(losses: LayerLosses, seed: int) -> tuple[float, float, NDArray[np.float64] | None]:
    """Gaps of M_p and M_r, and equation 4 of each bootstrap sample; None where M_p's gap may be 0."""
    seen, unseen = _draws(seed, len(losses.private_seen), len(losses.private_unseen))
    wide = {name: getattr(losses, name).astype(np.float64) for name in FIELDS}
    private = wide["private_unseen"].mean() - wide["private_seen"].mean()
    reference = wide["reference_unseen"].mean() - wide["reference_seen"].mean()
    of_private = unseen @ wide["private_unseen"] - seen @ wide["private_seen"]
    of_reference = unseen @ wide["reference_unseen"] - seen @ wide["reference_seen"]
    overfitted = np.quantile(of_private, 0.025) > 0 and private > 0
    return float(private), float(reference), (of_private - of_reference) / of_private if overfitted else None


@functools.lru_cache(maxsize=1)
def _draws(seed: int, n_seen: int, n_unseen: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each image is in each bootstrap sample, as weights [RESAMPLES, n] that sum to 1."""
    draw = np.random.default_rng((_BOOTSTRAP, seed))
    seen, unseen = (draw.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n for n in (n_seen, n_unseen))
    return seen, unseen


def over_models(found: Sequence[Sequence[LayerExposure]]) -> tuple[LayerExposure, ...]:
    """Layer by layer the mean over victims (seeds), intervals as in ``over_seeds``; withheld where one is."""
    joined = []
    for layers in zip(*found, strict=True):
        first = layers[0]
        estimates = [one.exposure for one in layers if one.exposure is not None]
        whole = len(estimates) == len(layers)
        joined.append(
            dataclasses.replace(
                first,
                exposure=over_seeds(estimates) if whole else None,
                private_gap=float(np.mean([one.private_gap for one in layers])),
                reference_gap=float(np.mean([one.reference_gap for one in layers])),
                withheld="" if whole else next(one.withheld for one in layers if one.withheld),
            )
        )
    return tuple(joined)
