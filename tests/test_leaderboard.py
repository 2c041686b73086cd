from __future__ import annotations

import csv
import dataclasses
import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from record_samples import attack_sample, latency_sample

from suite import records as r
from suite import render
from suite.leaderboard import Leaderboard, leaderboard
from suite.metrics import paired_excess
from suite.published import published

DEFENSES = {
    "full_tee": ("top1", 0.8, 1.8),
    "darknetz_k2": ("top1", 1.2, 1.06),
    "darknetz_k4": ("top1", 1.6, 1.2),
    "full_tee_probs": ("probs", 0.9, 1.85),
    "vanilla": ("probs", 0.7, 1.0),  # leaks less than the others here, and comes first all the same
}
ATTACKS = {"loss_threshold": 1.0, "shadow": 1.5}
Cells = dict[str, tuple[r.Record, r.Scores]]


def made(*seeds: int, **where: str) -> Cells:
    pairs: list[tuple[r.Record, r.Scores]] = []
    for seed in seeds:
        for defense, (policy, shift, ratio) in DEFENSES.items():
            for attack, factor in ATTACKS.items():
                force = shift * factor + 0.1 * seed
                pairs.append(attack_sample(defense, attack, force, policy=policy, seed=seed, **where))
            pairs.append(latency_sample(defense, ratio, policy=policy, seed=seed, **where))
    return {record.cell.id: (record, scores) for record, scores in pairs}


def board_of(cells: Cells, **options: object) -> Leaderboard:
    records = [record for record, _ in cells.values()]
    return leaderboard(records, lambda record: cells[record.cell.id][1], **options)  # type: ignore[arg-type]


ONE = made(0)


def row_of(board: Leaderboard, defense: str) -> dict[str, object]:
    frame = board.tables[0].defenses
    return frame[frame.defense == defense].iloc[0].to_dict()


def test_bounds_stand_first_and_last_and_the_rest_by_auc() -> None:
    found = list(board_of(ONE).tables[0].defenses.defense)
    assert found == ["vanilla", "darknetz_k4", "darknetz_k2", "full_tee_probs", "full_tee"]


def test_a_row_is_the_best_attack_as_its_record_has_it() -> None:
    row = row_of(board_of(ONE), "darknetz_k2")
    record, _ = ONE["alexnet-cifar10-darknetz_k2-shadow-emulated"]
    assert record.attack is not None
    assert row["best_attack"] == "shadow"
    for name in ("auc", "balanced_accuracy", "tpr_at_fpr_1e2"):
        kept = getattr(record.attack.metrics, name)
        assert (row[name], row[f"{name}_low"], row[f"{name}_high"]) == (kept.value, kept.low, kept.high)
    assert np.isnan(row["tpr_at_fpr_1e3"])  # 500 non-members
    timed, _ = ONE["alexnet-cifar10-darknetz_k2-latency-emulated"]
    assert timed.latency is not None
    assert row["latency_ratio"] == timed.latency.ratio.value
    assert row["tee_peak_bytes"] == record.cost.tee_peak_bytes


def test_excess_is_paired_with_the_black_box_of_the_same_answers() -> None:
    board = board_of(ONE)
    for defense, box in (("darknetz_k4", "full_tee"), ("vanilla", "full_tee_probs")):
        ours, theirs = (ONE[f"alexnet-cifar10-{d}-shadow-emulated"][1] for d in (defense, box))
        assert isinstance(ours, r.AttackScores)
        assert isinstance(theirs, r.AttackScores)
        exact = paired_excess(ours.scores, theirs.scores, ours.is_member)
        row = row_of(board, defense)
        assert row["excess_auc"] == pytest.approx(exact.value)
        assert row["excess_auc_low"] == pytest.approx(exact.low)
        assert row["excess_over"] == f"{box}/shadow"
    assert np.isnan(row_of(board, "full_tee")["excess_auc"])


