"""The agent against a host that breaks the protocol: an error frame, never a crash, never a hang."""

import subprocess

import numpy as np
import pytest
from c_build import deploy, small_graph

from device import wire
from device.board import BoardError
from device.build import build
from device.wire import AgentErrorCode, FrameType


def frame(kind: int, body: bytes = b"", *, magic=wire.FRAME_MAGIC, version=wire.FRAME_VERSION, size=None) -> bytes:
    return wire.FRAME.pack(magic, version, kind, 7, len(body) if size is None else size) + body


def talk(data: bytes, sanitize: bool = True) -> tuple[int, list[tuple[int, bytes]]]:
    """Exit status and answers (type, body) of an agent that reads ``data`` and then the end of input."""
    agent = build(sanitize=sanitize).agent
    done = subprocess.run([agent], input=data, capture_output=True, timeout=60, check=False)
    assert b"Sanitizer" not in done.stderr, done.stderr.decode()[-3000:]
    answers, out = [], done.stdout
    while out:
        magic, version, kind, request, size = wire.FRAME.unpack_from(out)
        assert (magic, version, request) == (wire.FRAME_MAGIC, wire.FRAME_VERSION, 7)
        answers.append((kind, out[wire.FRAME.size : wire.FRAME.size + size]))
        out = out[wire.FRAME.size + size :]
    return done.returncode, answers


def code(body: bytes) -> AgentErrorCode:
    return AgentErrorCode(wire.FAILURE.unpack_from(body)[0])


@pytest.fixture
def public(tmp_path) -> bytes:
    return deploy(tmp_path, small_graph(), set()).public.read_bytes()


def load(public: bytes) -> bytes:
    half = len(public) // 2
    begin = frame(FrameType.LOAD, wire.LOAD.pack(len(public), 0, 0))
    return begin + frame(FrameType.LOAD_DATA, public[:half]) + frame(FrameType.LOAD_DATA, public[half:])


IMAGE = np.zeros(72, "<f4").tobytes()


@pytest.mark.parametrize(
    "broken",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frame(FrameType.HELLO, magic=1),
        frame(FrameType.HELLO, version=1),
        frame(FrameType.HELLO, size=wire.FRAME_MAX_BYTES + 1),
        frame(FrameType.HELLO, size=2**32 - 1),
        frame(FrameType.LOAD, b"1234", size=8),
        frame(FrameType.HELLO)[:7],
    ],
)
def test_what_is_no_frame_ends_the_agent_with_an_error(broken):
    header = broken.ljust(wire.FRAME.size, b"\0") if len(broken) >= wire.FRAME.size else broken
    status, answers = talk(frame(FrameType.HELLO) + header) if broken[:3] != b"GET" else talk_raw(broken)
    assert status == 3
    assert [kind for kind, _ in answers][-1] == wire.FRAME_ERROR
    assert code(answers[-1][1]) is AgentErrorCode.PROTOCOL


def talk_raw(data: bytes) -> tuple[int, list[tuple[int, bytes]]]:
    """As talk, for input whose request number is not 7."""
    done = subprocess.run([build(sanitize=True).agent], input=data, capture_output=True, timeout=60, check=False)
    _, _, kind, _, size = wire.FRAME.unpack_from(done.stdout)
    return done.returncode, [(kind, done.stdout[wire.FRAME.size : wire.FRAME.size + size])]


