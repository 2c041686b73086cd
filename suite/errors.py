"""The errors that a user can mend: shown as one line, without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from device.board import BoardError
from suite.engine import ClusterError
from suite.gates import GateError
from suite.graph.ir import GraphError
from suite.pool import TrainingStopped
from suite.record import RecordError
from suite.registry import PluginError
from suite.store import StoreError
from suite.view import ViewError
from victims.data import DataError
from victims.training import TrainingDiverged

EXPECTED = (
    BoardError, ClusterError, DataError, GateError, GraphError, PluginError, RecordError, StoreError, TrainingDiverged,
    TrainingStopped, ViewError,
)  # fmt: skip


@contextmanager
def one_line() -> Iterator[None]:
    """Turn an expected error into a failed test whose report is its message."""
    try:
        yield
    except EXPECTED as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
