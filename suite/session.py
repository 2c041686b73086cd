"""One run of the suite, as pytest's options ask for it: which cells, which of them cannot be run, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from suite import matrix
from suite.attack_model import AnyAttack, Layout
from suite.attacking import attacker_jobs
from suite.boards import make_board
from suite.deploying import survey
from suite.energy import meter_spec, refuse_unmeasurable
from suite.graph.ir import GraphError
from suite.matrix import Cell
from suite.model import View
from suite.profiles import get_profile
from suite.ray_tasks import check_address, check_installed
from suite.registry import COST_ONLY, REGISTRY, Kind, PluginError, discover, load_file
from suite.run import Bench, victim_job
from suite.spec import PluginSpec, default_specs, parse_list
from suite.store import Store
from victims.data import NAMES, DataError, UnknownDataset, availability, load
from victims.data.catalogue import INPUT_SHAPES, entry

BOUNDS = {"vanilla": 0, "full_tee": 1}
"""The white box and the black box, between which every defense lies; their place in the matrix."""
MAX_SEEDS = 1000
MIN_QUERIES = 20


class UsageError(ValueError):
    """Something the user asked for by name that cannot be had; one line that says what and how to go on."""


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. None and empty stand for the default; of ``tee_mib`` and ``queries`` for the board's own."""

    board: str = "emulated"
    profile: str = "quick"
    seeds: str = "0"
    datasets: str | None = None
    victims: str | None = None
    defenses: str | None = None
    attacks: str | None = None
    plugins: Sequence[str] = ()
    results: str = "results/local"
    tee_mib: str | None = None
    queries: str | None = None
    ray: str | None = None
    store: str | None = None
    meter: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Exclusion:
    """A cell that is not run.

    ``memory``: for the sole reason that its TEE part is too large; ``unsuited``: that the attack is shown too little.
    """

    cell: Cell
    reason: str
    memory: bool = False
    unsuited: bool = False

    @property
    def attack_asked(self) -> bool:
        """Whether somebody asked for its attack by name."""
        return self.cell.attack is not None and self.cell.attack.asked


