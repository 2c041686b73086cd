"""Attack cells that other processes work on before their tests' turn."""

import dataclasses

import pytest

from suite import ahead, attacking, progress
from suite.ahead import Ahead
from suite.matrix import build
from suite.registry import Kind
from suite.run import Bench, run_attack_cell
from suite.spec import parse_list
from tests.conftest import TINY

ATTACKS = "loss_threshold,confidence,prediction_entropy"


@pytest.fixture
def cells():
    return build(
        victims=parse_list(Kind.VICTIM, "alexnet"),
        datasets=["digits"],
        defenses=parse_list(Kind.DEFENSE, "vanilla"),
        attacks=parse_list(Kind.ATTACK, ATTACKS),
        board="emulated",
        profile=TINY,
        seeds=[0],
    )[:-1]


@pytest.fixture
def bench(small_run, tmp_path, cells, monkeypatch):
    monkeypatch.setattr(ahead, "WORTH_CELLS", 2)
    made = Bench(small_run.store, small_run.board, tmp_path / "results", workers=1)
    working = Ahead(made, cells, 1)
    yield dataclasses.replace(made, ahead=working)
    working.close()


def test_nothing_is_started_where_cells_are_quick(bench, cells, monkeypatch):
    monkeypatch.setattr(ahead, "ProcessPoolExecutor", None)  # would fail
    monkeypatch.setattr(ahead, "WORTH_S", 1e9)
    for cell in cells:
        assert run_attack_cell(cell, bench).cell.id == cell.id


def test_what_others_did_is_not_done_again_and_gives_the_same_record(bench, cells, monkeypatch, tmp_path):
    monkeypatch.setattr(ahead, "TELL_EVERY_S", 0.0)
    lines, inferred = [], []
    with progress.sink(lines.append):
        bench.ahead.took(cells[0], 2 * ahead.WORTH_S)
        for cell in cells[1:]:
            bench.ahead.wait(cell)
    assert lines[0].startswith("2 more attacks, 1 side by side")
    assert any(f"  {cells[1].id}" in line for line in lines[1:])
    monkeypatch.setattr(attacking, "check_guess", lambda *args: inferred.append(args))
    records = [run_attack_cell(cell, bench) for cell in cells[1:]]
    assert not inferred
    alone = dataclasses.replace(bench, ahead=None, results=tmp_path / "alone")
    for cell, record in zip(cells[1:], records, strict=True):
        assert run_attack_cell(cell, alone).attack == record.attack


def test_for_a_few_cells_no_process_is_started(bench, cells, monkeypatch):
    monkeypatch.setattr(ahead, "ProcessPoolExecutor", None)  # would fail
    monkeypatch.setattr(ahead, "WORTH_CELLS", 3)
    bench.ahead.took(cells[0], 2 * ahead.WORTH_S)
    bench.ahead.wait(cells[1])


def test_whoever_stops_it_goes_on_alone(bench, cells):
    bench.ahead.took(cells[0], 2 * ahead.WORTH_S)
    bench.ahead.close()
    assert run_attack_cell(cells[1], dataclasses.replace(bench, ahead=None)).cell.id == cells[1].id
