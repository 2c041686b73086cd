"""A page of Markdown for each plugin, from its docstring, its parameters, what it shows or needs, and its records."""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from suite.attack_model import AnyAttack, ReferenceAttack
from suite.deploying import deploy, untrained_victim
from suite.docstrings import code, escaped, inline, markdown
from suite.graph.macs import graph_macs
from suite.graph.planner import plan_memory
from suite.model import Defense, Deployment, LearnedDefense
from suite.plugin_records import RecordedTables, recorded, sections
from suite.records import write_atomic
from suite.registry import REGISTRY, Kind, Plugin, PluginError
from suite.spec import PluginSpec, specify

SAMPLE = "alexnet", (3, 32, 32), 10
"""The victim on which a defense's page shows its layouts: architecture, shape of an image, classes."""
COST_ONLY_SAMPLE = (3, 224, 224), 1000
"""Images and classes for which the parameters of a victim are counted that is there for its cost alone."""
_ROOT = Path(__file__).resolve().parents[1]
_WORDS = "docs/threat_model.md says what the words mean."

Row = Sequence[str]


def write_pages(folder: Path, results: Path) -> tuple[str, ...]:
    """Write ``index.md`` and ``<kind>s/<name>.md`` of every registered plugin; return problems of the records.

    Pages of plugins that are gone are removed, and a page that would not change is left alone, so that what builds
    on the folder has to read again only what is new. Each page is written aside and renamed.

    Raises:
        RecordError: the folder cannot be written.
    """
    found = recorded(results)
    pages = {folder / "index.md": _index()}
    for kind in Kind:
        for plugin in REGISTRY.all(kind):
            path = folder / kind.plural / f"{plugin.name}.md"
            pages[path] = page(plugin, found, path)
    for path, text in pages.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_atomic(path, text.encode())
    for kind in Kind:
        for path in (folder / kind.plural).glob("*.md"):
            if path not in pages:
                path.unlink()
    return found.problems