def test_pairing_follows_the_candidates_not_their_order() -> None:
    cells = dict(ONE)
    name = "alexnet-cifar10-darknetz_k2-shadow-emulated"
    record, scores = cells[name]
    assert isinstance(scores, r.AttackScores)
    order = np.random.default_rng(0).permutation(len(scores.scores))
    mixed = r.AttackScores(scores.scores[order], scores.is_member[order], scores.candidates[order])
    cells[name] = (record, mixed)
    before, after = (row_of(board_of(c), "darknetz_k2") for c in (ONE, cells))
    assert after["excess_auc"] == pytest.approx(before["excess_auc"])
    assert after["excess_auc_high"] == pytest.approx(before["excess_auc_high"])


def test_other_candidates_are_no_pair() -> None:
    cells = dict(ONE)
    name = "alexnet-cifar10-darknetz_k2-shadow-emulated"
    record, scores = cells[name]
    cells[name] = (record, dataclasses.replace(scores, candidates=scores.candidates + 1))  # type: ignore[call-arg]
    board = board_of(cells)
    assert np.isnan(row_of(board, "darknetz_k2")["excess_auc"])
    assert not np.isnan(row_of(board, "darknetz_k4")["excess_auc"])
    assert any("same candidates" in line for line in board.problems)


def test_lost_scores_cost_the_excess_and_nothing_else() -> None:
    def lost(record: r.Record) -> r.Scores:
        raise r.RecordError(f"{record.cell.id}.npz: gone")

    board = leaderboard([record for record, _ in ONE.values()], lost)
    assert row_of(board, "vanilla")["auc"] > 0.5
    assert np.isnan(row_of(board, "vanilla")["excess_auc"])
    assert any("gone" in line for line in board.problems)
    assert "gone" in render.terminal(board)


def test_without_the_black_box_there_is_a_dash_and_a_footnote() -> None:
    cells = {name: cell for name, cell in ONE.items() if "-full_tee-" not in name}
    board = board_of(cells)
    assert np.isnan(row_of(board, "darknetz_k2")["excess_auc"])
    assert any('"-": there are no scores of full_tee with these answers (top1)' in n for n in board.tables[0].notes)
    assert not any('"-"' in n for n in board_of(ONE).tables[0].notes)


def test_boards_profiles_data_sets_and_victims_never_share_a_table() -> None:
    cells = ONE | made(0, board="qemu") | made(0, dataset="digits") | made(0, victim="vgg7")
    smoke = {f"smoke/{name}": cell for name, cell in made(0, profile="smoke").items()}
    records = [record for record, _ in (cells | smoke).values()]
    board = leaderboard(records, lambda record: cells[record.cell.id][1])
    keys = [tuple(table.key.values()) for table in board.tables]
    assert len(keys) == len(set(keys)) == 5
    assert all(len(table.defenses) == len(DEFENSES) for table in board.tables)
    notes = {table.board: table.notes[0] for table in board.tables}
    assert "not of a Pi" in notes["emulated"]
    assert "OP-TEE on an emulated processor" in notes["qemu"]


def test_seeds_are_averaged_and_spread_widens() -> None:
    seeds = made(0, 1, 2)
    row = row_of(board_of(seeds), "darknetz_k2")
    kept = [
        record.attack.metrics.auc.value
        for record, _ in seeds.values()
        if record.attack
        and record.attack.metrics.auc
        and (record.cell.defense, record.cell.measure) == ("darknetz_k2", "shadow")
    ]
    assert row["n_seeds"] == 3
    assert row["auc"] == pytest.approx(np.mean(kept))
    assert row["auc_low"] < row["auc"] - 1.96 * np.std(kept, ddof=1) / 3**0.5
    assert any("Means over 3 seeds (0, 1, 2)" in note for note in board_of(seeds).tables[0].notes)


