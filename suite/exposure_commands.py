"""``leakboard exposure``: takes the parsed options, returns the exit status."""

from __future__ import annotations

import argparse
import dataclasses
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from suite import pool
from suite.exposure import ExposureJob, LayerExposure, exposure_jobs, exposures, over_models
from suite.exposure_model import ExposureAttack
from suite.exposure_table import as_csv, best_hiding, order_note, table
from suite.models import TrainJob
from suite.owning import untrained_victim
from suite.plotting import draw_layers
from suite.profiles import PROFILES, Profile, get_profile
from suite.progress import sink, to_stderr
from suite.records import write_atomic
from suite.registry import REGISTRY, Kind, PluginError, discover, load_file
from suite.session import parse_seeds
from suite.spec import PluginSpec, parse
from suite.store import Store
from victims.data.catalogue import entry
from victims.data.splits import SplitSizes


def add_exposure(add: Callable[[str, Callable[[Namespace], int], str], argparse.ArgumentParser]) -> None:
    """Add ``exposure`` to the command line."""
    sub = add("exposure", exposure, "measure how much each layer of a victim holds of its members, as its owner can")
    sub.add_argument("victim")
    sub.add_argument("--dataset", default="cifar10", help="names separated by commas (default: %(default)s)")
    sub.add_argument("--seeds", default="0", help="0,1,2 or 0-4: one victim and split a seed (default: %(default)s)")
    sub.add_argument("--profile", default="quick", help=f"{', '.join(PROFILES)} (default: %(default)s)")
    sub.add_argument("--members", type=int, metavar="N", help="train on N images instead of the profile's number")
    sub.add_argument("--epochs", type=int, metavar="N", help="train for N epochs instead of the profile's number")
    sub.add_argument("--measure", default="exposure", metavar="SPEC", help='for example "exposure[epochs=30]"')
    sub.add_argument("--tee-mib", type=float, metavar="MIB", help="say which layers to hide within so much TEE memory")
    sub.add_argument("-o", "--output", type=Path, metavar="DIR", help="write exposure.csv there")
    sub.add_argument("--plot", type=Path, metavar="FILE", help="draw the layers: .svg, .pdf or .png (needs matplotlib)")
    sub.add_argument("--workers", type=int, metavar="N", help="measure N layers at a time (default: one a core)")
    sub.add_argument("--plugin", action="append", default=[], metavar="FILE", type=Path, help="load a loose file")


def exposure(options: Namespace) -> int:
    """Train, measure what is not in the store yet, and print a table for each data set."""
    discover()
    for path in options.plugin:
        load_file(path)
    spec = _measure(options.measure)
    if REGISTRY.get(Kind.VICTIM, options.victim).cost_only:
        raise PluginError(f"victim {options.victim!r} has no training recipe, so it holds nothing of any image")
    seeds, profile = parse_seeds(options.seeds), _profile(options)
    datasets = list(dict.fromkeys(name.strip() for name in options.dataset.split(",") if name.strip()))
    for name in datasets:
        entry(name)
    store = Store()
    jobs = {
        (name, seed): exposure_jobs(store, spec, TrainJob(options.victim, name, profile, seed))
        for name in datasets
        for seed in seeds
    }
    loose = [str(path) for path in options.plugin]
    with sink(to_stderr):
        every = [job for some in jobs.values() for job in some]
        pool.ensure(store, [job.victim for job in every], loose, options.workers)
        pool.ensure(store, every, loose, options.workers)
    means = {}
    sheets = []
    for name in datasets:
        by_seed = [exposures(store, jobs[name, seed])[0] for seed in seeds]
        means[name] = over_models(by_seed)
        _print(name, means[name], by_seed, seeds, jobs[name, seeds[0]][0], options.tee_mib)
        sheets.append(as_csv(options.victim, name, by_seed, seeds))
    if options.output:
        header, *_ = sheets[0].splitlines(keepends=True)
        lines = [line for sheet in sheets for line in sheet.splitlines(keepends=True)[1:]]
        write_atomic(options.output / "exposure.csv", "".join([header, *lines]).encode())
        print(f"written: {options.output / 'exposure.csv'}")
    if options.plot:
        names = [one.layer for one in means[datasets[0]]]
        draw_layers({name: [one.exposure for one in found] for name, found in means.items()}, names, options.plot)
        print(f"written: {options.plot}")
    return 0


def _measure(text: str) -> PluginSpec:
    (spec, *others) = parse(Kind.ATTACK, text)
    if others or not issubclass(spec.plugin.cls, ExposureAttack):
        raise PluginError(
            f"--measure {text!r}: one attack that measures exposure is wanted, such as exposure[epochs=30]"
        )
    return spec


def _profile(options: Namespace) -> Profile:
    """The profile with what was asked for in its place; the attacker has no part in this, so it gets no images."""
    profile = get_profile(options.profile)
    members = profile.sizes.members if options.members is None else options.members
    if members < 2 or (options.epochs is not None and options.epochs < 1):
        raise ValueError("--members takes 2 or more, --epochs 1 or more")
    if options.members is None and options.epochs is None:
        return profile
    sizes = SplitSizes(members, profile.sizes.auxiliary if options.members is None else 0, profile.sizes.test)
    return dataclasses.replace(profile, sizes=sizes, epochs=options.epochs or profile.epochs)


def _print(
    dataset: str,
    joined: Sequence[LayerExposure],
    by_seed: Sequence[Sequence[LayerExposure]],
    seeds: Sequence[int],
    job: ExposureJob,
    tee_mib: float | None,
) -> None:
    n = len(job.victim.material().members)
    models = f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
    images = f"{n:,} members and as many unseen images, {models}"
    print(f"{job.attack.text}: {job.victim.architecture} on {dataset}, {images}\n")
    print(f"{table(joined, by_seed, seeds)}\n{order_note(joined)}")
    if tee_mib is not None:
        print(_advice(joined, job, tee_mib))
    print()


def _advice(joined: Sequence[LayerExposure], job: ExposureJob, tee_mib: float) -> str:
    dataset = job.victim.material().dataset
    victim = untrained_victim(job.victim.architecture, dataset.input_shape, dataset.n_classes)
    found = best_hiding(joined, victim, int(tee_mib * 2**20))
    if found is None:
        return f"No range of layers fits into {tee_mib:g} MiB."
    left = (
        "nothing is left outside" if found.most is None else f"the most exposed layer left outside has {found.most:.3f}"
    )
    n = len(joined)
    spec = f"k={n - found.first + 1}" if found.last == n else f"start={found.first},end={found.last},output=probs"
    return f'Within {tee_mib:g} MiB: "darknetz[{spec}]" ({found.peak_bytes / 2**20:.3g} MiB); {left}.'
