"""One run of the suite, as pytest's options ask for it: which cells, which of them cannot be run, and why."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from suite import matrix
from suite.attacking import shadow_jobs
from suite.boards import DEFAULT_TEE_MIB, make_board
from suite.deploying import survey
from suite.graph.ir import GraphError
from suite.matrix import Cell
from suite.model import View
from suite.profiles import get_profile
from suite.registry import REGISTRY, Kind, PluginError, discover, load_file
from suite.run import Bench, victim_job
from suite.spec import PluginSpec, default_specs, parse_list
from suite.store import Store
from victims.data import DataError, UnknownDataset, availability, load
from victims.data.catalogue import INPUT_SHAPES, entry


class UsageError(ValueError):
    """Something the user asked for by name that cannot be had; one line that says what and how to go on."""


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. None and empty stand for the default; ``tee_mib`` None for the board's own limit."""

    board: str = "emulated"
    profile: str = "quick"
    seeds: str = "0"
    datasets: str | None = None
    victims: str | None = None
    defenses: str | None = None
    attacks: str | None = None
    plugins: Sequence[str] = ()
    results: str = "results/local"
    tee_mib: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Exclusion:
    """A cell that is not run. ``memory``: for the sole reason that its TEE part is too large."""

    cell: Cell
    reason: str
    memory: bool = False


class Run:
    """The cells of a run and where they are run.

    Raises:
        UsageError: an option names what does not exist or cannot be used.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.excluded: list[Exclusion] = []
        try:
            discover()
            for path in options.plugins:
                load_file(Path(path))
            self.profile = get_profile(options.profile)
            self.seeds = parse_seeds(options.seeds)
            self.datasets = self._datasets()
            board = make_board(options.board, DEFAULT_TEE_MIB if options.tee_mib is None else options.tee_mib)
            self.cells = matrix.build(
                victims=self._specs(Kind.VICTIM, options.victims),
                datasets=self.datasets,
                defenses=self._specs(Kind.DEFENSE, options.defenses),
                attacks=self._specs(Kind.ATTACK, options.attacks),
                board=options.board,
                profile=self.profile,
                seeds=self.seeds,
            )
            for cell in self.cells:
                if cell.attack:
                    REGISTRY.get(Kind.VICTIM, shadow_jobs(cell.attack, victim_job(cell))[0].architecture)
            self.bench = Bench(Store(), board, writable(Path(options.results)), tuple(options.plugins))
        except (ValueError, RuntimeError) as error:
            raise UsageError(str(error)) from error

    def _datasets(self) -> tuple[str, ...]:
        if not self.options.datasets:
            return self.profile.datasets
        names = tuple(dict.fromkeys(n.strip() for n in self.options.datasets.split(",") if n.strip()))
        for name in names:
            entry(name)
        return names

    @staticmethod
    def _specs(kind: Kind, text: str | None) -> list[PluginSpec]:
        return parse_list(kind, text) if text else list(default_specs(kind))

    def fetch(self, *, really: bool) -> None:
        """Get the data sets (or, not ``really``, see whether they can probably be had).

        Raises:
            UsageError: one that was asked for by name cannot.
        """
        for name in self.datasets:
            try:
                reason = availability(name)
                if reason is None and really:
                    load(name)
            except UnknownDataset:
                raise
            except DataError as error:
                reason = str(error)
            if reason is None:
                continue
            if self.options.datasets:
                raise UsageError(f"data set {name!r} cannot be had here: {reason}")
            self.excluded += [Exclusion(cell, reason) for cell in self.cells if cell.dataset == name]
            self.cells = [cell for cell in self.cells if cell.dataset != name]

    def screen(self, cells: Iterable[Cell]) -> list[Cell]:
        """The cells that can be run; the others go to ``excluded`` with the reason.

        Raises:
            UsageError: a defense asked for by name does not suit the victim.
        """
        kept = []
        verdicts: dict[tuple[str, str, str], dict[str, Any] | Exclusion] = {}
        for cell in cells:
            if cell.place not in verdicts:
                verdicts[cell.place] = self._survey(cell)
            verdict = verdicts[cell.place]
            if isinstance(verdict, Exclusion):
                self.excluded.append(dataclasses.replace(verdict, cell=cell))
            elif hidden := unmet(cell, verdict["shows"]):
                self.excluded.append(Exclusion(cell, f"{cell.measure} needs {hidden}, which the deployment hides"))
            else:
                kept.append(cell)
        return kept

    def _survey(self, cell: Cell) -> dict[str, Any] | Exclusion:
        n_classes = entry(cell.dataset).n_classes
        limit = self.bench.board.tee_limit_bytes()
        try:
            found = survey(self.bench.store, cell.defense, cell.victim.name, INPUT_SHAPES[cell.dataset], n_classes)
        except (PluginError, GraphError) as error:
            if cell.defense.asked:
                raise UsageError(str(error)) from error
            return Exclusion(cell, str(error))
        if found["planned_bytes"] > limit:
            return Exclusion(
                cell,
                f"the TEE part needs {found['planned_bytes'] / 2**20:.1f} MiB, the limit is {limit / 2**20:g} MiB"
                f" (leakboard plan {cell.victim.name} {cell.defense.text} shows it by layer; --tee-mib raises it)",
                memory=True,
            )
        return found

    def starved(self, kept: Sequence[Cell]) -> list[str]:
        """Plugins left without one runnable cell, a line each. Too little TEE memory is forgiven unless asked for."""
        runs = {kind: defaultdict[str, int](int) for kind in (Kind.DEFENSE, Kind.ATTACK)}
        for cell in kept:
            runs[Kind.DEFENSE][cell.defense.name] += 1
            if cell.attack:
                runs[Kind.ATTACK][cell.attack.name] += 1
        lines: dict[str, None] = {}
        for one in self.excluded:
            asked = one.cell.defense.asked or self.options.tee_mib is not None
            if one.memory and not asked:
                continue
            for spec in filter(None, (one.cell.defense, one.cell.attack)):
                if not runs[spec.kind][spec.name]:
                    lines.setdefault(f"{spec.kind} {spec.name!r} has no runnable cell: {one.reason}")
        return list(lines)


def unmet(cell: Cell, shows: Iterable[str]) -> str:
    """What the cell's attack needs and the deployment does not show, as text; empty when nothing."""
    needs: frozenset[View] = cell.attack.make().needs if cell.attack else frozenset()
    return ", ".join(sorted(needs - {View(name) for name in shows}))


def parse_seeds(text: str) -> tuple[int, ...]:
    """``0,1,2`` or ``0-4``.

    Raises:
        ValueError: not a list of whole numbers from 0.
    """
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            seeds += range(int(first), int(last if dash else first) + 1)
    except ValueError:
        raise ValueError(f"--seeds {text!r}: write whole numbers, as 0,1,2 or 0-4") from None
    if not seeds:
        raise ValueError(f"--seeds {text!r}: no seed in it")
    return tuple(dict.fromkeys(seeds))


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
