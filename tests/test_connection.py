"""Exchanges with agents that misbehave: they die, hang, talk nonsense. None may hold us up or be believed."""

import subprocess
import sys
import tempfile
import textwrap
import time

import pytest

from device import wire
from device.board import BoardError, BoardLost, TeeOutOfMemory
from device.connection import Connection
from device.wire import AgentErrorCode, FrameType

PRELUDE = f"""
import os, struct, sys, time, signal
FRAME, MAGIC, VERSION = struct.Struct({wire.FRAME.format!r}), {wire.FRAME_MAGIC}, {wire.FRAME_VERSION}
def read(n):
    data = b""
    while len(data) < n:
        data += os.read(0, n - len(data)) or sys.exit(0)
    return data
def ask():
    magic, version, kind, request, size = FRAME.unpack(read(FRAME.size))
    return kind, request, read(size)
def answer(kind, request, body=b"", magic=MAGIC, version=VERSION):
    os.write(1, FRAME.pack(magic, version, kind, request, len(body)) + body)
"""


@pytest.fixture
def agent():
    """Starts a process that does what the test writes in Python; a Connection to it."""
    opened = []

    def start(body, **options):
        stderr = tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(body)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        connection = Connection(process, stderr, **options)
        opened.append(connection)
        connection.pid = process
        return connection

    yield start
    for connection in opened:
        connection.close()


def failure(code, detail, text):
    return wire.FAILURE.pack(code, detail) + text.encode()


def test_questions_and_answers_of_any_size(agent):
    connection = agent(
        """
        while True:
            kind, request, body = ask()
            answer(kind | 0x8000, request, body[::-1])
        """
    )
    for size in (0, 1, 70_000, 3 << 20):
        body = bytes(i % 251 for i in range(size))
        assert connection.ask(FrameType.INFER, body[: size // 2], memoryview(body)[size // 2 :]) == body[::-1]


def test_many_answers_in_one_breath(agent):
    connection = agent(
        """
        kind, request, body = ask()
        one = lambda i: FRAME.pack(MAGIC, VERSION, kind | 0x8000, request, 1) + bytes([i])
        os.write(1, b"".join(one(i) for i in range(50)))
        ask()
        """
    )
    seen = []
    connection.ask_many(FrameType.INFER, 50, lambda number, body: seen.append((number, body[0])) or body)
    assert seen == [(i, i) for i in range(50)]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("ask(); os.write(2, b'out of luck'); sys.exit(7)", "exited with 7 during STATS; stderr: out of luck"),
        ("sys.exit(0)", "exited with 0 during STATS"),
        ("ask(); os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        (
            "k, r, b = ask(); os.write(1, FRAME.pack(MAGIC, VERSION, k | 0x8000, r, 100) + b'half'); sys.exit(1)",
            "exited",
        ),
        ("k, r, b = ask(); os.write(1, b'LBF'); sys.exit(1)", "exited with 1"),
    ],
)
def test_an_agent_that_dies_is_a_lost_board(agent, body, words):
    connection = agent(body)
    with pytest.raises(BoardLost) as caught:
        connection.ask(FrameType.STATS)
    assert words in str(caught.value)
    with pytest.raises(BoardError, match="the session is over"):
        connection.ask(FrameType.STATS)


@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(60)",
        "ask(); time.sleep(60)",
        "k, r, b = ask(); os.write(1, FRAME.pack(MAGIC, VERSION, k | 0x8000, r, 100) + b'half'); time.sleep(60)",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); ask(); os.kill(os.getpid(), signal.SIGSTOP)",
    ],
    ids=["reads nothing", "answers nothing", "stops within an answer", "is stopped"],
)
def test_a_silent_agent_is_killed_and_the_request_named(agent, body):
    connection = agent(body, patience_s=1.0)
    began = time.monotonic()
    with pytest.raises(BoardLost, match=r"the board hangs: 1 s of silence during DEVICE_KEY \(request 1\)"):
        connection.ask(FrameType.DEVICE_KEY)
    assert time.monotonic() - began < 10
    assert connection.pid.poll() is not None