class Run:
    """The cells of a run and where they are run.

    Raises:
        UsageError: an option names what does not exist or cannot be used.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.excluded: list[Exclusion] = []
        self._without_data: dict[str, str] = {}
        try:
            discover()
            for path in options.plugins:
                load_file(Path(path))
            self.profile = get_profile(options.profile)
            self.seeds = parse_seeds(options.seeds)
            self.datasets = self._datasets()
            board = make_board(options.board, tee_mib(options.tee_mib))
            self.profile = dataclasses.replace(self.profile, queries=queries(options.queries, board.most_queries))
            self.cells = matrix.build(
                victims=self._specs(Kind.VICTIM, options.victims),
                datasets=self.datasets,
                defenses=self._specs(Kind.DEFENSE, options.defenses),
                attacks=self._specs(Kind.ATTACK, options.attacks),
                board=board.name,
                profile=self.profile,
                seeds=self.seeds,
            )
            for cell in self.cells:
                if cell.attack:
                    for shadow in {job.architecture for job in attacker_jobs(cell.attack, victim_job(cell))}:
                        if REGISTRY.get(Kind.VICTIM, shadow).cost_only and shadow != cell.victim.name:
                            raise ValueError(f"{cell.attack.text}: no shadow of {shadow} can be trained: {COST_ONLY}")
            refuse_unmeasurable(meter := meter_spec(options.meter), board)
            store = Store(url=options.store)
            self.bench = Bench(store, board, Path(options.results), tuple(options.plugins), meter=meter)
            if options.ray is not None:
                check_installed()
                check_address(options.ray, store)
        except (ValueError, RuntimeError) as error:
            raise UsageError(str(error)) from error

    def _datasets(self) -> tuple[str, ...]:
        if self.options.datasets is None:
            return self.profile.datasets
        names = tuple(dict.fromkeys(n.strip() for n in self.options.datasets.split(",") if n.strip()))
        if not names:
            raise ValueError(f"--datasets {self.options.datasets!r}: no data set in it (known: {', '.join(NAMES)})")
        for name in names:
            entry(name)
        return names

    @staticmethod
    def _specs(kind: Kind, text: str | None) -> list[PluginSpec]:
        if text is None:  # the bounds of every table first
            return sorted(default_specs(kind), key=lambda spec: BOUNDS.get(spec.name, len(BOUNDS)))
        found = list(dict.fromkeys(parse_list(kind, text)))
        if not found:
            known = ", ".join(plugin.name for plugin in REGISTRY.all(kind))
            raise ValueError(f"--{kind.plural} {text!r}: no {kind} in it (known: {known})")
        return found

    def prepare(self, *, really: bool) -> None:
        """Get the data sets (or, not ``really``, see whether they can probably be had) and make the results folder.

        Raises:
            UsageError: a data set that was asked for by name cannot be had, or the folder cannot be written.
        """
        if really:
            try:
                writable(self.bench.results)
            except ValueError as error:
                raise UsageError(str(error)) from error
        for name in self.datasets:
            try:
                reason = availability(name)
                if reason is None and really:
                    load(name)
            except UnknownDataset:
                raise
            except DataError as error:
                head, *rest = str(error).splitlines()
                reason = " ".join([head, "; ".join(line.strip() for line in rest)]).strip()
            if reason is None:
                continue
            if f"data set {name!r}" not in reason:
                reason = f"data set {name!r} cannot be had here: {reason}"
            if self.options.datasets is not None:
                raise UsageError(reason)
            self._without_data[name] = reason

    def screen(self, cells: Iterable[Cell]) -> list[Cell]:
        """The cells that can be run; the others go to ``excluded`` with the reason.

        Raises:
            UsageError: a defense asked for by name suits none of the victims.
        """
        kept = []
        verdicts: dict[tuple[str, str, str], dict[str, Any] | Exclusion] = {}
        suits: set[PluginSpec] = set()
        for cell in cells:
            if cell.dataset in self._without_data:
                self.excluded.append(Exclusion(cell, self._without_data[cell.dataset]))
                suits.add(cell.defense)  # as far as anybody can tell
                continue
            if cell.place not in verdicts:
                verdicts[cell.place] = self._survey(cell)
            verdict = verdicts[cell.place]
            if isinstance(verdict, Exclusion):
                self.excluded.append(dataclasses.replace(verdict, cell=cell))
            elif hidden := unmet(cell, verdict["shows"]):
                self.excluded.append(_unsuited(cell, f"{cell.measure} needs {hidden}, which the deployment hides"))
            elif cell.attack and (reason := unsuited(cell.attack, verdict)):
                self.excluded.append(_unsuited(cell, f"{cell.measure}: {reason}"))
            else:
                kept.append(cell)
            if not isinstance(verdict, Exclusion) or verdict.memory:
                suits.add(cell.defense)
        for one in self.excluded:
            if one.cell.defense.asked and one.cell.defense not in suits:
                raise UsageError(one.reason)
        return kept

    def _survey(self, cell: Cell) -> dict[str, Any] | Exclusion:
        if cell.victim.plugin.cost_only:
            return Exclusion(cell, f"the victim has no training recipe: {COST_ONLY}")
        n_classes = entry(cell.dataset).n_classes
        limit = self.bench.board.tee_limit_bytes()
        try:
            found = survey(self.bench.store, cell.defense, cell.victim.name, INPUT_SHAPES[cell.dataset], n_classes)
        except (PluginError, GraphError) as error:
            return Exclusion(cell, str(error))
        if (needed := found["planned_bytes"] + found["training_bytes"]) > limit:
            shown = f"leakboard plan {cell.victim.name} '{cell.defense.text}' --dataset {cell.dataset}"
            return Exclusion(
                cell,
                f"the TEE part needs {mebibytes(needed)}, the limit is {mebibytes(limit)}"
                f" ({shown} lists it by layer; --tee-mib raises the limit)",
                memory=True,
            )
        return found

    def starved(self, kept: Sequence[Cell]) -> list[str]:
        """A line for each reason that left plugins without one runnable cell.

        Forgiven are too little TEE memory, unless the defense or the limit was asked for, and an attack that the chosen
        deployments show too little, unless it was.
        """
        runs = {(spec.kind, spec.name) for cell in kept for spec in (cell.defense, cell.attack) if spec}
        why: dict[tuple[Kind, str], str] = {}
        for one in self.excluded:
            asked = one.cell.defense.asked or self.options.tee_mib is not None
            forgiven = (one.memory and not asked) or (one.unsuited and not one.attack_asked)
            for spec in (one.cell.defense, one.cell.attack):
                if spec and (spec.kind, spec.name) not in runs and not forgiven:
                    why.setdefault((spec.kind, spec.name), one.reason)
        lines = []
        for reason in dict.fromkeys(why.values()):
            names = {kind: sorted(n for (k, n), r in why.items() if (k, r) == (kind, reason)) for kind in Kind}
            parts = [f"{kind if len(n) == 1 else kind.plural} {', '.join(n)}" for kind, n in names.items() if n]
            lines.append(f"no runnable cell for {' and '.join(parts)}: {reason}")
        return lines


def unmet(cell: Cell, shows: Iterable[str]) -> str:
    """What the cell's attack needs and the deployment does not show, as text; empty when nothing."""
    needs: frozenset[View] = cell.attack.make().needs if cell.attack else frozenset()
    return ", ".join(sorted(needs - {View(name) for name in shows}))


