"""A record for reading: every field of its JSON in a table, figures digit by digit as they stand there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Fields = list[tuple[str, str]]


def sections(record: Mapping[str, Any]) -> list[tuple[str, Fields, list[tuple[str, list[str], list[list[str]]]]]]:
    """Top-level fields as (name, plain fields, tables); a list of objects is a table of (name, headers, rows).

    Top-level numbers and texts come together as ``record``; fields that are null there are listed with them.
    """
    alone: Fields = [(name, _text(value)) for name, value in record.items() if not isinstance(value, Mapping)]
    found: list[tuple[str, Fields, list[tuple[str, list[str], list[list[str]]]]]] = []
    for name, value in record.items():
        if isinstance(value, Mapping):
            tables = [
                (field, *_grid(items)) for field, items in value.items() if isinstance(items, list) and _objects(items)
            ]
            found.append((name, [pair for pair in _flat(value, "") if pair is not None], tables))
    return [*found, ("record", alone, [])]


def _flat(value: Mapping[str, Any], place: str) -> Iterator[tuple[str, str]]:
    for name, item in value.items():
        path = f"{place}{name}"
        if _is_estimate(item):
            yield path, _text(item)
        elif isinstance(item, Mapping) and item:
            yield from _flat(item, f"{path}.")
        elif not (isinstance(item, list) and _objects(item)):
            yield path, _text(item)


def _objects(items: Sequence[Any]) -> bool:
    return bool(items) and all(isinstance(item, Mapping) for item in items)


def _grid(items: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    headers = list(dict.fromkeys(name for item in items for name in item))
    return headers, [[_text(item.get(name)) for name in headers] for item in items]


def _is_estimate(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) in ({"value", "low", "high"}, {"median", "low", "high"})


def _text(value: Any) -> str:
    if _is_estimate(value):
        middle = value.get("value", value.get("median"))
        return f"{_text(middle)} ({_text(value['low'])} to {_text(value['high'])})"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "none"
    return json.dumps(value, ensure_ascii=False)
