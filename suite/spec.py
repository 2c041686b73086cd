"""A plugin with its parameters, as written on the command line: ``darknetz[k=2,output=probs]``."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union

from suite.registry import REGISTRY, WITHOUT_PARAMETERS, Kind, Plugin, PluginError, did_you_mean


@dataclass(frozen=True, slots=True)
class PluginSpec:
    """A plugin's name and its complete parameters, defaults filled in, in declaration order.

    ``asked`` tells a specification that somebody wrote from one that the plugin's own variants gave.
    """

    kind: Kind
    name: str
    params: tuple[tuple[str, Any], ...] = ()
    asked: bool = dataclasses.field(default=False, compare=False)

    @property
    def plugin(self) -> Plugin:
        """The registered plugin."""
        return REGISTRY.get(self.kind, self.name)

    def make(self) -> Any:
        """An instance with these parameters."""
        return self.plugin.cls(**dict(self.params))

    @property
    def text(self) -> str:
        """Canonical form, readable by ``parse``: every parameter, also those at their default, unless that is None."""
        if not self.params:
            return self.name
        unset = {f.name for f in _parameters(self.plugin) if f.default is None}
        shown = [f"{key}={_show(value)}" for key, value in self.params if not (value is None and key in unset)]
        return f"{self.name}[{','.join(shown)}]"

    @property
    def slug(self) -> str:
        """The form used in cell names: parameters away from their default; ``k=2`` as ``k2``, texts as they are."""
        if not self.params:
            return self.name
        defaults = {f.name: f.default for f in _parameters(self.plugin)}
        parts = [self.name]
        for key, value in self.params:
            if value == defaults[key]:
                continue
            if isinstance(value, bool):
                parts.append(key if value else f"no_{key}")
            elif isinstance(value, str):
                parts.append(re.sub(r"[^a-z0-9]+", "_", value.lower()))
            else:
                parts.append(re.sub(r"[^a-z0-9]+", "_", f"{key}{value}".lower()))
        return "_".join(parts)


def _show(value: Any) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _options(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the values of a literal; else the type alone."""
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, UnionType, Literal) else (kind,)


def _convert(text: str, kind: Any, where: str) -> Any:
    options = _options(kind)
    texts: dict[str, bool | None] = {"none": None} if type(None) in options else {}
    texts |= {"true": True, "false": False} if bool in options else {}
    if text.lower() in texts:
        return texts[text.lower()]
    for option in options:
        if not isinstance(option, type):  # a value of a literal
            if text == _show(option):
                return option
        elif option not in (bool, type(None)):
            with contextlib.suppress(ValueError, TypeError):
                return option(text)
    names = " or ".join("none" if o is type(None) else getattr(o, "__name__", str(o)) for o in options)
    raise PluginError(f"{where} takes {names}, not {text!r}")


def _parameters(plugin: Plugin) -> tuple[dataclasses.Field[Any], ...]:
    return () if plugin.kind in WITHOUT_PARAMETERS else dataclasses.fields(plugin.cls)


def _types(plugin: Plugin) -> dict[str, Any]:
    try:
        return {} if plugin.kind in WITHOUT_PARAMETERS else typing.get_type_hints(plugin.cls)
    except NameError as error:
        raise PluginError(f"{plugin.kind} {plugin.name!r} ({plugin.where}): type of a parameter: {error}") from error


def _canonical(value: Any, kind: Any, where: str) -> Any:
    """The value as reading its own text gives it.

    Raises:
        PluginError: its text is read as something else, or cannot be read in a list of parameters.
    """
    text = _show(value)
    if text != text.strip() or not text.isprintable() or not {"[", "]", ","}.isdisjoint(text):
        raise PluginError(f"{where} cannot be {value!r}: no brackets, commas, control characters or spaces at the ends")
    read = _convert(text, kind, where)
    if read != value:
        raise PluginError(f"{where} cannot be {value!r}: {text!r} is read as {read!r}")
    return read


def specify(plugin: Plugin, given: Mapping[str, Any], *, asked: bool = False) -> PluginSpec:
    """Complete ``given`` with the plugin's defaults.

    Raises:
        PluginError: a parameter the plugin does not have, or one without default that is missing.
    """
    if plugin.kind in WITHOUT_PARAMETERS and given:
        raise PluginError(f"{plugin.kind} {plugin.name!r} takes no parameters, got {', '.join(given)}")
    fields, types = {f.name: f for f in _parameters(plugin)}, _types(plugin)
    for key in given:
        if key not in fields:
            raise PluginError(f"{plugin.kind} {plugin.name!r} has no parameter {key!r}{did_you_mean(key, fields)}")
    params = []
    for key, entry in fields.items():
        value = given.get(key, entry.default)
        if value is dataclasses.MISSING:
            raise PluginError(f"{plugin.kind} {plugin.name!r} needs {key}=...: write {plugin.name}[{key}=...]")
        where = f"parameter {key!r} of {plugin.kind} {plugin.name!r}"
        params.append((key, _canonical(value, types.get(key, str), where)))
    return PluginSpec(plugin.kind, plugin.name, tuple(params), asked)


def parse(kind: Kind, text: str) -> list[PluginSpec]:
    """Read one specification. A bare name whose plugin has variants stands for all of them.

    Raises:
        PluginError: unknown plugin or parameter, or a value of the wrong type; one line that says which.
    """
    match = re.fullmatch(r"\s*([A-Za-z0-9_]+)\s*(?:\[(.*)\])?\s*", text)
    if match is None:
        raise PluginError(f"cannot read {kind} {text!r}: write name or name[parameter=value,...]")
    plugin = REGISTRY.get(kind, match[1])
    if match[2] is None:
        return [specify(plugin, variant, asked=True) for variant in plugin.variants or ({},)]
    types = _types(plugin)
    given: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in match[2].split(","))):
        key, equals, value = (s.strip() for s in part.partition("="))
        if not equals:
            raise PluginError(f"cannot read {part!r} in {text!r}: write parameter=value")
        if key in given:
            raise PluginError(f"parameter {key!r} stands twice in {text!r}")
        given[key] = _convert(value, types.get(key, str), f"parameter {key!r} of {kind} {plugin.name!r}")
    return [specify(plugin, given, asked=True)]


def parse_list(kind: Kind, text: str) -> list[PluginSpec]:
    """Read specifications separated by commas (those inside brackets do not separate)."""
    parts = re.split(r",(?![^\[]*\])", text)
    return [spec for part in parts if part.strip() for spec in parse(kind, part)]


def default_specs(kind: Kind) -> Iterable[PluginSpec]:
    """What the default matrix runs: every variant of every plugin."""
    for plugin in REGISTRY.all(kind):
        for variant in plugin.variants:
            yield specify(plugin, variant)


def every_spec(kind: Kind) -> Iterable[PluginSpec]:
    """The default matrix, and with its default parameters every plugin that it leaves out."""
    for plugin in REGISTRY.all(kind):
        for variant in plugin.variants or ({},):
            yield specify(plugin, variant)
