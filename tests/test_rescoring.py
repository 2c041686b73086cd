"""Metrics anew from raw scores: bit for bit what records say, or told; and metrics that no record has."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest
from record_samples import attack_sample, latency_sample

from suite import cli
from suite.estimate import Estimate
from suite.metrics import auc, membership_metrics, tpr_at_fpr
from suite.records import write_record
from suite.registry import PluginError
from suite.rescoring import METRICS, advantage, differences, find_metric, further, resampled


@pytest.fixture
def results(tmp_path):
    """Records as a run leaves them: two attacks, two seeds, and a latency."""
    folder = tmp_path / "results"
    for seed in (0, 1):
        for attack in ("shadow", "loss_threshold"):
            record, scores = attack_sample("full_tee", attack, policy="probs", seed=seed)
            found = membership_metrics(scores.scores, scores.is_member, record.attack.threshold, seed=seed)
            attacked = dataclasses.replace(record.attack, metrics=found)
            write_record(folder, dataclasses.replace(record, attack=attacked), scores)
    write_record(folder, *latency_sample("full_tee"))
    return folder


def run(*arguments, capsys):
    status = cli.main(("rescore", *map(str, arguments)))
    return status, capsys.readouterr()


def test_untouched_records_are_what_their_scores_give(results, capsys):
    status, said = run(results, capsys=capsys)
    assert status == 0
    assert "5 of 5 records are, to the last bit" in said.out


def test_a_figure_that_was_touched_is_named(results, capsys):
    path = results / "quick" / "alexnet-cifar10-full_tee-shadow-emulated.json"
    record, _ = attack_sample("full_tee", "shadow", policy="probs")
    value = repr(record.attack.metrics.auc.value)
    nudged = repr(float(np.nextafter(record.attack.metrics.auc.value, 2)))
    text = path.read_text()
    assert value in text
    path.write_text(text.replace(value, nudged, 1))
    status, said = run(results, capsys=capsys)
    assert status == 1
    assert "4 of 5" in said.out
    assert f"attack.auc.value is {nudged} in the record, its raw scores give {value}" in said.out


def test_scores_that_are_gone_or_changed_are_an_error(results, capsys):
    (results / "quick" / "scores" / "alexnet-cifar10-full_tee-latency-emulated.npz").write_bytes(b"")
    status, said = run(results, capsys=capsys)
    assert status == 1
    assert "SHA-256 differs" in said.err
    assert cli.main(("rescore", str(results / "none"))) == 1


def test_latency_is_recomputed_too():
    record, samples = latency_sample("full_tee")
    assert differences(record, samples) == []
    slower = dataclasses.replace(samples, protected_ns=samples.protected_ns * 2)
    fields = {one.field for one in differences(record, slower)}
    assert {"latency.ratio.value", "latency.protected_us.median"} <= fields
    assert "latency.vanilla_us.median" not in fields


def test_metrics_besides_come_as_columns(results, tmp_path, capsys):
    own = tmp_path / "own.py"
    own.write_text(
        "from suite.estimate import Estimate\n"
        "def share(scores, is_member):\n"
        "    return Estimate(float((scores > 0).mean()), 0.0, 1.0)\n"
    )
    out = tmp_path / "more.csv"
    options = ("--metric", "advantage", "--metric", "tpr_at_fpr_1e4", "--metric", f"{own}:share", "-o", out)
    status, said = run(results, *options, capsys=capsys)
    assert status == 0
    assert "advantage" in said.out
    lines = list(csv.DictReader(out.open()))
    assert len(lines) == 4  # latency has no scores of candidates
    assert {line["seed"] for line in lines} == {"0", "1"}
    assert {line["tpr_at_fpr_1e4"] for line in lines} == {""}  # 500 non-members cannot show it
    _, scores = attack_sample("full_tee", "shadow", policy="probs", seed=0)
    (line,) = (line for line in lines if line["seed"] == "0" and line["measure"] == "shadow")
    assert float(line["share"]) == (scores.scores > 0).mean()
    assert float(line["advantage_low"]) <= float(line["advantage"]) <= float(line["advantage_high"])


def test_metrics_that_do_not_exist_are_refused(tmp_path):
    for text, word in (("advantag", "did you mean advantage"), ("suite.metrics:aux", "no function 'aux'")):
        with pytest.raises(PluginError, match=word):
            find_metric(text)
    with pytest.raises(PluginError, match="does not import"):
        find_metric(f"{tmp_path / 'none.py'}:f")
    record, scores = attack_sample()
    with pytest.raises(PluginError, match="gave float"):
        further(record, scores, [("mean", lambda s, m: 0.5)])
    assert find_metric("suite.metrics:auc") == ("auc", auc)


def test_advantage_is_the_distance_from_the_diagonal():
    is_member = np.repeat([True, False], 200)
    assert advantage(is_member.astype(float), is_member).value == 1.0
    is_member = np.repeat([True, False], 1000)
    guess = np.random.default_rng(0).normal(size=2000)
    assert advantage(guess, is_member).value < 0.1
    shifted = advantage(guess + is_member, is_member)
    assert 0.3 < shifted.low < shifted.value < shifted.high < 0.5  # normal scores, shift 1: 0.383


def test_sure_non_members_are_sure_members_of_the_mirrored_scores():
    is_member = np.repeat([True, False], 200)
    scores = np.random.default_rng(1).normal(size=400) + is_member
    found = METRICS["tnr_at_fnr_1e2"](scores, is_member)
    assert isinstance(found, Estimate)
    assert found == tpr_at_fpr(-scores, ~is_member, 1e-2)
    assert METRICS["tnr_at_fnr_1e3"](scores, is_member) is None


def test_bootstrap_samples_keep_the_balance():
    is_member = np.repeat([True, False], 50)
    for at in resampled(is_member, n=5):
        assert is_member[at].sum() == 50