def unsuited(attack: PluginSpec, surveyed: Mapping[str, Any]) -> str:
    """Why the attack has nothing to do on such a deployment, as text; empty when it has."""
    plugin: AnyAttack = attack.make()
    return plugin.unsuited(Layout(surveyed["answers_alone"], surveyed["disguised"]))


def parse_seeds(text: str) -> tuple[int, ...]:
    """``0,1,2`` or ``0-4``.

    Raises:
        ValueError: not a list of whole numbers from 0.
    """
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            several = range(int(first), int(last if dash else first) + 1)
            seeds += several[:MAX_SEEDS]
    except ValueError:
        raise ValueError(f"--seeds {text!r}: write whole numbers, as 0,1,2 or 0-4") from None
    if not seeds:
        raise ValueError(f"--seeds {text!r}: no seed in it")
    if len(seeds) >= MAX_SEEDS:
        raise ValueError(f"--seeds {text!r}: each is a training of every victim; take fewer than {MAX_SEEDS}")
    return tuple(dict.fromkeys(seeds))


def tee_mib(text: str | None) -> float | None:
    """The TEE's memory limit, MiB; None for the board's own.

    Raises:
        ValueError: not a number.
    """
    try:
        return None if text is None else float(text)
    except ValueError:
        raise ValueError(f"--tee-mib {text!r}: the TEE's memory limit is a number of MiB above 0") from None


def queries(text: str | None, default: int | None) -> int | None:
    """How many candidates to put to the board at most; None: all.

    Raises:
        ValueError: neither "all" nor an even number from 20.
    """
    if text is None:
        return default
    if text == "all":
        return None
    if not text.isdecimal() or int(text) % 2 or int(text) < MIN_QUERIES:
        raise ValueError(f"--queries {text!r}: write all, or an even number from {MIN_QUERIES} (half are members)")
    return int(text)


def mebibytes(n: int) -> str:
    """``18.2 MiB``; small amounts in KiB."""
    return f"{n / 2**20:.3g} MiB" if n >= 2**20 / 10 else f"{n / 2**10:.3g} KiB"


def writable(results: Path) -> Path:
    """The results folder, made if need be.

    Raises:
        ValueError: it cannot be written.
    """
    try:
        results.mkdir(parents=True, exist_ok=True)
        probe = results / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"--results {results}: cannot be written ({error.strerror}); choose another folder") from error
    return results


def _unsuited(cell: Cell, reason: str) -> Exclusion:
    return Exclusion(cell, reason, unsuited=True)