def page(plugin: Plugin, found: RecordedTables, path: Path) -> str:
    """The page of one plugin, with links that hold for a file at ``path``."""
    about = {Kind.VICTIM: _victim, Kind.DEFENSE: _defense, Kind.ATTACK: _attack}.get(plugin.kind, lambda _: iter(()))
    parts = [
        f"# {escaped(plugin.name)}",
        f"{plugin.kind.capitalize()}, {_source(plugin, path)}.",
        markdown(plugin.cls.__doc__ or "").strip(),
        *about(plugin),
        "## Published records",
        *(sections(found, plugin, path) if found.tables else ()),
    ]
    if parts[-1] == "## Published records":
        parts.append("There is no published record of it.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _index() -> str:
    parts = [
        "# Plugins",
        "Each page is made from the plugin's docstring, its code and the published records; `leakboard list` prints the"
        " names.",
    ]
    for kind in (kind for kind in Kind if REGISTRY.all(kind)):
        rows = [
            [f"[{escaped(plugin.name)}]({kind.plural}/{plugin.name}.md)", _cell(_first_paragraph(plugin))]
            for plugin in REGISTRY.all(kind)
        ]
        names = "\n".join(f"{kind.plural}/{plugin.name}" for plugin in REGISTRY.all(kind))
        parts += [
            f"## {kind.plural.capitalize()}",
            _table((str(kind), "in one sentence"), rows),
            f"```{{toctree}}\n:hidden:\n:caption: {kind.plural.capitalize()}\n\n{names}\n```",
        ]
    return "\n\n".join(parts) + "\n"


def _victim(plugin: Plugin) -> Iterator[str]:
    sample, n_classes = COST_ONLY_SAMPLE if plugin.cost_only else SAMPLE[1:]
    with torch.device("meta"):
        parameters = sum(p.numel() for p in plugin.cls(sample, n_classes).parameters())
    shape = "x".join(map(str, sample))
    yield f"{parameters:,} parameters for images of {shape} and {n_classes:,} classes."
    if plugin.cost_only:
        yield (
            "There for its cost alone: with random weights, planned and timed, never trained or attacked"
            f" (`leakboard plan {plugin.name} vanilla --input {shape} --classes {n_classes}`)."
        )
    recipe = plugin.options.get("recipe")
    if dataclasses.is_dataclass(recipe) and not isinstance(recipe, type):
        yield "## Training recipe"
        yield _table(("setting", "value"), [[code(k), code(_shown(v))] for k, v in dataclasses.asdict(recipe).items()])


def _defense(plugin: Plugin) -> Iterator[str]:
    cls: type[Defense] = plugin.cls
    yield from _parameters(plugin)
    yield f"Accepted loss of accuracy by deploying: {100 * cls.max_accuracy_loss_frac:g} points."
    if issubclass(cls, LearnedDefense):
        yield "It trains something of its own, once for each victim, before it is deployed."
    architecture, shape, n_classes = SAMPLE
    yield "## What it shows"
    yield (
        f"Of {architecture} for images of {'x'.join(map(str, shape))} and {n_classes} classes, as laid out before"
        f" anything is trained; {_WORDS}"
    )
    rows = [_layout(spec) for spec in _specs(plugin)]
    if rows:
        yield _table(("variant", "answers", "shows", "TEE memory, planned", "multiply-accumulates in the TEE"), rows)
    else:
        yield "It has parameters without a default and no variants, so there is nothing to lay out here."


def _layout(spec: PluginSpec) -> Row:
    try:
        found: Deployment = deploy(spec, untrained_victim(*SAMPLE))
    except ValueError as error:
        return [code(spec.text), _cell(f"cannot be laid out on this victim: {error}"), "", "", ""]
    hidden = sum(graph_macs(graph) for graph in found.hidden)
    total = hidden + sum(graph_macs(graph) for graph in found.public)
    return [
        code(spec.text),
        code(str(found.policy)),
        ", ".join(code(view) for view in sorted(found.shows)) + (", disguised" if found.disguised else ""),
        f"{plan_memory(found.segments).peak_bytes / 2**20:.2f} MiB" if found.hidden else "none",
        f"{100 * hidden / total:.1f} %",
    ]


def _attack(plugin: Plugin) -> Iterator[str]:
    cls: type[AnyAttack] = plugin.cls
    yield from _parameters(plugin)
    yield "## What it looks at"

    def views(names: Iterable[Any]) -> str:
        return ", ".join(code(name) for name in sorted(names)) or "nothing"

    rows = [["goal", code(cls.goal)], ["needs to be shown", views(cls.needs)]]
    rows += [["uses where it is shown", views(cls.uses)]] if cls.uses else []
    if issubclass(cls, ReferenceAttack):
        rows.append(["reference models", "yes: each knows a random half of the candidates"])
    yield _table(("", ""), rows)
    yield _WORDS[0].upper() + _WORDS[1:]


def _parameters(plugin: Plugin) -> Iterator[str]:
    fields = dataclasses.fields(plugin.cls)
    if fields:
        hints = typing.get_type_hints(plugin.cls)
        yield "## Parameters"
        rows = [
            [
                code(field.name),
                code(_type_name(hints[field.name])),
                "must be given" if field.default is dataclasses.MISSING else code(_shown(field.default)),
            ]
            for field in fields
        ]
        yield _table(("parameter", "type", "default"), rows)
    if plugin.variants:
        listed = ", ".join(code(spec.text) for spec in _specs(plugin))
        yield f"In the default matrix: {listed}."
    else:
        yield f"Not in the default matrix: ask for it by name (`--{plugin.kind.plural} {plugin.name}`)."


def _specs(plugin: Plugin) -> list[PluginSpec]:
    try:
        return [specify(plugin, variant) for variant in plugin.variants or ({},)]
    except PluginError:  # a parameter without a default, and no variant that gives it
        return []


def _source(plugin: Plugin, path: Path) -> str:
    """Where the class stands: a link inside the project, else the file's name, which is all that travels."""
    file = Path(plugin.file).resolve()
    if not file.is_relative_to(_ROOT) or "site-packages" in file.parts:
        return code(file.name)
    name = file.relative_to(_ROOT).as_posix()
    return f"[{escaped(name)}]({Path(os.path.relpath(file, path.resolve().parent)).as_posix()})"


def _type_name(kind: Any) -> str:
    args = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return " | ".join(map(_shown, args))
    return (
        "none"
        if kind is type(None)
        else " | ".join(map(_type_name, args))
        if args
        else getattr(kind, "__name__", str(kind))
    )


def _shown(value: Any) -> str:
    """As it is written on the command line."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _first_paragraph(plugin: Plugin) -> str:
    return inline((plugin.cls.__doc__ or "").strip().partition("\n\n")[0])


def _cell(text: str) -> str:
    return text.replace("\n", " ")


def _table(headers: Row, rows: Iterable[Row]) -> str:
    lines = [list(headers), ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
