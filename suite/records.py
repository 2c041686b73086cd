"""Records as files: ``<results>/<profile>/<cell id>.json``, with raw scores in ``scores/<cell id>.npz``."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import math
import os
import re
import types
import typing
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from suite.estimate import Estimate
from suite.record import (
    METRICS,
    SCHEMA,
    AttackInfo,
    AttackScores,
    CellInfo,
    CostInfo,
    EnergyInfo,
    ExposedLayer,
    ExposureInfo,
    ExposureSamples,
    ExtractionInfo,
    ExtractionPoint,
    LatencyInfo,
    LatencySamples,
    LearningInfo,
    MachineInfo,
    MedianInfo,
    MetricsInfo,
    ParityInfo,
    ProvenanceInfo,
    Record,
    RecordError,
    Scores,
    ScoresFile,
    StolenAnswers,
    TaskInfo,
    ThreatInfo,
    UtilityInfo,
    VictimInfo,
)

__all__ = [
    "AttackInfo", "AttackScores", "CellInfo", "CostInfo", "EnergyInfo", "Estimate", "ExposedLayer",
    "ExposureInfo", "ExposureSamples", "ExtractionInfo", "ExtractionPoint", "LatencyInfo", "LatencySamples",
    "LearningInfo", "METRICS", "MachineInfo", "MedianInfo", "MetricsInfo", "ParityInfo", "ProvenanceInfo",
    "Record", "RecordError", "SCHEMA", "SCORES", "Scores", "ScoresFile", "StolenAnswers", "TaskInfo", "ThreatInfo",
    "UtilityInfo", "VictimInfo", "from_json", "read_record", "read_records", "read_scores", "record_path",
    "to_json", "write_atomic", "write_record",
]  # fmt: skip

SCORES: Mapping[str, type[Scores]] = {
    "latency": LatencySamples, "attack": AttackScores, "extraction": StolenAnswers, "exposure": ExposureSamples
}  # fmt: skip
_hints = functools.cache(typing.get_type_hints)  # of few classes, and asked for with every object of every record
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+=-]*")


def to_json(record: Record) -> str:
    """The record as JSON text, fields in the order of the classes, ending in a newline.

    Raises:
        RecordError: a number is not finite, or a mapping holds what JSON cannot say.
    """
    try:
        return json.dumps(_encode(record), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise RecordError(f"record of cell {record.cell.id!r} cannot be written as JSON: {error}") from error


def from_json(text: str, source: str = "record") -> Record:
    """Read what ``to_json`` wrote. ``source`` is what error messages call it, usually the path.

    Raises:
        RecordError: not JSON, or a field is unknown, missing or of the wrong type; names source and field.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise RecordError(f"{source}: not a record: {error}") from error
    if isinstance(value, dict) and value.get("schema", SCHEMA) != SCHEMA:
        raise RecordError(f"{source}: schema {value['schema']!r} is not {SCHEMA}, the one this version reads")
    record = _decode(Record, value, source, "")
    assert isinstance(record, Record)
    return record


def record_path(results: Path, profile: str, cell_id: str) -> Path:
    """Where the record of a cell is, or would be.

    Raises:
        RecordError: profile or id cannot be a file name.
    """
    for what, name in (("profile", profile), ("cell id", cell_id)):
        if not _FILE_NAME.fullmatch(name):
            raise RecordError(f"{what} {name!r} cannot be a file name: use letters, digits and . _ @ + = -")
    return results / profile / f"{cell_id}.json"


def write_record(results: Path, record: Record, scores: Scores | None) -> Record:
    """Write the raw scores, then the record; return the record with ``scores`` pointing at the file.

    The record comes last, so a new record always has its scores; should the process die between the two, the
    SHA-256 in an older record tells that its scores are gone.

    Raises:
        RecordError: the folder cannot be written, or a field has not the type that ``from_json`` asks for.
    """
    path = record_path(results, record.cell.profile, record.cell.id)
    data = None if scores is None else _pack(scores)
    place = None
    if data is not None:
        place = ScoresFile(f"scores/{record.cell.id}.npz", hashlib.sha256(data).hexdigest())
    record = dataclasses.replace(record, scores=place)
    text = to_json(record)
    from_json(text, f"record of cell {record.cell.id!r}")
    if place is not None and data is not None:
        write_atomic(path.parent / place.file, data)
    write_atomic(path, text.encode())
    return record


