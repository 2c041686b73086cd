"""Checking what others hand in: honest records pass, each lie is named, and nothing of it is ever run."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import stat
import zipfile

import numpy as np
import pytest
from submission_samples import OWN_SOURCE, changed, rezipped, write_cell

from suite import cli
from suite.foreign_arrays import ArraysError, read_arrays
from suite.foreign_source import SourceError, read_source
from suite.record import AttackScores, LatencySamples
from suite.records import read_record, read_scores, write_record
from suite.registry import REGISTRY, Kind

SHADOW = "vgg7-digits-full_tee-shadow-emulated"
LATENCY = "vgg7-digits-full_tee-latency-emulated"
KNOCKOFF = "vgg7-digits-full_tee-knockoff-emulated"


@pytest.fixture
def store(submitted_store):
    return submitted_store


@pytest.fixture
def results(submitted, tmp_path):
    return shutil.copytree(submitted / "honest", tmp_path / "results")


@pytest.fixture
def own(submitted, tmp_path):
    return shutil.copytree(submitted / "own", tmp_path / "own")


@pytest.fixture(autouse=True)
def _one_cache(monkeypatch, store):
    monkeypatch.setattr("suite.submit_commands.Store", lambda: store)


def submit(*arguments, capsys):
    status = cli.main(("submit", *map(str, arguments)))
    said = capsys.readouterr()
    return status, said.out + said.err


def records(folder):
    return sorted(folder.glob("smoke/*.json"))


def bundle(folder, target, *options):
    assert cli.main(("submit", "pack", *map(str, records(folder)), "-o", str(target), *map(str, options))) == 0
    return target


def test_honest_records_are_accepted(results, capsys):
    status, said = submit("check", *records(results), capsys=capsys)
    assert status == 0, said
    assert "accepted (7 records, closed division)" in said


def test_a_bundle_is_the_same_bytes_each_time_and_is_accepted(own, tmp_path, capsys):
    plugin = own / "first_layers.py"
    first = bundle(own, tmp_path / "a.zip", "--plugin", plugin)
    second = bundle(own, tmp_path / "b.zip", "--plugin", plugin)
    assert first.read_bytes() == second.read_bytes()
    status, said = submit("check", first, capsys=capsys)
    assert status == 0, said


def test_cells_are_packed_by_pattern_and_unknown_ones_are_named(results, tmp_path, capsys):
    target = tmp_path / "x.zip"
    assert submit("pack", "*-full_tee-*", "--results", results, "-o", target, capsys=capsys)[0] == 0
    with zipfile.ZipFile(target) as archive:
        assert sum(name.endswith(".json") for name in archive.namelist()) == 5  # four records and the manifest
    status, said = submit("pack", "alexnet-*", "--results", results, "-o", target, capsys=capsys)
    assert status == 1
    assert "no record 'alexnet-*'" in said


def _set(path, value):
    *way, last = path.split(".")

    def edit(record):
        for step in way:
            record = record[int(step) if step.isdigit() else step]
        record[last] = value(record[last]) if callable(value) else value

    return edit


LIES = {
    "attack.metrics.auc.value": (SHADOW, lambda v: float(np.nextafter(v, 2)), "attack.auc.value"),
    "attack.metrics.tpr_at_fpr_1e2.high": (SHADOW, 0.999, "attack.tpr_at_fpr_1e2.high"),
    "attack.threshold": (SHADOW, 0.0, "attack.balanced_accuracy"),
    "attack.n_shadows": (SHADOW, 16, "attack.n_shadows"),
    "latency.ratio.value": (LATENCY, 1.01, "latency.ratio.value"),
    "latency.protected_us.median": (LATENCY, 1.0, "latency.protected_us.median"),
    "extraction.points.1.fidelity.value": (KNOCKOFF, 0.1, "extraction.points[1].fidelity.value"),
    "extraction.n_transferred": (KNOCKOFF, 7, "extraction.n_transferred"),
    "utility.accuracy_frac": (SHADOW, 0.9001, "utility.accuracy_frac"),
    "victim.epochs": (SHADOW, 300, "victim.epochs"),
    "victim.parameters": (SHADOW, 12, "victim.parameters"),
    "victim.recipe.learning_rate": (SHADOW, 9.0, "victim.recipe"),
    "task.n_members": (SHADOW, 299, "task.n_members"),
    "task.n_auxiliary": (SHADOW, 9000, "task.n_auxiliary"),
    "task.splits_fingerprint": (SHADOW, "5" * 64, "task.splits_fingerprint"),
    "task.dataset_fingerprint": (SHADOW, "d" * 64, "task.dataset_fingerprint"),
    "threat.policy": (SHADOW, "probs", "threat.policy"),
    "threat.shows": (SHADOW, ["output", "weights"], "threat.shows"),
    "cost.tee_macs": (LATENCY, 5, "cost.tee_macs"),
    "cost.tee_planned_bytes": (LATENCY, 5, "cost.tee_planned_bytes"),
    "cost.tee_peak_bytes": (LATENCY, 2**30, "cost.tee_peak_bytes"),
    "parity.max_rel_error": (LATENCY, 0.5, "parity"),
    "provenance.code.victim": (SHADOW, "1" * 64, "provenance.code.victim"),
    "provenance.code.attack": (SHADOW, "1" * 64, "provenance.code.attack"),
    "cell.board": (SHADOW, "qemu", "cell.id"),
    "cell.measure_spec": (SHADOW, "shadow[model=vgg11]", "cell.measure"),
    "scores.sha256": (SHADOW, "0" * 64, "scores.sha256"),
    "scores.file": (SHADOW, "../../../etc/passwd", "scores.file"),
}


@pytest.mark.parametrize("path", LIES)
def test_a_lie_is_refused_and_named(results, capsys, path):
    cell, value, field = LIES[path]
    changed(results / "smoke" / f"{cell}.json", _set(path, value))
    status, said = submit("check", *records(results), "--all", capsys=capsys)
    assert status == 1
    assert f"{cell}.json: {field}" in said, said


def test_a_record_that_is_not_the_text_of_the_suite_is_refused(results, capsys):
    path = results / "smoke" / f"{SHADOW}.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7,\n    "seed": 0'))  # a reader sees the first
    status, said = submit("check", path, capsys=capsys)
    assert status == 1
    assert "not the text that this suite writes" in said


def test_members_that_are_none_are_found_by_splitting_again(results, capsys):
    """Scores, metrics and hashes all fit one another; only the data set tells."""
    record = read_record(results / "smoke" / f"{SHADOW}.json")
    scores = read_scores(results, record)
    truth = scores.is_member.copy()
    truth[[np.flatnonzero(truth)[0], np.flatnonzero(~truth)[0]]] = False, True
    from suite.metrics import membership_metrics

    metrics = membership_metrics(scores.scores, truth, record.attack.threshold)
    record = dataclasses.replace(record, attack=dataclasses.replace(record.attack, metrics=metrics))
    write_record(results, record, AttackScores(scores.scores, truth, scores.candidates))
    status, said = submit("check", results / "smoke" / f"{SHADOW}.json", capsys=capsys)
    assert status == 1
    assert "is_member: not what seed 0 of digits gives" in said


def test_seeds_have_no_gap(tmp_path, store, capsys):
    third = write_cell(tmp_path, store, "full_tee", "shadow", seed=2)
    write_cell(tmp_path, store, "full_tee", "shadow", seed=0)
    status, said = submit("check", third, capsys=capsys)
    assert status == 1
    assert "seed 1 is missing" in said
    write_cell(tmp_path, store, "full_tee", "shadow", seed=1)
    status, said = submit("check", third, capsys=capsys)  # the others lie beside it
    assert status == 0, said


def test_a_new_defense_meets_all_attacks(own, capsys):
    plugin = ("--plugin", own / "first_layers.py")
    status, said = submit("check", *records(own), *plugin, capsys=capsys)
    assert status == 0, said
    (own / "smoke/vgg7-digits-first_layers_k1-lira-emulated.json").unlink()
    status, said = submit("check", *records(own), *plugin, capsys=capsys)
    assert status == 1
    assert "cells: first_layers_k1 lacks cells of lira;" in said


def test_the_source_of_a_new_plugin_is_there_and_the_right_one(own, tmp_path, capsys):
    status, said = submit("check", *records(own), capsys=capsys)
    assert status == 1
    assert "the source of defense 'first_layers' is missing" in said
    other = tmp_path / "first_layers.py"
    other.write_text(OWN_SOURCE.replace("layers[self.k]", "layers[0]"))
    status, said = submit("check", *records(own), "--plugin", other, capsys=capsys)
    assert status == 1
    assert "is not the source of defense 'first_layers' that the record was made with" in said


def test_a_plugin_that_is_handed_in_is_not_run(own, tmp_path, capsys):
    trace = tmp_path / "was_run"
    source = OWN_SOURCE + f"\nopen({str(trace)!r}, 'w').close()\n"
    (own / "first_layers.py").write_text(source)
    import hashlib

    for path in records(own):
        changed(path, _set("provenance.code.defense", hashlib.sha256(source.encode()).hexdigest()))
    packed = bundle(own, tmp_path / "x.zip", "--plugin", own / "first_layers.py")
    status, said = submit("check", packed, capsys=capsys)
    assert status == 0, said
    assert "to be looked at by a reviewer: plugins/first_layers.py: line 16: calls open" in said
    assert not trace.exists()
    assert "first_layers" not in {plugin.name for plugin in REGISTRY.all(Kind.DEFENSE)}


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("from .beside import x\n" + OWN_SOURCE, "a relative import"),
        ("from defenses.darknetz import Darknetz\n" + OWN_SOURCE, "never on each other"),
        ("import tensorflow\n" + OWN_SOURCE, "which Leakboard does not install"),
        (OWN_SOURCE.replace("2020", ""), "must cite its source"),
    ],
)
def test_what_a_plugin_may_not(source, problem):
    assert any(problem in found for found in read_source("x.py", source.encode()).problems)


@pytest.mark.parametrize("source", [b"def f(:", b"x = 1", b"\0", b"(" * 5000, b"-" * 100_000 + b"1", b"\xff\xfe"])
def test_what_is_no_plugin(source):
    with pytest.raises(SourceError):
        read_source("x.py", source)


def test_open_submissions_declare_what_differs(results, tmp_path, capsys):
    changed(results / "smoke" / f"{LATENCY}.json", _set("victim.epochs", 300))
    path = results / "smoke" / f"{LATENCY}.json"
    status, said = submit("check", path, "--division", "open", capsys=capsys)
    assert status == 1
    assert "an open submission that declares nothing" in said
    status, said = submit("check", path, "--division", "open", "--declare", "300 epochs", capsys=capsys)
    assert status == 0
    assert "not as in the closed division" in said
    assert "victim.epochs: is 300" in said


# ---- hostile files


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def raw_npz(header, n_bytes=8, **members):
    buffer = io.BytesIO()
    text = header.encode().ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(n_bytes)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("scores", "is_member", "candidates"):
            archive.writestr(f"{name}.npy", array)
    return buffer.getvalue()


GOOD = {"scores": np.zeros(2), "is_member": np.array([True, False]), "candidates": np.arange(2)}
HUGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (npz(**{**GOOD, "scores": np.array([{}, {}], dtype=object)}), "no intact .npz|dimensions"),
        (npz(**GOOD, more=np.zeros(1)), "nothing else"),
        (npz(**{**GOOD, "scores": np.zeros(2, np.float32)}), "not <f8"),
        (npz(**{**GOOD, "scores": np.zeros((2, 2))}), "of 2 dimensions"),
        (npz(**{**GOOD, "scores": np.zeros(3)}), "of one length"),
        (raw_npz(HUGE), "holds other than"),
        (raw_npz("{'descr': __import__('os').system('true')}"), "no intact .npz"),
        (raw_npz(HUGE, n_bytes=40 * 2**20), "bytes unpacked"),
        (npz(**GOOD)[:-30], "no intact .npz"),
        (b"", "no intact .npz"),
    ],
)
def test_arrays_of_strangers(data, why):
    with pytest.raises(ArraysError, match=why):
        read_arrays(data, AttackScores)


def test_arrays_of_the_suite_are_read_as_they_are():
    found = read_arrays(npz(**GOOD), AttackScores)
    assert all(np.array_equal(getattr(found, name), array) for name, array in GOOD.items())
    empty = np.zeros(0, np.int64)
    names = ("vanilla_ns", "protected_ns", "invoke_ns", "noop_ns", "session")
    assert len(read_arrays(npz(**dict.fromkeys(names, empty)), LatencySamples).noop_ns) == 0


def zip_with(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in entries:
            archive.writestr(entry, data)
    return path


def link():
    info = zipfile.ZipInfo("plugins/x.py")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([("../evil.json", "{}")], "no name that a bundle has"),
        ([("/etc/passwd", "")], "no name that a bundle has"),
        ([("records/quick/../../x.json", "{}")], "no name that a bundle has"),
        ([("plugins\\x.py", "")], "no name that a bundle has"),
        ([(link(), "/etc/passwd")], "no plain file"),
        ([("manifest.json", "{}"), ("manifest.json", "{}")], "stands in it twice"),
        ([("plugins/x.py", "#" * 300_000)], "at most 262,144 are taken"),
        ([("records/quick/scores/x.npz", bytes(9 * 2**20))], "at most 8,388,608 are taken"),
        ([("plugins/x.py", "")], "manifest: is missing"),
        ([("manifest.json", "[" * 100_000)], "manifest: is no JSON"),
        ([("manifest.json", "{}")], "must have format"),
        ([("manifest.json", '{"format": 2, "division": "closed", "declared": "", "files": {}}')], "2 is not 1"),
        ([("manifest.json", '{"format": 1, "division": "closed", "declared": "", "files": {}}')], "there are none"),
    ],
)
def test_bundles_of_strangers(tmp_path, capsys, entries, why):
    status, said = submit("check", zip_with(tmp_path / "x.zip", *entries), capsys=capsys)
    assert status == 1
    assert why in said


def test_a_bundle_is_what_its_manifest_says(results, tmp_path, capsys):
    packed = bundle(results, tmp_path / "x.zip")
    with zipfile.ZipFile(packed) as archive:
        files = [(name, archive.read(name)) for name in archive.namelist()]
    touched = [(n, d.replace(b"vgg7", b"vgg8", 1) if n.endswith(f"{SHADOW}.json") else d) for n, d in files]
    status, said = submit("check", zip_with(tmp_path / "y.zip", *touched), "--all", capsys=capsys)
    assert status == 1
    assert "SHA-256: is not the one in the manifest" in said
    status, said = submit("check", zip_with(tmp_path / "z.zip", *files[:-1]), capsys=capsys)
    assert status == 1
    assert "stands in the manifest, but not in the bundle" in said


def test_what_a_stranger_writes_gives_no_orders_to_a_terminal(results, tmp_path, capsys):
    packed = bundle(results, tmp_path / "x.zip")

    def edit(files):
        (name,) = (name for name in files if name.endswith(f"{SHADOW}.json"))
        record = json.loads(files[name])
        record["threat"]["policy"] = "\x1b[2J\n::error::x\ud800"
        files[name] = json.dumps(record, indent=2).encode()

    status, said = submit("check", rezipped(packed, tmp_path / "y.zip", edit), capsys=capsys)
    assert status == 1
    assert "\x1b" not in said
    assert "\n::error" not in said


def test_files_that_are_not_there(tmp_path, capsys):
    status, said = submit("check", tmp_path / "none.zip", tmp_path / "smoke" / "none.json", capsys=capsys)
    assert status == 1
    assert said.count("cannot be read: No such file") == 2
