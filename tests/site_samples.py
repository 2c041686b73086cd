"""Made-up results for the site: two boards, two data sets, every kind of record, nights, and hostile texts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from record_samples import attack_sample, extraction_sample, latency_sample

from suite import records as r

HOSTILE = '</script><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>\'{{7*7}}'
DEFENSES = {"vanilla": ("probs", 1.6, 1.0), "full_tee": ("top1", 0.8, 1.8), "darknetz_k2": ("top1", 1.2, 1.1)}


def exposure_sample(defense: str, n_open: int, n: int = 40) -> tuple[r.Record, r.ExposureSamples]:
    """Three layers of which the first ``n_open`` lie open; one has no figure."""
    base, _ = attack_sample(defense, "exposure", n=20)
    layers = tuple(
        r.ExposedLayer(
            i + 1, f"features.{i}", 100 * (i + 1), None if i == 2 else r.Estimate(0.2 + i / 10, 0.1, 0.5),
            "not overfitted" if i == 2 else "", 0.5, 0.1, float(i < n_open), i < n_open,
        )
        for i in range(3)
    )  # fmt: skip
    most = r.Estimate(0.3, 0.1, 0.5) if n_open else r.Estimate(0.0, 0.0, 0.0)
    losses = [np.ones((3, n), np.float32)] * 4
    return dataclasses.replace(
        base,
        attack=None,
        exposure=r.ExposureInfo(most, most, layers),
        threat=dataclasses.replace(base.threat, goal="exposure", needs=()),
    ), r.ExposureSamples(*losses, np.arange(n), np.arange(n))


def write_results(folder: Path) -> None:
    for defense, (policy, shift, ratio) in DEFENSES.items():
        for seed in (0, 1):
            for attack, factor in {"loss_threshold": 0.7, "shadow": 1.0}.items():
                r.write_record(folder, *attack_sample(defense, attack, shift * factor, policy=policy, seed=seed, n=120))
            r.write_record(folder, *latency_sample(defense, ratio, policy=policy, seed=seed))
        r.write_record(folder, *extraction_sample(defense, "knockoff", (0.5, 0.6 + shift / 8), policy=policy))
        r.write_record(folder, *exposure_sample(defense, {"vanilla": 3, "full_tee": 0, "darknetz_k2": 2}[defense]))
        elsewhere = {"board": "qemu", "policy": policy, "dataset": "cifar100", "victim": "vgg7"}
        r.write_record(folder, *attack_sample(defense, "shadow", shift / 2, n=60, **elsewhere))  # type: ignore[arg-type]
        r.write_record(folder, *latency_sample(defense, 2 * ratio, **elsewhere))
    for number in (1, 2):
        record, _ = attack_sample("darknetz_k4", "loss_threshold", 0.9 / number, n=60)
        name = f"it's <b>#{number} 100%?"
        cell = dataclasses.replace(
            record.cell, id=name, defense=HOSTILE + str(number), victim=HOSTILE, dataset="<i>x</i>"
        )
        made = dataclasses.replace(record.provenance, board={"mode": HOSTILE, "compiler": HOSTILE})
        hostile = dataclasses.replace(record, cell=cell, provenance=made)
        (folder / "quick" / f"{name}.json").write_text(r.to_json(hostile), encoding="utf-8")


def write_nights(folder: Path) -> None:
    for day in (1, 2, 3):
        night = folder / "emulated" / f"2026-01-0{day}"
        for defense, (policy, shift, ratio) in DEFENSES.items():
            r.write_record(night, *attack_sample(defense, "shadow", shift + day / 10, policy=policy, n=60))
            r.write_record(night, *latency_sample(defense, ratio + day / 10, policy=policy))
