from __future__ import annotations

import dataclasses
import json
import os
import re
import typing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_samples import attack_sample, latency_sample

from suite import records as r

ROOT = Path(__file__).resolve().parents[1]
RECORD, SCORES = attack_sample(n=60)
TIMED, SAMPLES = latency_sample()


few = settings(max_examples=60, deadline=None)


def paths_of(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Every field of a JSON object, outermost first, open mappings' own entries left out."""
    found = []
    if isinstance(value, dict) and path[-1:] not in {
        ("recipe",),
        ("code",),
        ("keys",),
        ("seconds",),
        ("withheld",),
    }:
        if path == ("provenance", "board"):
            return found
        for key, item in value.items():
            found += [(*path, key), *paths_of(item, (*path, key))]
    return found


def edited(record: r.Record, path: tuple[object, ...], change: typing.Callable[[dict, object], None]) -> str:
    value = json.loads(r.to_json(record))
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])
    return json.dumps(value)


FIELDS = paths_of(json.loads(r.to_json(RECORD)))


@pytest.mark.parametrize("record", [RECORD, TIMED], ids=["attack", "latency"])
def test_a_record_survives_json(record: r.Record) -> None:
    assert r.from_json(r.to_json(record)) == record


@few
@given(path=st.sampled_from(FIELDS))
def test_a_missing_field_is_named(path: tuple[str, ...]) -> None:
    text = edited(RECORD, path, lambda holder, key: holder.pop(key))
    with pytest.raises(r.RecordError, match=rf"^some\.json: {re.escape('.'.join(path))} is missing"):
        r.from_json(text, "some.json")


@few
@given(path=st.sampled_from(FIELDS), name=st.text("abcxyz_", min_size=1, max_size=6))
def test_an_unknown_field_is_named(path: tuple[str, ...], name: str) -> None:
    name = f"odd_{name}"
    text = edited(RECORD, path, lambda holder, _: holder.update({name: 1}))
    with pytest.raises(r.RecordError, match=rf"^some\.json: [a-z0-9_.]*{name} is not a field"):
        r.from_json(text, "some.json")


@few
@given(path=st.sampled_from(FIELDS), wrong=st.sampled_from([[[]], {"a": [1]}, True, "7"]))
def test_a_wrong_type_is_refused_by_name(path: tuple[str, ...], wrong: object) -> None:
    text = edited(RECORD, path, lambda holder, key: holder.update({key: wrong}))
    before = json.loads(r.to_json(RECORD))
    for key in path:
        before = before[key]
    if isinstance(before, str) and isinstance(wrong, str):
        return
    if path[-1] in {"recipe", "board"} and isinstance(wrong, dict) and path[-1] == "recipe":
        return
    if before is None and isinstance(wrong, str):
        return  # a nullable text
    with pytest.raises(r.RecordError) as caught:
        r.from_json(text, "some.json")
    assert str(caught.value).startswith("some.json: ")
    assert str(path[0]) in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    text = r.to_json(RECORD).replace('"accuracy_frac": 0.618', f'"accuracy_frac": {number}')
    with pytest.raises(r.RecordError, match="some.json"):
        r.from_json(text, "some.json")


def test_a_whole_number_will_do_for_a_fraction_but_not_the_other_way_round() -> None:
    text = r.to_json(RECORD).replace('"accuracy_frac": 0.618', '"accuracy_frac": 1')
    assert r.from_json(text).utility.accuracy_frac == 1.0
    with pytest.raises(r.RecordError, match="victim.epochs must be a whole number, not 2.5"):
        r.from_json(r.to_json(RECORD).replace('"epochs": 25', '"epochs": 2.5'))


def test_another_schema_is_refused_before_its_fields() -> None:
    with pytest.raises(r.RecordError, match="schema 4 is not 5"):
        r.from_json('{"schema": 4, "old": true}', "x.json")


def test_measure_and_result_must_agree() -> None:
    with pytest.raises(r.RecordError, match="'shadow' needs 'attack' set"):
        dataclasses.replace(RECORD, attack=None)
    with pytest.raises(r.RecordError, match="'latency' needs 'latency' set"):
        dataclasses.replace(TIMED, attack=RECORD.attack)


def test_a_withheld_metric_needs_its_reason() -> None:
    assert RECORD.attack is not None
    with pytest.raises(r.RecordError, match="auc"):
        dataclasses.replace(RECORD.attack.metrics, auc=None)
    assert "tpr_at_fpr_1e3" in RECORD.attack.metrics.withheld  # 60 non-members


@pytest.mark.parametrize(("record", "scores"), [(RECORD, SCORES), (TIMED, SAMPLES)], ids=["attack", "latency"])
def test_written_and_read_again(tmp_path: Path, record: r.Record, scores: r.Scores) -> None:
    written = r.write_record(tmp_path, record, scores)
    assert (tmp_path / "quick" / f"{record.cell.id}.json").is_file()
    assert r.read_records(tmp_path) == ([written], [])
    back = r.read_scores(tmp_path, written)
    for entry in dataclasses.fields(scores):
        before, after = getattr(scores, entry.name), getattr(back, entry.name)
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