def read_record(path: Path) -> Record:
    """Read one record and check that it lies where its cell belongs.

    Raises:
        RecordError: the file cannot be read, is damaged, or is the record of another cell or profile.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    record = from_json(text, str(path))
    if (record.cell.id, record.cell.profile) != (path.stem, path.parent.name):
        raise RecordError(
            f"{path}: cell.id {record.cell.id!r} of profile {record.cell.profile!r} belongs into"
            f" {record.cell.profile}/{record.cell.id}.json"
        )
    return record


def read_records(results: Path) -> tuple[list[Record], list[str]]:
    """Every record under ``results``, by profile and cell id, and one line for each damaged file."""
    if not results.is_dir():
        return [], [f"{results}: no such results folder"]
    records: list[Record] = []
    problems: list[str] = []
    for path in sorted(results.glob("*/*.json")):
        if path.name.startswith("."):
            continue  # written aside by a process that was killed, or is still at it
        try:
            records.append(read_record(path))
        except RecordError as error:
            problems.append(str(error))
    return records, problems


def read_scores(results: Path, record: Record) -> Scores:
    """The raw scores of a record.

    Raises:
        RecordError: there are none, or the file is missing, changed since the record was written, or does not
            hold the arrays that the measure asks for.
    """
    folder = record_path(results, record.cell.profile, record.cell.id).parent
    if record.scores is None:
        raise RecordError(f"cell {record.cell.id!r} has a record without raw scores")
    path = folder / record.scores.file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RecordError(f"{folder / record.cell.id}.json: scores.file {record.scores.file!r} leads out of the folder")
    way_out = f"; delete {record.cell.id}.json and run the cell again"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}{way_out}") from error
    if hashlib.sha256(data).hexdigest() != record.scores.sha256:
        raise RecordError(f"{path}: not the scores that the record was made of (SHA-256 differs){way_out}")
    kind: type[Scores] = SCORES[record.outcome]
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return kind(**{name: arrays[name] for name in arrays.files})
    except (ValueError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise RecordError(f"{path}: not the arrays of {kind.__name__}: {error}{way_out}") from error


def write_atomic(path: Path, data: bytes) -> None:
    """Make ``path`` hold ``data``: write aside, then rename. A reader sees the old file or the new one.

    Raises:
        RecordError: the folder cannot be made or written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_bytes(data)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise RecordError(
            f"cannot write {path}: {error.strerror}; choose a folder you may write with --results"
        ) from error


def _encode(value: object) -> object:
    """``value`` in JSON's terms: data classes and mappings become objects, NumPy scalars plain numbers."""
    if dataclasses.is_dataclass(value):
        return {f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_encode(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _pack(scores: Scores) -> bytes:
    """The arrays as a compressed .npz; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    arrays = {f.name: getattr(scores, f.name) for f in dataclasses.fields(scores)}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number JSON knows")


def _decode(kind: Any, value: object, source: str, place: str) -> Any:
    """``value`` as ``kind``, checked all the way down; ``place`` is the dotted path so far."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _decode_dataclass(kind, value, source, place)
    if origin in (types.UnionType, typing.Union):
        return _decode_union(args, value, source, place)
    if origin is typing.Literal and value in args and isinstance(value, str):
        return value
    if origin is tuple and isinstance(value, list):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(kinds) == len(value):
            pairs = enumerate(zip(kinds, value, strict=True))
            return tuple(_decode(k, v, source, f"{place}[{i}]") for i, (k, v) in pairs)
    if origin is Mapping and isinstance(value, dict):
        return {key: _decode(args[1], item, source, f"{place}.{key}") for key, item in value.items()}
    if kind is object:
        return value
    if kind is float and type(value) in (int, float):
        number = float(typing.cast(float, value))
        if math.isfinite(number):
            return number
    if kind in (int, str, bool) and type(value) is kind:
        return value
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
    raise RecordError(f"{source}: {place or 'the record'} must be {_name(kind)}, not {shown}")


def _decode_dataclass(kind: type[Any], value: object, source: str, place: str) -> Any:
    prefix = f"{place}." if place else ""
    if not isinstance(value, dict):
        raise RecordError(f"{source}: {place or 'the record'} must be an object, not {type(value).__name__}")
    hints: Mapping[str, Any] = _hints(kind)  # type: ignore[arg-type]
    for name in hints:
        if name not in value:
            raise RecordError(f"{source}: {prefix}{name} is missing")
    for name in value:
        if name not in hints:
            raise RecordError(f"{source}: {prefix}{name} is not a field of a record (schema {SCHEMA})")
    fields = {name: _decode(hint, value[name], source, f"{prefix}{name}") for name, hint in hints.items()}
    try:
        return kind(**fields)
    except RecordError as error:
        raise RecordError(f"{source}: {place or 'the record'}: {error}") from error


def _decode_union(args: tuple[Any, ...], value: object, source: str, place: str) -> Any:
    if value is None and type(None) in args:
        return None
    rest = [arg for arg in args if arg is not type(None)]
    if len(rest) == 1:
        return _decode(rest[0], value, source, place)
    for arg in rest:
        if type(value) is arg:
            return value
    raise RecordError(f"{source}: {place} must be {' or '.join(_name(a) for a in rest)}, not {value!r}")


def _name(kind: Any) -> str:
    words = {str: "text", int: "a whole number", float: "a finite number", bool: "true or false"}
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " or ".join(repr(a) for a in args)
    if origin is tuple:
        return "a list" if args[-1] is Ellipsis else f"a list of {len(args)}"
    return words.get(kind) or ("an object" if origin is Mapping else str(kind))