def test_a_defense_with_fewer_seeds_is_told() -> None:
    cells = made(0, 1)
    cells = {n: c for n, c in cells.items() if not (c[0].cell.seed == 1 and c[0].cell.defense == "darknetz_k4")}
    board = board_of(cells)
    assert row_of(board, "darknetz_k4")["n_seeds"] == 1
    assert any("Of these darknetz_k4 has 1." in note for note in board.tables[0].notes)


def test_mixed_versions_are_told() -> None:
    cells = dict(ONE)
    name = "alexnet-cifar10-vanilla-shadow-emulated"
    record, scores = cells[name]
    newer = dataclasses.replace(record, provenance=dataclasses.replace(record.provenance, leakboard="0.2.0"))
    cells[name] = (newer, scores)
    assert any("Leakboard 0.1.0, 0.2.0" in note for note in board_of(cells).tables[0].notes)
    assert not any("Mixed" in note for note in board_of(ONE).tables[0].notes)


def test_latency_alone_makes_a_table() -> None:
    cells = {name: cell for name, cell in ONE.items() if cell[0].latency}
    board = board_of(cells)
    text = render.terminal(board)
    assert "Cost a query" in text
    assert "Leak" not in text.replace("Leakboard", "")
    assert list(board.tables[0].defenses.defense)[0] == "vanilla"


def test_attacks_alone_make_a_table() -> None:
    cells = {name: cell for name, cell in ONE.items() if cell[0].attack}
    board = board_of(cells)
    assert np.isnan(row_of(board, "vanilla")["latency_ratio"])
    assert "Latency was not measured." in render.terminal(board)
    assert "nan" not in render.terminal(board) + render.markdown(board) + render.latex(board)


def test_nothing_makes_no_table() -> None:
    board = leaderboard([], lambda record: ONE[record.cell.id][1])
    for show in (render.terminal, render.markdown, render.latex):
        assert "no results yet" in show(board)
    assert json.loads(render.as_json(board))["tables"] == []


@pytest.mark.parametrize("extra", ["", "_and_a_name_of_uncommon_length"])
def test_no_terminal_line_is_wider_than_it_may_be(extra: str) -> None:
    cells = {}
    for record, scores in ONE.values():
        cell = dataclasses.replace(record.cell, defense=record.cell.defense + extra)
        cells[record.cell.id] = (dataclasses.replace(record, cell=cell), scores)
    excluded = [
        (f"alexnet-cifar100-vanilla-shadow-emulated-seed{i}", "no source of cifar100 answered") for i in range(9)
    ]
    text = render.terminal(board_of(cells, excluded=excluded, problems=["a: damaged"]))
    assert max(map(len, text.split("\n"))) <= 120
    for line in ("no source of cifar100 answered", "a: damaged", "Published (theirs)"):
        assert line in text
    assert not any(line != line.rstrip() for line in text.split("\n"))


def test_narrower_terminals_lose_no_column() -> None:
    text = render.terminal(board_of(ONE), width=70)
    assert max(map(len, text.split("\n"))) <= 70
    for header in ("best attack", "in TEE", "switches", "loss_threshold"):
        assert header in text


def test_the_best_attack_has_the_star() -> None:
    text = render.markdown(board_of(ONE))
    line = next(x for x in text.split("### All attacks")[1].split("\n") if x.startswith("| darknetz_k2"))
    loss, shadow = (line.split("|")[i] for i in (2, 4))
    assert r"\*" in shadow
    assert "*" not in loss


def test_csv_holds_every_row_in_full_precision() -> None:
    board = board_of(ONE | made(0, dataset="digits"))
    rows = list(csv.DictReader(io.StringIO(render.csv(board))))
    assert len(rows) == 2 * len(DEFENSES)
    assert [rows[0][k] for k in ("victim", "dataset", "board", "defense")] == [
        "alexnet",
        "cifar10",
        "emulated",
        "vanilla",
    ]
    assert float(rows[0]["auc"]) == row_of(board, "vanilla")["auc"]
    assert rows[0]["tpr_at_fpr_1e3"] == ""
    attacks = list(csv.DictReader(io.StringIO(render.attacks_csv(board))))
    assert len(attacks) == 2 * len(DEFENSES) * len(ATTACKS)


