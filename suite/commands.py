"""What the subcommands of ``leakboard`` do. Each takes the parsed options and returns the exit status."""

from __future__ import annotations

import re
import shutil
import sys
from argparse import Namespace
from pathlib import Path

from suite import progress
from suite.boards import BOARDS, SSH_FORM
from suite.conformance import ConformanceError, checks_of
from suite.cuts import cut_table, cuts
from suite.deploying import refuse_too_large, untrained_victim
from suite.leaderboard_cli import of_folder
from suite.profiles import PROFILES
from suite.registry import REGISTRY, Kind, PluginError, discover, load_file
from suite.render import FORMATS
from suite.spec import PluginSpec, default_specs, every_spec, parse
from suite.store import Store, StoreError, verify
from victims.data import NAMES, availability, load
from victims.data.catalogue import INPUT_SHAPES, entry


def load_plugins(loose: list[Path]) -> set[str]:
    """Load all plugins; the names that the loose files brought."""
    discover()
    before = {plugin.name for kind in Kind for plugin in REGISTRY.all(kind)}
    for path in loose:
        load_file(path)
    return {plugin.name for kind in Kind for plugin in REGISTRY.all(kind)} - before


def leaderboard(options: Namespace) -> int:
    """Print the tables of a results folder; 1 when it holds no record."""
    board = of_folder(options.results)
    if not board.tables:
        print(
            f"leakboard: error: no records in {options.results}"
            + "".join(f"\n  {problem}" for problem in board.problems)
            + "\nrun 'pytest suite -k alexnet' first, or name the folder",
            file=sys.stderr,
        )
        return 1
    sys.stdout.write(FORMATS[options.format](board))
    return 0


def list_plugins(options: Namespace) -> int:
    """Print what can be combined."""
    load_plugins(options.plugin)
    for kind in Kind:
        if kind is Kind.BOARD and not REGISTRY.all(kind):
            continue
        print(f"{kind.plural}{' of plugins' if kind is Kind.BOARD else ''}:")
        for plugin in REGISTRY.all(kind):
            first = (plugin.cls.__doc__ or "").strip().partition("\n")[0]
            alone = "for its cost alone: " if plugin.cost_only else ""
            print(f"  {plugin.name:<16} {alone}{first}")
            variants = [spec.text for spec in default_specs(kind) if spec.name == plugin.name and spec.params]
            if variants:
                print(f"  {'':<16} in the default matrix: {', '.join(variants)}")
            elif not plugin.variants:
                print(f"  {'':<16} not in the default matrix: ask for it by name")
    print("datasets:")
    for name in NAMES:
        shape = "x".join(map(str, INPUT_SHAPES[name]))
        print(f"  {name:<16} {shape}, {entry(name).n_classes} classes; {availability(name) or 'can be had here'}")
    boards = [*BOARDS, SSH_FORM, *(plugin.name for plugin in REGISTRY.all(Kind.BOARD))]
    print(f"profiles: {', '.join(PROFILES)}\nboards: {', '.join(boards)}")
    return 0


def plan(options: Namespace) -> int:
    """Print the memory plan, DoesNotFit when it is over the limit; or what every cut would need."""
    shape, n_classes = task_of(options)
    limit = int(options.tee_mib * 2**20)
    specs = parse(Kind.DEFENSE, options.defense)
    victim = untrained_victim(options.victim, shape, n_classes)
    place = f"on {options.victim} ({'x'.join(map(str, shape))}, {n_classes} classes), limit {options.tee_mib:g} MiB"
    if options.cuts:
        print(f"{specs[0].name} {place}\n\n{cut_table(cuts(specs[0], victim), limit)}")
        return 0
    for spec in specs:
        found, training = refuse_too_large(spec, victim, limit)
        beside = f"\ntraining takes {training:,} bytes beside this" if training else ""
        print(f"{spec.text} {place}\n\n{found.table()}{beside}", end="\n\n")
    return 0


def task_of(options: Namespace) -> tuple[tuple[int, int, int], int]:
    """Load all plugins; image shape and number of classes that the options ask for.

    Raises:
        ValueError, DataError: no such shape, no such data set.
    """
    load_plugins(options.plugin)
    shape = INPUT_SHAPES[entry(options.dataset).name] if options.input is None else input_shape(options.input)
    return shape, entry(options.dataset).n_classes if options.classes is None else options.classes


def input_shape(text: str) -> tuple[int, int, int]:
    """``3x224x224``: channels, height, width.

    Raises:
        ValueError: not three whole numbers from 1.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise ValueError(f"--input {text!r}: write channels x height x width, such as 3x224x224")
    return int(match[1]), int(match[2]), int(match[3])


def check(options: Namespace) -> int:
    """Run the conformance kit; 1 when a rule is broken."""
    loose = load_plugins(options.plugin)
    wanted = set(options.names) or loose
    known = {plugin.name for kind in Kind for plugin in REGISTRY.all(kind)}
    if unknown := wanted - known:
        raise PluginError(f"no plugin is called {sorted(unknown)[0]!r} (known: {', '.join(sorted(known))})")
    # Somebody's board may be at the end of a line, and busy: it is tried when it is named.
    specs: list[PluginSpec] = [
        spec
        for kind in Kind
        for spec in every_spec(kind)
        if spec.name in wanted or (not wanted and kind is not Kind.BOARD)
    ]
    broken = 0
    for spec in specs:
        for rule in checks_of(spec.plugin):
            label = f"{spec.kind} {spec.text}: {rule.__name__.replace('_', ' ')}"
            try:
                rule(spec)
            except (ConformanceError, PluginError) as error:
                broken += 1
                print(f"FAILED {label}\n       {error}")
            else:
                print(f"ok     {label}")
    print(f"{broken} rules broken" if broken else "all rules kept")
    return 1 if broken else 0


def data(options: Namespace) -> int:
    """Fetch data sets into the cache."""
    for name in options.names:
        entry(name)
    for name in options.names:
        dataset = load(name)
        shape = "x".join(map(str, dataset.input_shape))
        print(f"{name}: {len(dataset)} images {shape}, {dataset.n_classes} classes, from {dataset.source}")
    return 0


def store(options: Namespace) -> int:
    """Say where the store is, check it, or remove what is damaged."""
    with progress.sink(progress.to_stderr):
        artefacts = Store()
    if options.action == "path":
        print(artefacts.root)
        if artefacts.shared:
            print(artefacts.shared.shown)
        return 0
    damaged = 0
    total = 0
    for folder in artefacts.entries():
        total += 1
        try:
            verify(folder)
        except StoreError as error:
            damaged += 1
            print(error)
            if options.action == "repair":
                shutil.rmtree(folder)
                print(f"removed {folder}")
    print(f"{total} entries, {damaged} damaged")
    shared = artefacts.shared
    if shared is not None:
        for name, wrong in shared.damage(repair=options.action == "repair"):
            damaged += wrong is not None
            if wrong is not None:
                print(wrong)
                if options.action == "repair":
                    print(f"removed {name} from {shared.shown}")
    return 1 if damaged and options.action == "check" else 0
