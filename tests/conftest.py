"""What several test files share: a registry to scribble in, and one small run with trained models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from device.board import Board
from device.emulated import EmulatedBoard
from suite.models import Role, TrainJob, train_job
from suite.profiles import Profile
from suite.registry import REGISTRY, Kind, discover
from suite.store import Store
from tests.qemu_board import qemu_machine, qemu_machine_of_the_run  # noqa: F401  (fixtures)
from tests.submission_samples import submitted, submitted_store  # noqa: F401  (fixtures)
from victims.data.splits import SplitSizes

TINY = Profile("tiny", ("digits",), SplitSizes(members=200, auxiliary=600, test=300), 20, 2, 4)


@dataclass(frozen=True)
class SmallRun:
    """A store with a trained victim and its shadows, and a board."""

    store: Store
    board: Board
    job: TrainJob
    results: Path


@pytest.fixture
def scratch_registry(monkeypatch):
    """The real registry; what a test registers is gone after it."""
    discover()
    monkeypatch.setattr(REGISTRY, "_plugins", {kind: dict(REGISTRY._plugins[kind]) for kind in Kind})
    return REGISTRY


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> SmallRun:
    """AlexNet on 200 digits, and two shadows: about ten seconds, once."""
    discover()
    store = Store(tmp_path_factory.mktemp("store"))
    job = TrainJob("alexnet", "digits", TINY, 0)
    train_job(store, job)
    for index in (0, 1):
        train_job(store, TrainJob("alexnet", "digits", TINY, 0, Role.SHADOW, index))
    return SmallRun(store, EmulatedBoard(), job, tmp_path_factory.mktemp("results"))
