"""The rules of boards: the agent's answers, its counts, its memory limit, and what happens when it is gone."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from device.board import Board, BoardError, BoardLost, DeploymentFiles, Session, TeeOutOfMemory
from device.client import AgentSession
from suite.boards import plugged_in
from suite.conformance_rules import ConformanceError, demand
from suite.conformance_samples import packed, random_images, sample_victim
from suite.deploying import deploy
from suite.graph.planner import plan_memory
from suite.graph.reference import run_segments
from suite.model import Deployment
from suite.registry import Kind
from suite.spec import PluginSpec, parse

DEFENSES = ("vanilla", "darknetz[k=2,output=probs]", "darknetz[start=2,end=3,output=probs]", "full_tee[output=top1]")
"""Nothing hidden, an end, a middle part with two crossings, everything with the label alone."""
_ROUNDS, _NOOPS = 4, 8


@contextmanager
def _made(spec: PluginSpec, limit_bytes: int | None = None) -> Iterator[Board]:
    """The board, closed at the end; a failure of its own is a broken rule."""
    board = plugged_in(spec.plugin, limit_bytes)
    try:
        yield board
    except BoardError as error:
        raise ConformanceError(f"{spec.kind} {spec.text} ({spec.plugin.where}): {error}") from error
    finally:
        board.close()


def _deployment(defense: str) -> Deployment:
    (one,) = parse(Kind.DEFENSE, defense)
    return deploy(one, sample_victim())


@contextmanager
def _files(deployment: Deployment) -> Iterator[DeploymentFiles]:
    public, sealed = packed(deployment)
    with tempfile.TemporaryDirectory(prefix="leakboard-") as folder:
        files = DeploymentFiles(Path(folder, "public.lbm"), Path(folder, "sealed.lbm") if sealed else None)
        files.public.write_bytes(public)
        if files.sealed:
            files.sealed.write_bytes(sealed or b"")
        yield files


@contextmanager
def _session(board: Board, deployment: Deployment) -> Iterator[Session]:
    with _files(deployment) as files, board.open(files) as session:
        yield session


def says_what_it_is(spec: PluginSpec) -> None:
    """A docstring; a name for cells; a fingerprint that stays; the clock, without which no time means anything."""
    demand(bool((spec.plugin.cls.__doc__ or "").strip()), spec, "its docstring must say how it starts the agent")
    with _made(spec) as board, _made(spec) as again:
        demand(board.name == spec.name, spec, f"its name is {board.name!r}; leave naming it to @board")
        mark = board.fingerprint()
        demand(re.fullmatch(r"[0-9a-f]{64}", mark) is not None, spec, "fingerprint() must be a SHA-256 in hex")
        demand(again.fingerprint() == mark, spec, "fingerprint() must be the same for the same board")
        about = board.describe()
        demand(about.get("board") == spec.name, spec, f'describe()["board"] must be {spec.name!r}')
        demand(bool(about.get("clock")), spec, 'describe()["clock"] must say what its times are')


def answers_as_pytorch_does(spec: PluginSpec) -> None:
    """Wherever the cut is, under each kind of policy, and twice in one session."""
    images = random_images(seed=2, n=12).images
    with _made(spec) as board:
        for defense in DEFENSES:
            deployment = _deployment(defense)
            first, last = deployment.segments[0].graph.inputs[0], deployment.segments[-1].graph.outputs[0]
            expected = deployment.policy.apply(run_segments(deployment.segments, {first: images})[last])
            with _session(board, deployment) as session:
                for _ in range(2):
                    ours = session.infer(images).outputs
                    close = ours.shape == expected.shape and np.allclose(ours, expected, rtol=1e-3, atol=1e-4)
                    demand(close, spec, f"its answers under {defense} differ from PyTorch's")


def counts_what_happens(spec: PluginSpec) -> None:
    """Switches, bytes and memory are those of the deployment, and a call's parts are no longer than the call."""
    image = random_images(seed=2, n=1).images
    with _made(spec) as board:
        for defense in DEFENSES:
            deployment = _deployment(defense)
            with _session(board, deployment) as session:
                session.infer(image)
                stats, times = session.stats(), session.time(image[0], _ROUNDS, _NOOPS)
            n, planned = len(deployment.hidden), plan_memory(deployment.segments).peak_bytes
            where = f"under {defense}: "
            demand(stats.switches_per_query == n, spec, f"{where}{stats.switches_per_query} switches, not {n}")
            crossing = (stats.bytes_to_tee > 0, stats.bytes_from_tee > 0, stats.tee_peak_bytes > 0)
            demand(all(one == bool(n) for one in crossing), spec, f"{where}bytes and memory of the TEE: {stats}")
            fits = stats.tee_peak_bytes <= min(planned, stats.tee_limit_bytes) if n else True
            demand(fits, spec, f"{where}the TA took {stats.tee_peak_bytes} bytes, planned are {planned}")
            demand(len(times.total_ns) == _ROUNDS and bool((times.total_ns > 0).all()), spec, f"{where}no times")
            demand(bool((times.invoke_ns <= times.total_ns).all()), spec, f"{where}parts longer than the whole")
            demand(len(times.noop_ns) == (_NOOPS if n else 0), spec, f"{where}{len(times.noop_ns)} empty calls timed")


def names_the_memory_limit(spec: PluginSpec) -> None:
    """A TA that needs more than the limit is refused by an error of its own, and the board lives on."""
    deployment = _deployment("full_tee[output=top1]")
    needed = plan_memory(deployment.segments).peak_bytes
    with _made(spec, needed // 2) as board:
        demand(board.tee_limit_bytes() == needed // 2, spec, "tee_limit_bytes() is not the limit that it was made with")
        try:
            with _session(board, deployment):
                demand(False, spec, f"a TA of {needed} bytes ran under a limit of {needed // 2}")
        except TeeOutOfMemory as error:
            demand("memory limit" in str(error), spec, f"the error must name the memory limit: {error}")
        with _session(board, _deployment("vanilla")) as session:
            session.stats()


def reports_a_lost_agent(spec: PluginSpec) -> None:
    """An agent that dies in the middle is ``BoardLost``, and after ``recover()`` the next session works."""
    images = random_images(seed=2, n=2).images
    deployment = _deployment("darknetz[k=2,output=probs]")
    with _made(spec) as board:
        with _session(board, deployment) as session:
            if not isinstance(session, AgentSession):
                raise ConformanceError(
                    f"{spec.kind} {spec.text} ({spec.plugin.where}): open() returned {type(session).__name__}, not a"
                    " device.client.AgentSession, which speaks the protocol of all boards"
                )
            session.cut_off()
            try:
                session.infer(images)
                demand(False, spec, "it answered without its agent")
            except BoardLost:
                pass
        board.recover()
        with _session(board, deployment) as session:
            demand(len(session.infer(images).outputs) == len(images), spec, "after recover() it does not answer")


def is_one_device(spec: PluginSpec) -> None:
    """Two agents of one board tell the same device key, or models that were sealed to it could not be opened."""
    with _made(spec) as board:
        demand(board.device_key() == board.device_key(), spec, "device_key() is another each time: keep secure storage")