def test_requests_that_make_no_sense_are_refused_and_the_agent_goes_on(public):
    infer, time = FrameType.INFER, FrameType.TIME
    before = [
        (frame(99), AgentErrorCode.PROTOCOL),
        (frame(0), AgentErrorCode.PROTOCOL),
        (frame(FrameType.HELLO, b"x"), AgentErrorCode.PROTOCOL),
        (frame(FrameType.LOAD), AgentErrorCode.PROTOCOL),
        (frame(FrameType.LOAD, wire.LOAD.pack(0, 0, 0)), AgentErrorCode.PROTOCOL),
        (frame(FrameType.LOAD, wire.LOAD.pack(0, 64, 0)), AgentErrorCode.PROTOCOL),
        (frame(FrameType.DEVICE_KEY, b"x"), AgentErrorCode.PROTOCOL),
        (frame(FrameType.LOAD_DATA, b"x"), AgentErrorCode.STATE),
        (frame(FrameType.STATS), AgentErrorCode.STATE),
        (frame(infer, wire.INFER.pack(1, 0) + IMAGE), AgentErrorCode.STATE),
    ]
    after = [
        (frame(infer, wire.INFER.pack(0, 0)), AgentErrorCode.PROTOCOL),
        (frame(infer, wire.INFER.pack(2, 0) + IMAGE), AgentErrorCode.PROTOCOL),
        (frame(infer, wire.INFER.pack(2**31 + 1, 0) + IMAGE), AgentErrorCode.PROTOCOL),
        (frame(infer, wire.INFER.pack(1, 2) + IMAGE), AgentErrorCode.PROTOCOL),
        (frame(infer, wire.INFER.pack(1, 0) + IMAGE[:-1]), AgentErrorCode.PROTOCOL),
        (frame(time, wire.TIME.pack(0, 0, 1, 0) + IMAGE), AgentErrorCode.PROTOCOL),
        (frame(time, wire.TIME.pack(2**32 - 1, 0, 1, 0) + IMAGE), AgentErrorCode.PROTOCOL),
        (frame(time, wire.TIME.pack(1, 0, 1, 0)), AgentErrorCode.PROTOCOL),
        (frame(time, wire.TIME.pack(1, 0, 0, 0) + IMAGE), AgentErrorCode.PROTOCOL),
        (frame(time, wire.TIME.pack(1, 0, 3, 0) + IMAGE), AgentErrorCode.PROTOCOL),
        (frame(time, wire.TIME.pack(1, 0, 1, 1) + IMAGE), AgentErrorCode.PROTOCOL),
        (frame(FrameType.LOAD_DATA, b"x"), AgentErrorCode.STATE),
    ]
    good = frame(infer, wire.INFER.pack(1, 1) + IMAGE)
    data = b"".join(f for f, _ in before) + load(public) + b"".join(f for f, _ in after) + good
    status, answers = talk(data)
    assert status == 0
    n = len(before)
    assert [code(body) for _, body in answers[:n]] == [c for _, c in before]
    assert [kind & ~wire.FRAME_ANSWER for kind, _ in answers[n : n + 3]] == [2, 3, 3]
    assert [code(body) for _, body in answers[n + 3 : -1]] == [c for _, c in after]
    kind, body = answers[-1]
    assert kind == infer | wire.FRAME_ANSWER
    assert wire.RESULT.unpack_from(body) == (20, 0)
    assert np.frombuffer(body, "<f4", offset=8).sum() == pytest.approx(1, rel=1e-5)


def test_too_much_data_drops_the_half_loaded_file(public):
    begin = frame(FrameType.LOAD, wire.LOAD.pack(len(public) - 4, 0, 0))
    status, answers = talk(begin + frame(FrameType.LOAD_DATA, public) + frame(FrameType.LOAD_DATA, public))
    assert status == 0
    assert [code(body) for _, body in answers[1:]] == [AgentErrorCode.PROTOCOL, AgentErrorCode.STATE]


def test_quit_answers_and_ends(public):
    status, answers = talk(load(public) + frame(FrameType.QUIT) + frame(FrameType.HELLO))
    assert status == 0
    assert answers[-1] == (FrameType.QUIT | wire.FRAME_ANSWER, b"")


def test_a_compiler_that_is_missing_or_refuses_is_one_clear_error(monkeypatch, tmp_path):
    build.cache_clear()
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(BoardError, match="no C compiler: 'no-such-compiler'"):
        build()
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BoardError, match="apt-get install gcc"):
        build()
    fake = tmp_path / "cc"
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && echo cc 1.0 && exit 0\necho "oven too cold" >&2\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("CC", str(fake))
    with pytest.raises(BoardError, match="oven too cold"):
        build()
    assert [p for p in (tmp_path / "build").iterdir() if p.is_dir()] == []
    build.cache_clear()
