"""A board that goes away in the middle of a cell: the cell is measured once more, and the record says so."""

import dataclasses

import pytest

from conftest import TINY
from device.board import BoardError, BoardLost, TeeOutOfMemory
from device.emulated import EmulatedBoard
from suite import progress
from suite.matrix import Cell
from suite.records import read_record, record_path
from suite.registry import Kind
from suite.retrying import FIRST, Attempt, with_recovery
from suite.run import Bench, run_attack_cell, run_latency_cell
from suite.spec import parse


class FragileBoard(EmulatedBoard):
    """An emulated board whose next sessions are lost, at their opening or at their first question."""

    def __init__(self, losses, *, late=False):
        super().__init__()
        self.losses, self.late = losses, late
        self.recoveries = self.opened = 0
        self.is_broken = False

    def open(self, files):
        self.opened += 1
        session = super().open(files)
        if self.losses == 0:
            return session
        self.losses -= 1
        if not self.late:
            session.close()
            raise BoardLost("the line to the board broke:\n  connection reset")

        def lose(*_, **__):
            session.close()
            raise BoardLost("the board hangs")

        session.infer = session.time = lose
        return session

    def recover(self):
        self.recoveries += 1
        if self.is_broken:
            raise BoardError("it does not boot")


@pytest.fixture
def bench(small_run, tmp_path):
    def make(board):
        return Bench(small_run.store, board, tmp_path, workers=1)

    return make


def cell(defense="vanilla", attack="loss_threshold"):
    (victim,), (how,) = parse(Kind.VICTIM, "alexnet"), parse(Kind.DEFENSE, defense)
    measure = parse(Kind.ATTACK, attack)[0] if attack else None
    return Cell(victim, "digits", how, measure, "emulated", TINY, 0)


def stored(bench, cell):
    return read_record(record_path(bench.results, cell.profile.name, cell.id))


@pytest.mark.parametrize("late", [False, True], ids=["opening", "asking"])
@pytest.mark.parametrize("attack", ["loss_threshold", None], ids=["attack", "latency"])
def test_a_board_lost_once_costs_a_second_attempt(bench, attack, late, monkeypatch):
    # Both kinds of cell must ask the board for themselves.
    monkeypatch.setattr(EmulatedBoard, "fingerprint", lambda self: f"{attack}-{late}")
    board = FragileBoard(losses=1, late=late)
    here, one, told = bench(board), cell("darknetz[k=1]", attack), []
    with progress.sink(told.append):
        (run_attack_cell if attack else run_latency_cell)(one, here)
    record = stored(here, one)
    assert board.recoveries == 1
    assert record.provenance.attempts == 2
    (incident,) = record.provenance.incidents
    assert incident == ("the board hangs" if late else "the line to the board broke:; connection reset")
    assert any("restarting it" in line and one.id in line and incident in line for line in told)


def test_a_cell_without_a_loss_says_so(bench):
    here, one = bench(FragileBoard(losses=0)), cell()
    run_attack_cell(one, here)
    record = stored(here, one)
    assert (record.provenance.attempts, record.provenance.incidents) == (1, ())


def test_a_second_loss_fails_the_cell_and_leaves_finished_records_alone(bench, monkeypatch):
    first = cell()
    run_attack_cell(first, bench(EmulatedBoard()))
    path = record_path(bench(None).results, TINY.name, first.id)
    before = path.read_bytes()
    monkeypatch.setattr(EmulatedBoard, "fingerprint", lambda self: "another board")
    board = FragileBoard(losses=2)
    second = cell("darknetz[k=1]")
    with pytest.raises(BoardLost, match=r"lost twice: first .* broke.*restarted, then .* broke"):
        run_attack_cell(second, bench(board))
    assert board.recoveries == 1
    assert path.read_bytes() == before
    assert not record_path(bench(None).results, TINY.name, second.id).exists()
    run_attack_cell(second, bench(board))  # the board is whole again, and so is the next run
    assert stored(bench(board), second).provenance.attempts == 1


def test_answers_that_came_before_the_loss_are_not_asked_for_again(bench, monkeypatch):
    monkeypatch.setattr(EmulatedBoard, "fingerprint", lambda self: "board of the timing")
    one = cell("darknetz[k=1]", None)
    board = FragileBoard(losses=0)
    here, opened = bench(board), []

    def turns(meter, rounds):
        opened.append(board.opened)
        if len(opened) == 1:
            raise BoardLost("during the timing")
        meter.vanilla()
        meter.protected()

    run_latency_cell(one, here, turns)
    assert opened == [1, 1]  # one session for the answers, none more until the second timing began
    assert stored(here, one).provenance.incidents == ("during the timing",)


def test_a_board_that_does_not_come_back_fails_the_cell_and_the_next_one_tries_again(bench, monkeypatch):
    monkeypatch.setattr(EmulatedBoard, "fingerprint", lambda self: "board that stays away")
    board = FragileBoard(losses=1)
    board.is_broken = True
    with pytest.raises(BoardError, match="cannot be brought back: it does not boot") as caught:
        run_attack_cell(cell(), bench(board))
    assert "\n" not in str(caught.value)
    run_attack_cell(cell(), bench(board))


@pytest.mark.parametrize("error", [BoardError("a wrong model"), TeeOutOfMemory("too large")])
def test_what_a_restart_cannot_mend_is_not_tried_again(error):
    attempts = []

    def measure(attempt):
        attempts.append(attempt)
        raise error

    with pytest.raises(BoardError, match=str(error)):
        with_recovery(FragileBoard(0), "a-cell", measure)
    assert attempts == [FIRST]


def test_attempts_are_counted_from_one():
    assert dataclasses.astuple(Attempt()) == (1, ())