def test_equal_scores_give_equal_files(tmp_path: Path) -> None:
    first = r.write_record(tmp_path / "a", RECORD, SCORES)
    again = r.write_record(tmp_path / "b", RECORD, dataclasses.replace(SCORES, scores=SCORES.scores.copy()))
    assert first == again


def test_damaged_files_are_named_and_the_others_read(tmp_path: Path) -> None:
    good = r.write_record(tmp_path, RECORD, SCORES)
    folder = tmp_path / "quick"
    (folder / "half.json").write_text(r.to_json(good)[:200], encoding="utf-8")
    (folder / "binary.json").write_bytes(b"\xff\xfe\x00")
    (folder / "renamed.json").write_text(r.to_json(good), encoding="utf-8")
    (folder / ".x.json.1.tmp").write_text("{", encoding="utf-8")
    found, problems = r.read_records(tmp_path)
    assert found == [good]
    assert [Path(line.split(": ")[0]).name for line in problems] == [
        "binary.json",
        "half.json",
        "renamed.json",
    ]
    assert all("\n" not in line for line in problems)


def test_a_folder_that_is_not_there_is_said() -> None:
    found, problems = r.read_records(Path("nowhere/at/all"))
    assert not found
    assert problems == ["nowhere/at/all: no such results folder"]


def test_changed_or_lost_scores_are_never_used(tmp_path: Path) -> None:
    written = r.write_record(tmp_path, RECORD, SCORES)
    other = dataclasses.replace(SCORES, scores=SCORES.scores + 1)
    r.write_record(tmp_path, RECORD, other)  # as if killed before the new record replaced the old one
    with pytest.raises(r.RecordError, match="SHA-256 differs.*run the cell again"):
        r.read_scores(tmp_path, written)
    assert written.scores is not None
    (tmp_path / "quick" / written.scores.file).unlink()
    with pytest.raises(r.RecordError, match=r"\.npz: cannot be read"):
        r.read_scores(tmp_path, written)


def test_scores_outside_the_folder_are_refused(tmp_path: Path) -> None:
    record = dataclasses.replace(RECORD, scores=r.ScoresFile("../../secret.npz", "0" * 64))
    with pytest.raises(r.RecordError, match="leads out of"):
        r.read_scores(tmp_path, record)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    cell = dataclasses.replace(RECORD.cell, id=name)
    with pytest.raises(r.RecordError, match="cannot be a file name"):
        r.write_record(tmp_path, dataclasses.replace(RECORD, cell=cell), SCORES)


def test_an_unwritable_folder_is_one_clear_line(tmp_path: Path) -> None:
    blocker = tmp_path / "results"
    blocker.write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(r.RecordError, match="cannot write .*--results") as caught:
        r.write_record(blocker, RECORD, SCORES)
    assert "\n" not in str(caught.value)


def test_a_failed_write_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    r.write_record(tmp_path, RECORD, SCORES)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(r.RecordError, match="No space left"):
        r.write_record(tmp_path, RECORD, dataclasses.replace(SCORES, scores=SCORES.scores * 2))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_record_of_wrong_types_is_not_written(tmp_path: Path) -> None:
    wrong = dataclasses.replace(RECORD, victim=dataclasses.replace(RECORD.victim, epochs="25"))  # type: ignore[arg-type]
    with pytest.raises(r.RecordError, match="victim.epochs must be a whole number"):
        r.write_record(tmp_path, wrong, SCORES)
    assert not list(tmp_path.rglob("*.*"))


@few
@given(data=st.data())
def test_any_cut_of_a_record_is_refused(data: st.DataObject) -> None:
    text = r.to_json(RECORD)
    cut = data.draw(st.integers(0, len(text) - 2))
    with pytest.raises(r.RecordError):
        r.from_json(text[:cut])


def test_every_field_is_documented() -> None:
    page = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
    sections = {m[1]: m[2] for m in re.finditer(r"^## `(\w+)`(.*?)(?=^## |\Z)", page, re.S | re.M)}

    def check(cls: type, text: str) -> None:
        for name, hint in typing.get_type_hints(cls).items():
            assert f"`{name}`" in text, f"{cls.__name__}.{name} is not in docs/records.md"
            for inner in (hint, *typing.get_args(hint)):
                if dataclasses.is_dataclass(inner) and inner is not r.Estimate:
                    check(inner, text)

    hints = typing.get_type_hints(r.Record)
    assert set(sections) == set(hints)
    for name, hint in hints.items():
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner):
                check(inner, sections[name])
    for arrays in (r.AttackScores, r.LatencySamples, r.ExposureSamples):
        for entry in dataclasses.fields(arrays):
            assert f"`{entry.name}`" in sections["scores"]
