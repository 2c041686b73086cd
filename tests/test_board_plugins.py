"""Boards as plugins: found by name, made with a limit, and held to their rules."""

import sys

import numpy as np
import pytest

from device.board import BoardError
from device.emulated import EmulatedBoard
from suite import AgentBoard, board
from suite import conformance_boards as rules
from suite.boards import make_board
from suite.conformance import CHECKS
from suite.conformance_rules import ConformanceError
from suite.registry import Kind, PluginError
from suite.spec import parse

pytestmark = pytest.mark.usefixtures("scratch_registry")


def registered(name, **members):
    """An emulated board under another name, with something changed."""
    return board(name)(
        type("Changed", (EmulatedBoard,), {"__doc__": "Changed (original).", "__module__": __name__, **members})
    )


def broken(rule, name):
    (spec,) = parse(Kind.BOARD, name)
    with pytest.raises(ConformanceError) as caught:
        rule(spec)
    return str(caught.value)


def test_a_board_is_made_by_its_name_with_its_limit():
    made = registered("shelf")
    assert type(make_board("shelf")) is made
    assert make_board("shelf").name == "shelf"
    assert make_board("shelf", 3.0).tee_limit_bytes() == 3 << 20
    with pytest.raises(PluginError, match=r"unknown board 'shelv'; did you mean shelf\?"):
        make_board("shelv")


@pytest.mark.parametrize("name", ["qemu", "emulated_two", "ssh", "em", "pi3bplus"])
def test_the_suites_own_boards_keep_their_names(name):
    with pytest.raises(PluginError, match="the name is taken by|contain one another"):
        registered(name)


def test_a_board_that_cannot_be_made_is_named_with_its_place():
    def picky(self, port):
        raise AssertionError

    registered("picky", __init__=picky)
    with pytest.raises(PluginError, match=r"board 'picky' \(.*\): it must be made without arguments.*'port'"):
        make_board("picky")
    with pytest.raises(PluginError, match="Lost must derive from Board"):
        board("lost")(type("Lost", (), {}))
    with pytest.raises(PluginError, match="board 'none': decorate a class"):
        board("none")(lambda: None)


def test_a_command_that_is_no_agent_is_told_from_one_that_is_not_there():
    class Absent(AgentBoard):
        name = "absent"

        def command(self):
            return ["no-such-program-anywhere"]

    class Chatty(Absent):
        def command(self):
            return [sys.executable, "-c", "print('welcome to this host' * 9)"]

    with pytest.raises(BoardError, match="board absent: cannot start no-such-program-anywhere: No such file"):
        Absent().device_key()
    with pytest.raises(BoardError, match="is no frame"):
        Chatty().device_key()
    with pytest.raises(BoardError, match="limit of 0 bytes"):
        Absent(0)


def test_boards_that_break_the_rules_are_refused():
    def wrong_answers(self, files):
        session = EmulatedBoard.open(self, files)
        right = session.infer

        def infer(images, *, boundary=False):
            answer = right(images, boundary=boundary)
            answer.outputs[...] = np.roll(answer.outputs, 1, axis=0)
            return answer

        session.infer = infer
        return session

    registered("liar", open=wrong_answers)
    assert "its answers under vanilla differ from PyTorch's" in broken(rules.answers_as_pytorch_does, "liar")
    registered("boundless", __init__=lambda self, tee_limit_bytes=1: EmulatedBoard.__init__(self, 64 << 20))
    assert "tee_limit_bytes() is not the limit" in broken(rules.names_the_memory_limit, "boundless")
    registered("moody", fingerprint=lambda self: f"{id(self):064x}")
    assert "the same for the same board" in broken(rules.says_what_it_is, "moody")
    registered("fickle")  # a new device each session, as the emulated board is by default
    assert "device_key() is another each time" in broken(rules.is_one_device, "fickle")
    assert rules.reports_a_lost_agent in CHECKS[Kind.BOARD]
