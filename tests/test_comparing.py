"""Defenses compared on the same candidates, the worst of several attackers, ROC curves, and what is not printed."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
from record_samples import attack_sample

from suite import cli, render
from suite.comparing import all_pairs, compare, places, sides
from suite.estimate import Estimate
from suite.leaderboard import leaderboard
from suite.metrics import auc, membership_metrics, paired_excess
from suite.record import RecordError
from suite.records import AttackScores, write_record
from suite.roc_plot import as_csv, curve
from suite.spread import spread
from suite.worst_case import cross_fitted, worst_cases


def made(*samples):
    """Records and a way to their scores."""
    held = {record.cell.id: (record, scores) for record, scores in samples}
    return [record for record, _ in held.values()], lambda record: held[record.cell.id][1]


def three_defenses(n=500, seeds=(0, 1)):
    return made(
        *(
            attack_sample(defense, attack, shift * factor, policy="probs", seed=seed, n=n)
            for seed in seeds
            for defense, shift in (("vanilla", 1.2), ("darknetz_k2", 0.8), ("full_tee", 0.8))
            for attack, factor in (("shadow", 1.0), ("loss_threshold", 0.5))
        )
    )


# ---- differences


def test_defenses_are_compared_by_their_best_attacks_on_the_same_candidates():
    records, scores_of = three_defenses(seeds=(0,))
    ((_, mine),) = places(records).items()
    found = {side.defense: side for side in sides(mine, "auc")}
    assert {side.attack for side in found.values()} == {"shadow"}
    one = compare(found["vanilla"], found["full_tee"], "auc", scores_of)
    a, b = (scores_of(found[name].records[0]) for name in ("vanilla", "full_tee"))
    expected = paired_excess(a.scores, b.scores, a.is_member)  # in another order of the candidates
    assert dataclasses.astuple(one.difference) == pytest.approx(dataclasses.astuple(expected))
    assert one.difference.low > 0
    same = compare(found["darknetz_k2"], found["full_tee"], "auc", scores_of)
    assert same.difference.value == 0.0
    back = compare(found["full_tee"], found["vanilla"], "auc", scores_of)
    assert back.difference.value == pytest.approx(-one.difference.value)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "tpr_at_fpr_1e2"])
def test_other_metrics_are_paired_by_a_bootstrap(metric):
    records, scores_of = three_defenses()
    by_name = {side.defense: side for side in sides(records, metric)}
    for pair in all_pairs([by_name[name] for name in ("vanilla", "full_tee")], metric, scores_of):
        a, b = (
            [getattr(r.attack.metrics, metric).value for r in side.records.values()]
            for side in (pair.ours, pair.theirs)
        )
        assert pair.seeds == (0, 1)
        assert pair.difference.value == pytest.approx(np.mean(a) - np.mean(b))
        assert pair.difference.low < pair.difference.value < pair.difference.high
        # The candidates are the same, so the difference is better known than either figure.
        alone = sum(getattr(r.attack.metrics, metric).high - getattr(r.attack.metrics, metric).low
                    for r in pair.ours.records.values()) / 2  # fmt: skip
        if metric == "balanced_accuracy":
            assert pair.difference.high - pair.difference.low < 2 * alone


def test_a_difference_of_withheld_figures_is_withheld():
    records, scores_of = three_defenses(n=500)
    pairs = all_pairs(sides(records, "tpr_at_fpr_1e3"), "tpr_at_fpr_1e3", scores_of)
    assert {pair.difference for pair in pairs} == {None}
    assert all("500 non-members cannot show" in pair.reason for pair in pairs)


def test_defenses_without_common_seeds_or_candidates_are_not_compared():
    first, second = attack_sample("vanilla", seed=0), attack_sample("full_tee", seed=1)
    records, scores_of = made(first, second)
    a, b = sides(records, "auc")
    with pytest.raises(RecordError, match="no seed in common"):
        compare(a, b, "auc", scores_of)
    record, scores = attack_sample("full_tee", seed=0)
    moved = dataclasses.replace(scores, candidates=scores.candidates + 1)
    records, scores_of = made(first, (record, moved))
    with pytest.raises(RecordError, match="not scored on the same candidates"):
        compare(*sides(records, "auc"), "auc", scores_of)


# ---- the attacker who picks


def variant(seed_of_noise, shift, n=400):
    draw, is_member = np.random.default_rng(seed_of_noise), np.repeat([True, False], n)
    return AttackScores(draw.normal(size=2 * n) + shift * is_member, is_member, np.arange(2 * n))


def test_picking_among_useless_attacks_looks_like_success_unless_crossed():
    useless = {f"v{i}": variant(i, 0.0) for i in range(30)}
    picked = max(auc(one.scores, one.is_member).value for one in useless.values())
    crossed = cross_fitted(useless, 0)
    assert picked > 0.53
    assert crossed.low < 0.5 < crossed.high
    assert crossed.value < picked


def test_a_variant_that_is_really_best_stays_best_when_crossed():
    found = cross_fitted({"weak": variant(1, 0.3), "strong": variant(2, 1.5)}, 0)
    strong = variant(2, 1.5)
    assert found.value == pytest.approx(auc(strong.scores, strong.is_member).value, abs=0.01)
    with pytest.raises(RecordError, match="same candidates"):
        cross_fitted({"a": variant(1, 0.3), "b": variant(2, 0.3, n=300)}, 0)


def test_worst_cases_are_by_attack_over_its_variants():
    pairs = []
    for name, shift in (("shadow", 0.8), ("shadow_other", 1.2), ("loss_threshold", 2.0)):
        record, scores = attack_sample("full_tee", name, shift, policy="probs")
        spec = "shadow[model=other]" if name == "shadow_other" else name
        pairs.append((dataclasses.replace(record, cell=dataclasses.replace(record.cell, measure_spec=spec)), scores))
    (found,) = worst_cases(*made(*pairs))
    assert (found.family, found.variants, found.variant) == ("shadow", ("shadow", "shadow_other"), "shadow_other")
    record = pairs[1][0]
    assert found.picked == record.attack.metrics.auc


# ---- ROC


def test_a_curve_ends_where_the_non_members_end():
    record, scores = attack_sample("vanilla", shift=2.0, policy="probs", n=200)
    found = curve(record, scores)
    assert found.roc.fpr[0] == pytest.approx(1 / 200)
    assert (found.roc.fpr >= 1 / 200 - 1e-9).all()
    assert (np.diff(found.roc.fpr) >= 0).all()
    assert (np.diff(found.roc.tpr) >= 0).all()
    lines = list(csv.DictReader(io.StringIO(as_csv([found]))))
    assert float(lines[-1]["fpr"]) == float(lines[-1]["tpr"]) == 1.0
    at = next(line for line in lines if float(line["fpr"]) >= 0.05)
    said = scores.scores >= float(at["threshold"])
    assert said[~scores.is_member].mean() == pytest.approx(float(at["fpr"]))
    assert said[scores.is_member].mean() == pytest.approx(float(at["tpr"]))


# ---- several models


def test_spread_tells_models_from_candidates():
    same = [Estimate(0.7, 0.6, 0.8)] * 3
    assert spread("auc", same) == pytest.approx({"auc_models_sd": 0.0, "auc_samples_se": 0.1 / 1.959964})
    assert spread("auc", [Estimate(0.6, 0.6, 0.6), Estimate(0.8, 0.8, 0.8)]) == pytest.approx(
        {"auc_models_sd": 0.02**0.5, "auc_samples_se": 0.0}
    )
    assert set(spread("auc", same[:1])) == {"auc_samples_se"}
    assert spread("auc", [same[0], None]) == {}


def test_tables_of_several_seeds_show_the_spread():
    one, several = (leaderboard(*three_defenses(seeds=seeds)) for seeds in ((0,), (0, 1, 2)))
    assert "Spread over models" not in render.terminal(one)
    text = render.terminal(several)
    assert "Spread over models / over candidates" in text
    assert "more seeds say more" in text
    row = several.tables[0].attacks.set_index(["defense", "attack"]).loc[("vanilla", "shadow")]
    values = [r.attack.metrics.auc.value for r in three_defenses(seeds=(0, 1, 2))[0]
              if (r.cell.defense, r.cell.measure) == ("vanilla", "shadow")]  # fmt: skip
    assert row.auc_models_sd == pytest.approx(np.std(values, ddof=1))


# ---- what the data cannot show is printed nowhere


@pytest.mark.parametrize("n", [60, 99, 100, 999])
def test_a_rate_that_too_few_non_members_show_is_printed_in_no_format(n):
    board = leaderboard(*three_defenses(n=n, seeds=(0, 1)))
    (table,) = board.tables
    for name, rate in (("tpr_at_fpr_1e2", 0.01), ("tpr_at_fpr_1e3", 0.001)):
        shown = n >= 1 / rate
        for frame in (table.defenses, table.attacks):
            assert frame[name].notna().all() == shown
        for text in (render.csv(board), render.attacks_csv(board)):
            assert all(bool(line[name]) == shown for line in csv.DictReader(io.StringIO(text)))
        rows = json.loads(render.as_json(board))["tables"][0]
        assert all((row[name] is not None) == shown for key in ("defenses", "attacks") for row in rows[key])
    withheld = [name for name, rate in (("1 %", 0.01), ("0.1 %", 0.001)) if n < 1 / rate]
    for text in (render.terminal(board), render.markdown(board), render.latex(board)):
        for name in withheld:
            assert f"TPR at {name} FPR is withheld: {n} non-members" in " ".join(text.split())
    (head, rows) = _leak_grid(render.markdown(board))
    for column, rate in (("TPR at 1 % FPR", 0.01), ("TPR at 0.1 % FPR", 0.001)):
        assert all((row[head.index(column)] == "-") == (n < 1 / rate) for row in rows)


def _leak_grid(text):
    lines = text.partition("### Leak\n\n")[2].partition("\n\n")[0].splitlines()
    cut = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return cut[0], cut[2:]


# ---- the commands


@pytest.fixture
def results(tmp_path):
    records, scores_of = three_defenses(seeds=(0, 1))
    for record in records:
        scores = scores_of(record)
        found = membership_metrics(scores.scores, scores.is_member, record.attack.threshold, seed=record.cell.seed)
        whole = dataclasses.replace(record, attack=dataclasses.replace(record.attack, metrics=found))
        write_record(tmp_path / "results", whole, scores)
    return tmp_path / "results"


def test_compare_prints_pairs_and_writes_csv(results, tmp_path, capsys):
    out = tmp_path / "pairs.csv"
    assert cli.main(("compare", "--results", str(results), "-o", str(out))) == 0
    shown = capsys.readouterr().out
    assert "errs upwards" in shown
    lines = list(csv.DictReader(out.open()))
    assert [(line["first"], line["second"]) for line in lines] == [
        ("darknetz_k2", "full_tee"),
        ("darknetz_k2", "vanilla"),
        ("full_tee", "vanilla"),
    ]
    chosen = ("compare", "vanilla", "full_tee", "--results", str(results), "--attack", "loss_threshold")
    assert cli.main(chosen) == 0
    shown = capsys.readouterr().out
    assert "vanilla (loss_threshold)" in shown
    assert "darknetz" not in shown


def test_roc_writes_operating_points_and_a_figure(results, tmp_path, capsys):
    out, figure = tmp_path / "roc.csv", tmp_path / "roc.svg"
    assert cli.main(("roc", "vanilla", "--results", str(results), "-o", str(out), "--plot", str(figure))) == 0
    lines = list(csv.DictReader(out.open()))
    assert {(line["defense"], line["attack"]) for line in lines} == {("vanilla", "shadow")}
    assert {line["seed"] for line in lines} == {"0", "1"}
    assert "false-positive rate" in figure.read_text()
    assert cli.main(("roc", "full_tee", "--results", str(results))) == 0
    assert capsys.readouterr().out.startswith("victim,dataset")


def test_what_cannot_be_compared_is_one_line(results, capsys):
    for arguments, word in (
        (("compare", "vanila", "full_tee"), "did you mean vanilla"),
        (("compare", "--metric", "aux"), "did you mean auc"),
        (("compare", "--attack", "shado"), "did you mean shadow"),
        (("compare", "vanilla"), "two of the defenses"),
        (("roc", "nothing"), "no records of defense"),
    ):
        assert cli.main((*arguments, "--results", str(results))) == 1
        error = capsys.readouterr().err
        assert word in error
        assert error.count("\n") == 1