def test_a_write_into_a_full_pipe_ends_too(agent):
    connection = agent("read(16); time.sleep(60)", patience_s=1.0)
    with pytest.raises(BoardLost, match="silence during LOAD_DATA"):
        connection.ask(FrameType.LOAD_DATA, bytes(8 << 20))
    assert connection.pid.poll() is not None


def test_a_slow_agent_that_keeps_talking_is_waited_for(agent):
    connection = agent(
        """
        kind, request, body = ask()
        whole = FRAME.pack(MAGIC, VERSION, kind | 0x8000, request, 4) + b"done"
        for i in range(len(whole)):
            time.sleep(0.1)
            os.write(1, whole[i : i + 1])
        """,
        patience_s=1.0,
    )
    assert connection.ask(FrameType.STATS) == b"done"  # 2 s in all


def test_patience_can_be_asked_for(agent):
    connection = agent("k, r, b = ask(); time.sleep(1.5); answer(k | 0x8000, r)", patience_s=0.5)
    assert connection.ask(FrameType.TIME, patience=10) == b""


@pytest.mark.parametrize(
    "reply",
    [
        "os.write(1, b'Linux raspberrypi 6.12\\nlogin: ')",
        "answer(k | 0x8000, r, magic=1)",
        "answer(k | 0x8000, r, version=VERSION + 1)",
        "answer(k | 0x8000, r + 1)",
        "answer(k + 1 | 0x8000, r)",
        "answer(k, r)",
        "answer(0xFFFF, r, b'short')",
        "os.write(1, FRAME.pack(MAGIC, VERSION, k | 0x8000, r, 0xFFFFFFFF))",
    ],
)
def test_nonsense_is_refused_and_ends_the_agent(agent, reply):
    connection = agent(f"k, r, b = ask(); {reply}; time.sleep(60)", patience_s=5.0)
    with pytest.raises(BoardError, match="the agent"):
        connection.ask(FrameType.STATS)
    assert connection.pid.poll() is not None


def test_an_orderly_no_leaves_the_agent_in_step(agent):
    body = failure(AgentErrorCode.STATE, 0, "no deployment is loaded")
    connection = agent(f"k, r, b = ask(); answer(0xFFFF, r, {body!r}); k, r, b = ask(); answer(k | 0x8000, r, b'ok')")
    with pytest.raises(BoardError, match="no deployment is loaded"):
        connection.ask(FrameType.STATS)
    assert connection.ask(FrameType.STATS) == b"ok"


@pytest.mark.parametrize(
    ("code", "detail", "kind", "words"),
    [
        (AgentErrorCode.TEE_MEMORY, 0xFFFF000C, TeeOutOfMemory, "raise the TEE's memory limit"),
        (AgentErrorCode.TEE_DEAD, 0xFFFF3024, BoardLost, "the TA panicked"),
        (AgentErrorCode.TEE, 0xFFFF000F, BoardError, "signed with another key"),
        (AgentErrorCode.TEE, 0xFFFF0008, BoardError, "does not find the TA"),
        (AgentErrorCode.TEE, 0xF0100001, BoardError, "secure storage is damaged"),
    ],
)
def test_results_of_the_tee_come_with_a_way_out(agent, code, detail, kind, words):
    body = failure(code, detail, "refused to open a session")
    connection = agent(f"k, r, b = ask(); answer(0xFFFF, r, {body!r}); ask()")
    with pytest.raises(kind) as caught:
        connection.ask(FrameType.LOAD)
    assert "refused to open a session" in str(caught.value)
    assert words in str(caught.value)


def test_the_end_is_told_once_and_can_be_explained(agent):
    ended = []
    connection = agent(
        "ask(); os.write(2, b'ssh: gone'); sys.exit(255)",
        on_end=lambda: ended.append(1),
        explain=lambda status, said: BoardLost(f"line broke ({status}: {said})"),
    )
    with pytest.raises(BoardLost, match=r"line broke \(255: ssh: gone\) \(during STATS\)"):
        connection.ask(FrameType.STATS)
    connection.close()
    assert ended == [1]
