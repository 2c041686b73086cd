"""Records as the closed division wants them, of digits, made without training: all but scores and times is real."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from suite import records as r
from suite.attacking import attacker_jobs, shadow_jobs
from suite.deploying import survey
from suite.extracting import budgets_of
from suite.extraction_metrics import extraction_points
from suite.matrix import LATENCY
from suite.metrics import latency_metrics, membership_metrics
from suite.models import TrainJob
from suite.profiles import PROFILES
from suite.recording import plugin_code_of
from suite.registry import REGISTRY, Kind, discover
from suite.spec import default_specs, parse
from suite.store import Store
from tests.record_samples import attack_sample, latency_sample
from victims.task import build_model

VICTIM, DATASET, PROFILE = "vgg7", "digits", PROFILES["smoke"]
MEMBERSHIP = ("loss_threshold", "shadow")
OWN = "first_layers"
OWN_SOURCE = '''
from suite import Defense, Deployment, OutputPolicy, Victim, defense, split


@defense("first_layers", variants=({"k": 1},))
class FirstLayers(Defense):
    """The first k layers with parameters in the TEE (the idea of Serdab: Elgamal and Nahrstedt 2020)."""

    k: int

    def deploy(self, victim: Victim) -> Deployment:
        nodes, layers = victim.graph.nodes, victim.graph.parameter_nodes()
        hidden = {node.name for node in nodes[: nodes.index(layers[self.k])]}
        return Deployment(split(victim.graph, in_tee=hidden), OutputPolicy.parse("probs"))
'''


def write_cell(folder: Path, store, defense: str, measure: str, seed: int = 0, shift: float = 0.5) -> Path:
    """Write the record of a cell, scores drawn at random; the record's path."""
    job = TrainJob(VICTIM, DATASET, PROFILE, seed)
    material = job.material()
    code = {"record": "0" * 64, "victim": plugin_code_of(REGISTRY.get(Kind.VICTIM, VICTIM))}
    rng = np.random.default_rng((seed, len(measure)))
    if defense == OWN:
        slug, spec, code["defense"] = f"{OWN}_k1", f"{OWN}[k=1]", hashlib.sha256(OWN_SOURCE.encode()).hexdigest()
        about = {"policy": "probs", "shows": sorted(["auxiliary", "boundary", "output", "query", "weights"])}
        about |= {"planned_bytes": 1000, "ree_macs": 300, "tee_macs": 100, "int8_macs": 0, "tee_flops_frac": 0.25}
    else:
        found = parse(Kind.DEFENSE, defense)[0]
        slug, spec, code["defense"] = found.slug, found.text, plugin_code_of(found.plugin)
        about = survey(store, found, VICTIM, material.dataset.input_shape, material.dataset.n_classes)
    goal, needs, measure_spec, attack = "latency", (), LATENCY, None
    if measure != LATENCY:
        attack = parse(Kind.ATTACK, measure)[0]
        made, code["attack"] = attack.make(), plugin_code_of(attack.plugin)
        goal, measure, measure_spec = str(made.goal), attack.slug, attack.text
        needs = tuple(sorted(str(view) for view in made.needs | (made.uses & set(about["shows"]))))
    base, _ = (latency_sample if attack is None else attack_sample)(policy="probs", **_place(seed))
    task = dataclasses.replace(
        base.task,
        input_shape=material.dataset.input_shape,
        n_classes=material.dataset.n_classes,
        n_members=PROFILE.sizes.members,
        n_nonmembers=PROFILE.sizes.members,
        n_auxiliary=PROFILE.sizes.auxiliary,
        n_test=PROFILE.sizes.test,
        dataset_fingerprint=material.dataset.fingerprint,
        dataset_source=material.dataset.source,
        splits_fingerprint=material.splits.fingerprint,
    )
    recipe = job.task().recipe
    module = build_model(VICTIM, material.dataset.input_shape, material.dataset.n_classes)
    trained = r.VictimInfo(
        "model-0", sum(p.numel() for p in module.parameters()), recipe.epochs(PROFILE.epochs), "fp32",
        dataclasses.asdict(recipe), 1.0, 0.9,
    )  # fmt: skip
    hidden = about["tee_macs"] > 0
    cost = r.CostInfo(
        int(hidden), 256 * hidden, 40 * hidden, 100_000, 2000 * hidden, 2**24, 4096 * hidden, about["planned_bytes"],
        about["tee_flops_frac"], about["ree_macs"], about["tee_macs"], about["int8_macs"],
    )  # fmt: skip
    name = f"{VICTIM}-{DATASET}-{slug}-{measure}-emulated" + (f"-seed{seed}" if seed else "")
    cell = r.CellInfo(name, VICTIM, DATASET, slug, spec, measure, measure_spec, "emulated", PROFILE.name, seed)
    if attack is None:
        vanilla = (1e6 * rng.lognormal(0, 0.02, 48)).astype(np.int64)
        protected = (vanilla * 1.25).astype(np.int64)
        noop = np.full(48 * hidden, 21_000, np.int64)
        scores = r.LatencySamples(vanilla, protected, protected // 4 * hidden, noop, np.repeat([0, 1], 24))
        outcome = {"latency": latency_metrics(scores, cost.switches_per_query, seed=seed)}
    elif goal == "extraction":
        labels = np.asarray(material.queried_test.labels, np.int64)
        deployed = np.where(np.arange(len(labels)) < 270, labels, (labels + 1) % 10)
        budgets = np.array(budgets_of(attack, PROFILE), np.int64)
        stolen = np.stack([np.where(rng.random(len(labels)) < 0.7, deployed, 0) for _ in budgets])
        changed = np.arange(200)
        fooled = np.stack([np.where(rng.random(200) < 0.3, (labels[:200] + 1) % 10, labels[:200]) for _ in budgets])
        images = np.asarray(material.splits.test[: len(labels)], np.int64)
        scores = r.StolenAnswers(budgets, budgets, labels, deployed, stolen, images, changed, fooled, fooled)
        outcome = {"extraction": r.ExtractionInfo(VICTIM, 8.0, 200, extraction_points(scores))}
    else:
        guess = rng.normal(size=600) + shift * material.is_member
        metrics = membership_metrics(guess, material.is_member, shift / 2, seed=seed)
        n_shadows = len(shadow_jobs(attack, job))
        info = dataclasses.replace(
            base.attack, n_shadows=n_shadows, n_references=len(attacker_jobs(attack, job)) - n_shadows,
            threshold=shift / 2, metrics=metrics,
        )  # fmt: skip
        outcome = {"attack": info}
        scores = r.AttackScores(guess, material.is_member, material.candidate_ids)
    record = dataclasses.replace(
        base,
        cell=cell,
        threat=r.ThreatInfo(about["policy"], tuple(about["shows"]), needs, goal),
        task=task,
        victim=trained,
        utility=r.UtilityInfo(0.9, 0.0, None if hidden else 0.9),
        cost=cost,
        **{**dict.fromkeys(("attack", "latency", "extraction")), **outcome},
        provenance=dataclasses.replace(base.provenance, code=code),
    )
    r.write_record(folder, record, scores)
    return r.record_path(folder, PROFILE.name, name)


def _place(seed: int) -> dict[str, object]:
    return {"victim": VICTIM, "dataset": DATASET, "profile": PROFILE.name, "seed": seed}


def honest(folder: Path, store) -> list[Path]:
    """A small results folder of the suite's own defenses and attacks."""
    cells = [(d, m) for d in ("vanilla", "full_tee") for m in (*MEMBERSHIP, LATENCY)]
    cells.append(("full_tee", "knockoff"))
    return [write_cell(folder, store, *cell, shift=0.6 if cell[0] == "vanilla" else 0.3) for cell in cells]


def own_defense(folder: Path, store) -> tuple[list[Path], Path]:
    """All records that a new defense needs, and its plugin file."""
    plugin = folder / "first_layers.py"
    plugin.parent.mkdir(parents=True, exist_ok=True)
    plugin.write_text(OWN_SOURCE)
    attacks = [spec.text for spec in default_specs(Kind.ATTACK) if str(spec.make().goal) == "membership"]
    shown = {"auxiliary", "boundary", "output", "query", "weights"}
    attacks = [text for text in attacks if parse(Kind.ATTACK, text)[0].make().needs <= shown]
    return [write_cell(folder, store, OWN, measure) for measure in (*attacks, LATENCY)], plugin


@pytest.fixture(scope="session")
def submitted_store(tmp_path_factory):
    """One store for all tests of submissions."""
    discover()
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def submitted(tmp_path_factory, submitted_store):
    """Results folders, ``honest`` and ``own``, to be copied."""
    folder = tmp_path_factory.mktemp("made")
    honest(folder / "honest", submitted_store)
    own_defense(folder / "own", submitted_store)
    return folder


def changed(path: Path, edit) -> None:
    """Apply ``edit`` to the JSON of a record, and write it as the suite would."""
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def rezipped(source: Path, target: Path, edit) -> Path:
    """A bundle whose files ``edit`` (a mapping of name to bytes) changed, its manifest put right."""
    with zipfile.ZipFile(source) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files.pop("manifest.json"))
    edit(files)
    manifest["files"] = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, data in files.items():
            archive.writestr(name, data)
    return target
