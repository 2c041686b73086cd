"""Where plugins register: one file, one decorated class."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import itertools
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, dataclass_transform

from device.board import Board
from suite.attack_model import AnyAttack, Attack, ExtractionAttack
from suite.exposure_model import ExposureAttack
from suite.model import Defense, Goal, View

C = TypeVar("C", bound=type)


class PluginError(ValueError):
    """A plugin that cannot be registered, found or configured; names it, its file and line."""


class Kind(StrEnum):
    """What can be plugged in. The plural is the package (boards have none) and the entry-point group."""

    VICTIM = "victim"
    DEFENSE = "defense"
    ATTACK = "attack"
    BOARD = "board"

    @property
    def plural(self) -> str:
        """Folder name, and the end of the entry-point group's name."""
        return f"{self.value}s"


WITHOUT_PARAMETERS = frozenset({Kind.VICTIM, Kind.BOARD})
"""Kinds whose plugins are named and no more; the annotated attributes of the others are parameters."""
SUITES_OWN = {
    Kind.BOARD: {
        "emulated": "device/emulated.py",
        "pi3bplus": "suite/published_pi.py",
        "qemu": "device/qemu/board.py",
        "ssh": "device/remote.py",
    }
}
"""Names that are taken without being registered, and by what."""

COST_ONLY = "it is there for its cost alone (see what fits with leakboard plan)"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A registered class: where it stands, its default ``variants`` in the matrix, and what the decorator was told."""

    kind: Kind
    name: str
    cls: type
    file: str
    line: int
    variants: tuple[Mapping[str, Any], ...] = ({},)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """``file:line``, for messages."""
        return f"{self.file}:{self.line}"

    @property
    def cost_only(self) -> bool:
        """Whether this is a victim without a training recipe: planned and timed with random weights, never attacked."""
        return "recipe" in self.options and self.options["recipe"] is None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error message: close names if there are any, and all names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"{hint} (known: {', '.join(names) or 'none'})"


class Registry:
    """The plugins known to this process."""

    def __init__(self) -> None:
        self._plugins: dict[Kind, dict[str, Plugin]] = {kind: {} for kind in Kind}

    def add(self, plugin: Plugin) -> None:
        """Register, or say why not.

        Raises:
            PluginError: bad name, wrong base class, a name taken, or one that contains or is contained in another of
                its kind (``-k`` selects by substring, so such names could not be told apart).
        """
        base = {Kind.DEFENSE: Defense, Kind.ATTACK: AnyAttack, Kind.BOARD: Board}.get(plugin.kind)
        label = f"{plugin.kind} {plugin.name!r} ({plugin.where})"
        here = (plugin.file, plugin.line) if plugin.line else None
        self.check_name(plugin.kind, plugin.name, label, here)
        if base is not None and not issubclass(plugin.cls, base):
            raise PluginError(f"{label}: {plugin.cls.__name__} must derive from {base.__name__}")
        if base is not None and inspect.isabstract(plugin.cls):
            missing = ", ".join(sorted(getattr(plugin.cls, "__abstractmethods__", ())))
            raise PluginError(f"{label}: {plugin.cls.__name__} does not define {missing}")
        self._plugins[plugin.kind][plugin.name] = plugin

    def check_name(self, kind: Kind, name: str, label: str, here: tuple[str, int] | None = None) -> None:
        """See that a plugin may have this name; ``here``: its file and line, which may register it once more.

        Raises:
            PluginError: as ``add``, beginning with ``label``.
        """
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise PluginError(f"{label}: a name is made of a-z, 0-9 and _, and starts with a letter")
        taken = dict(SUITES_OWN.get(kind, {}))
        for other in self._plugins[kind].values():
            if other.name != name or (other.file, other.line) != here:  # else imported under a second module name
                taken[other.name] = other.where
        if name in taken:
            raise PluginError(f"{label}: the name is taken by {taken[name]}")
        for other_name, where in taken.items():
            if other_name in name or name in other_name:
                raise PluginError(
                    f"{label}: the name and {other_name!r} ({where}) contain one another, so -k could not tell"
                    " them apart; choose another"
                )

    def get(self, kind: Kind, name: str) -> Plugin:
        """The plugin of that name.

        Raises:
            PluginError: there is none; says which come close.
        """
        try:
            return self._plugins[kind][name]
        except KeyError:
            raise PluginError(f"unknown {kind} {name!r}{did_you_mean(name, self._plugins[kind])}") from None

    def all(self, kind: Kind) -> tuple[Plugin, ...]:
        """All plugins of a kind, in name order."""
        return tuple(self._plugins[kind][name] for name in sorted(self._plugins[kind]))


REGISTRY = Registry()


def _location(cls: type) -> tuple[str, int]:
    try:
        file = inspect.getsourcefile(cls) or "<unknown>"
    except TypeError:  # typed into an interpreter
        return "<unknown>", 0
    try:
        return file, inspect.getsourcelines(cls)[1]
    except OSError:
        return file, 0


_RESERVED = frozenset({"name", "goal", "needs", "uses"})


def _parameters(kind: Kind, name: str, cls: C) -> C:
    """Make the annotated attributes of a plugin class its parameters (a frozen data class, the same class)."""
    if not isinstance(cls, type):
        raise PluginError(f"{kind} {name!r}: decorate a class, not {cls!r}")
    dataclasses.dataclass(frozen=True)(cls)
    return cls


def _register(kind: Kind, name: str, cls: type, variants: Iterable[Mapping[str, Any]], **options: Any) -> None:
    file, line = _location(cls)
    frozen = tuple(MappingProxyType(dict(v)) for v in variants)
    if kind not in WITHOUT_PARAMETERS and (taken := _RESERVED & {f.name for f in dataclasses.fields(cls)}):
        raise PluginError(f"{kind} {name!r} ({file}:{line}): a parameter cannot be called {min(taken)!r}")
    REGISTRY.add(Plugin(kind, name, cls, file, line, frozen, MappingProxyType(options)))


@dataclass_transform(frozen_default=True)
def defense(name: str, *, variants: Iterable[Mapping[str, Any]] = ({},)) -> Callable[[C], C]:
    """Register a ``Defense``. Its annotated attributes become parameters (a frozen data class).

    ``variants`` are the parameter sets that the default matrix runs; others are asked for by name
    (``--defenses "darknetz[k=4]"``).
    """

    def decorate(cls: C) -> C:
        made = _parameters(Kind.DEFENSE, name, cls)
        _register(Kind.DEFENSE, name, made, variants)
        setattr(made, "name", name)  # noqa: B010  (a class attribute, which C does not promise)
        return made

    return decorate


@dataclass_transform(frozen_default=True)
def attack(
    name: str,
    *,
    goal: Goal,
    needs: Iterable[View],
    uses: Iterable[View] = (),
    variants: Iterable[Mapping[str, Any]] = ({},),
) -> Callable[[C], C]:
    """Register an ``Attack``; ``needs`` says what it must be shown, cells whose defense hides that are excluded.

    ``uses``: what it looks at where a defense shows it, and does without where none does.
    """

    def decorate(cls: C) -> C:
        made = _parameters(Kind.ATTACK, name, cls)
        try:
            told: dict[str, Any] = {
                "name": name,
                "goal": Goal(goal),
                "needs": frozenset(View(need) for need in needs),
                "uses": frozenset(View(used) for used in uses),
            }
        except ValueError as error:
            raise PluginError(f"attack {name!r} ({':'.join(map(str, _location(made)))}): {error}") from error
        if isinstance(made, type) and issubclass(made, AnyAttack):
            _check_family(made, f"attack {name!r} ({':'.join(map(str, _location(made)))})", told["goal"], told["needs"])
        _register(Kind.ATTACK, name, made, variants)
        for attribute, value in told.items():
            setattr(made, attribute, value)
        return made

    return decorate


_FAMILIES: Mapping[Goal, type[AnyAttack]] = {
    Goal.MEMBERSHIP: Attack,
    Goal.EXTRACTION: ExtractionAttack,
    Goal.EXPOSURE: ExposureAttack,
}


def _check_family(cls: type[AnyAttack], label: str, goal: Goal, needs: frozenset[View]) -> None:
    """See that goal, base class and needs belong together.

    Raises:
        PluginError: they do not; says what does.
    """
    for served, base in _FAMILIES.items():
        if issubclass(cls, base) is not (goal is served):
            raise PluginError(f"{label}: an attack with goal {served} derives from {base.__name__}, and no other does")
    if goal is Goal.EXTRACTION and View.OUTPUT in needs:
        raise PluginError(f"{label}: extraction has no candidates whose output it could see; ask with View.QUERY")


def victim(name: str, *, recipe: Any) -> Callable[[C], C]:
    """Register a ``torch.nn.Module`` class taking ``(input_shape, n_classes)``, with its training recipe.

    A victim whose recipe is None is there for its cost alone.
    """

    def decorate(cls: C) -> C:
        _register(Kind.VICTIM, name, cls, ({},), recipe=recipe)
        return cls

    return decorate


def board(name: str) -> Callable[[C], C]:
    """Register a ``device.board.Board`` class taking ``(tee_limit_bytes=...)``, for ``--board name``."""

    def decorate(cls: C) -> C:
        if not isinstance(cls, type):
            raise PluginError(f"board {name!r}: decorate a class, not {cls!r}")
        _register(Kind.BOARD, name, cls, ({},))
        setattr(cls, "name", name)  # noqa: B010  (a class attribute, which C does not promise)
        return cls

    return decorate


def discover(packages: Iterable[Kind] = tuple(Kind)) -> Registry:
    """Import every plugin of the suite's own folders and of installed packages; return the registry.

    Installed packages register under the entry-point groups ``leakboard.victims``, ``leakboard.defenses``,
    ``leakboard.attacks`` and ``leakboard.boards``.

    Raises:
        PluginError: a plugin does not import; names it and the cause.
    """
    for kind in packages:
        package = [] if kind is Kind.BOARD else importlib.import_module(kind.plural).__path__
        for info in pkgutil.iter_modules(package):
            if not info.ispkg:
                with _importing(f"{kind} file {kind.plural}/{info.name}.py"):
                    importlib.import_module(f"{kind.plural}.{info.name}")
        for entry in importlib.metadata.entry_points(group=f"leakboard.{kind.plural}"):
            with _importing(f"{kind} {entry.name!r} of entry point {entry.value!r}"):
                entry.load()
    return REGISTRY


@contextlib.contextmanager
def _importing(what: str) -> Iterator[None]:
    try:
        yield
    except PluginError:
        raise
    except (Exception, SystemExit) as error:  # SystemExit: a script that runs when imported
        raise PluginError(f"{what} does not import: {type(error).__name__}: {error}") from error


def load_file(path: Path) -> None:
    """Import a loose plugin file (``--plugin path.py``).

    Raises:
        PluginError: the file is missing, does not import, or registers nothing.
    """
    if not path.is_file():
        raise PluginError(f"--plugin {path}: no such file")
    path = path.resolve()
    before = [REGISTRY.all(kind) for kind in Kind]
    for number in itertools.count(1):  # two files in two folders may be called the same
        name = f"leakboard_plugin_{path.stem}" + (f"_{number}" if number > 1 else "")
        if name not in sys.modules:
            break
        if getattr(sys.modules[name], "__file__", None) == str(path):
            return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"--plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _importing(f"--plugin {path}"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    if before == [REGISTRY.all(kind) for kind in Kind]:
        del sys.modules[name]
        raise PluginError(
            f"--plugin {path}: registers nothing; decorate a class with @defense, @attack, @victim or @board"
        )