def test_json_has_null_where_nothing_was_measured() -> None:
    value = json.loads(render.as_json(board_of(ONE, excluded=[("x", "too big")])))
    first = value["tables"][0]["defenses"][0]
    assert first["tpr_at_fpr_1e3"] is None
    assert first["auc"] == pytest.approx(row_of(board_of(ONE), "vanilla")["auc"], abs=1e-12)
    assert value["excluded"] == [{"cell": "x", "reason": "too big"}]


def test_latex_escapes_what_latex_reads() -> None:
    text = render.latex(board_of(ONE))
    body = [line for line in text.split("\n") if not line.startswith("%")]
    assert any(r"darknetz\_k2" in line for line in body)
    for line in body:
        plain = line.replace(r"\_", "").replace(r"\%", "").replace(r"\&", "").replace(r"\#", "")
        assert "_" not in plain
        assert "%" not in plain
        assert plain.count("{") == plain.count("}") or "begin{tabular}" in plain or "end{tabular}" in plain
    assert text.count(r"\begin{") == text.count(r"\end{")
    assert text.count("{") == text.count("}")


def test_tables_are_written_and_failure_is_one_line(tmp_path: Path) -> None:
    board = board_of(ONE)
    written = render.write_tables(board, tmp_path / "out")
    assert {p.name for p in written} >= {f"leaderboard.{end}" for end in ("md", "csv", "json", "tex")}
    assert sorted((tmp_path / "out").iterdir()) == sorted(written)
    assert (tmp_path / "out" / "leaderboard.md").read_text(encoding="utf-8") == render.markdown(board)
    (tmp_path / "file").touch()
    with pytest.raises(r.RecordError, match="cannot write") as caught:
        render.write_tables(board, tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_tables_beside_records_are_no_records(tmp_path: Path) -> None:
    record, scores = ONE["alexnet-cifar10-vanilla-shadow-emulated"]
    r.write_record(tmp_path, record, scores)
    render.write_tables(board_of(ONE), tmp_path)
    found, problems = r.read_records(tmp_path)
    assert (len(found), problems) == (1, [])


def test_published_figures_match_victim_and_data_set() -> None:
    titles = {p.title.split(" (")[0]: p for p in published("alexnet", "cifar100")}
    gradient = titles["Gradient-based MIA accuracy"]
    assert gradient.columns == ("vanilla", "darknetz", "depthwise_quant")
    assert gradient.rows == (("0.880", "0.651", "0.592"),)
    assert gradient.source == "CERIAS poster, table 1"
    shown = published("resnet20", "tiny_imagenet")
    assert any(p.rows == (("0.651", "0.610", "0.570"),) for p in shown)  # spelt tinyimagenet in the source
    assert not published("vgg7", "digits")


def test_published_figures_keep_their_known_inconsistencies() -> None:
    text = " ".join(note for p in published("alexnet", "cifar10") for note in p.notes)
    assert "mix shadow architectures" in text
    assert "does not name the data set" in text
    assert all("teeslice" not in p.source for p in published("vgg16_bn", "cifar10"))


def test_theirs_never_stands_in_a_row_of_ours() -> None:
    board = board_of(ONE)
    ours = render.csv(board)
    assert "0.877" not in ours
    assert "Published (theirs)" in render.markdown(board)


def test_thirty_cells_take_less_than_three_seconds() -> None:
    cells: Cells = {}
    for i in range(6):
        for attack in ("loss_threshold", "shadow", "shadow_vgg11", "lira", "entropy"):
            record, scores = attack_sample(f"full_tee_{i}" if i < 2 else f"d{i}", attack, n=2500)
            cells[record.cell.id] = (record, scores)
    begun = time.perf_counter()
    render.terminal(board_of(cells))
    assert len(cells) == 30
    assert time.perf_counter() - begun < 3
