"""Ray as this suite uses it: a connection, tasks of one core each, their messages and their ends.

What runs on a node before it is known to have the right code is sent by value: it stands in nested functions.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from suite.engine import ClusterError
from suite.store import Store

MISSING = "--ray needs Ray: pip install 'leakboard[cluster]'"
LOCAL = "local"
_OBJECT_STORE_BYTES = 100 << 20
"""Room for what tasks hand back; models go by way of the store."""
_PROBE_S = 300.0
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the task ``number``: a ``note`` it sent, or its end.

    ``kind`` is ``note`` or ``done`` (``data``: what it sent or returned), ``refused`` (its node cannot do it: ``text``)
    or ``lost`` (its process or node is gone: ``text``). ``node``: the address, where the end tells it.
    """

    number: int
    kind: str
    data: bytes = b""
    text: str = ""
    node: str = ""


def check_installed() -> None:
    """See that Ray is there, without importing it.

    Raises:
        ClusterError: it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise ClusterError(MISSING)


def check_address(address: str, store: Store) -> None:
    """See whether this is an address, and whether all nodes can share the store.

    Raises:
        ClusterError: it is not, or they cannot.
    """
    if not address.strip():
        raise ClusterError("--ray '': write auto, local, host:port or ray://host:10001")
    if address != LOCAL and store.shared is None:
        raise ClusterError(
            f"--ray {address}: nodes meet in a store that all of them reach: name it with --store URL, such as"
            " s3://bucket/folder or file:///mnt/shared/store (--ray local needs none)"
        )


class RayTasks:
    """Tasks on a Ray cluster: ``local`` starts one on this machine, any other address is joined.

    ``gpus`` is how many each task takes. ``identity`` goes with each task, which is refused where it differs.

    Raises:
        ClusterError: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, address: str, identity: Mapping[str, str], gpus: int = 0) -> None:
        check_installed()
        self.address = address
        self._temporary: str | None = None
        self._running: dict[Any, int] = {}
        self._identity = dict(identity)
        self._gpus = gpus
        try:
            import ray
        except ImportError as error:
            raise ClusterError(f"{MISSING} (what is there does not import: {error})") from None
        self._ray = ray
        self._connect()
        try:
            self._task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_entry())
            self._mailbox = ray.remote(num_cpus=0, max_restarts=-1)(_mailbox_class()).remote()
            self._mail = self._mailbox.take.remote()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        how: dict[str, Any] = {"address": self.address, "log_to_driver": False, "logging_level": "ERROR"}
        if self.address == LOCAL:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            self._temporary = tempfile.mkdtemp(prefix="lb-ray-")  # a short name: sockets lie in it
            how |= {"num_cpus": len(os.sched_getaffinity(0)), "include_dashboard": False}
            how |= {"object_store_memory": _OBJECT_STORE_BYTES, "_temp_dir": self._temporary}
        try:
            self._ray.init(**how)
        except Exception as error:
            self._clean()
            said = " ".join(str(error).split())
            raise ClusterError(
                f"--ray {self.address}: {said or type(error).__name__} (docs/cluster.md says how to start a cluster;"
                " --ray local makes one of this machine)"
            ) from None

    def close(self) -> None:
        """End what runs and leave the cluster; one that was started here is stopped."""
        self._running.clear()
        self._ray.shutdown()  # the cluster ends the tasks of a driver that has left
        self._clean()

    def _clean(self) -> None:
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def cancel(self, numbers: set[int]) -> None:
        """Interrupt these tasks, for a process that stays in the cluster; one that leaves need not, and should not.

        Not by force: Ray ends this process where a task is done at the same moment. Without force that is rare.
        """
        for reference in [reference for reference, number in self._running.items() if number in numbers]:
            self._cancel(reference)
            del self._running[reference]

    def _cancel(self, reference: Any) -> None:
        with contextlib.suppress(Exception):  # over already, or the cluster is gone
            self._ray.cancel(reference)

    def slots(self) -> int:
        """How many tasks fit into the cluster as it is at present."""
        there = self._ray.cluster_resources()
        cores = int(there.get("CPU", 0))
        return min(cores, int(there.get("GPU", 0)) // self._gpus) if self._gpus else cores

    def submit(self, number: int, body: bytes) -> None:
        """Hand a task to the cluster."""
        self._running[self._task.remote(self._identity, body, number, self._mailbox)] = number

    def probe(self, body: bytes) -> list[Event]:
        """How a task with ``body`` ends on each node, whether or not that has a free core.

        Raises:
            ClusterError: a node does not answer.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked: dict[Any, str] = {}
        for node in self._ray.nodes():
            if node["Alive"] and node["Resources"].get("CPU"):
                here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                probing = self._task.options(num_cpus=0, num_gpus=0, max_retries=2, scheduling_strategy=here)
                asked[probing.remote(self._identity, body, -1, None)] = node["NodeManagerAddress"]
        done, late = self._ray.wait(list(asked), num_returns=len(asked), timeout=_PROBE_S) if asked else ([], [])
        if late:
            raise ClusterError(f"node {asked[late[0]]} of the cluster does not answer within {_PROBE_S:.0f} s")
        return [self._end(reference, -1) for reference in done]

    def events(self) -> Iterator[Event]:
        """What happened; waits a moment for something to happen. A note never follows its task's end.

        Raises:
            ClusterError: the connection is lost.
        """
        try:
            done, _ = self._ray.wait(list(self._running), timeout=_POLL_S) if self._running else ([], [])
        except (ConnectionError, self._ray.exceptions.RayError) as error:
            raise ClusterError(
                f"the cluster at {self.address} is gone ({_first_line(error)}); the same command goes on from here once"
                " it is back"
            ) from None
        running = set(self._running.values())
        for number, data in self._notes():
            if number in running:
                yield Event(number, "note", data)
        for reference in done:
            yield self._end(reference, self._running.pop(reference))

    def _notes(self) -> list[tuple[int, bytes]]:
        try:
            if not self._ray.wait([self._mail], timeout=0)[0]:
                return []
            found: list[tuple[int, bytes]] = self._ray.get(self._mail)
        except self._ray.exceptions.RayError:  # its node is gone, and it starts anew elsewhere
            found = []
        self._mail = self._mailbox.take.remote()
        return found

    def _end(self, reference: Any, number: int) -> Event:
        errors = self._ray.exceptions
        try:
            kind, node, result = self._ray.get(reference)
        except (errors.RayTaskError, errors.RuntimeEnvSetupError) as error:
            return Event(number, "refused", text=f"a worker cannot begin: {_first_line(error)}")
        except errors.RayError as error:
            return Event(number, "lost", text=_first_line(error))
        if kind == "done":
            return Event(number, kind, result, node=node)
        return Event(number, kind, text=f"node {node}: {result}", node=node)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if isinstance(error, RuntimeError) and lines else (lines or [type(error).__name__])[0]


def _entry() -> Any:
    """The function that a worker runs: refuses what is not the driver's code, then does the task."""

    def leakboard_task(identity: dict[str, str], body: bytes, number: int, mailbox: Any) -> tuple[str, str, Any]:
        import ray

        node = ray.util.get_node_ip_address()
        try:
            from suite.cluster_task import perform
            from suite.sameness import differences
            from suite.sameness import identity as own_identity
        except Exception as error:
            return "refused", node, f"leakboard does not import there: {type(error).__name__}: {error}; install it"
        if wrong := differences(identity, own_identity()):
            return "refused", node, f"{'; '.join(wrong)}; install the same leakboard, Python and PyTorch on every node"
        return "done", node, perform(body, lambda data: mailbox.put.remote(number, data))

    return leakboard_task


def _mailbox_class() -> Any:
    """Where tasks leave notes, so that the driver need not ask each."""

    class LeakboardMailbox:
        def __init__(self) -> None:
            self._held: list[tuple[int, bytes]] = []

        def put(self, number: int, data: bytes) -> None:
            self._held.append((number, data))

        def take(self) -> list[tuple[int, bytes]]:
            held, self._held = self._held, []
            return held

    return LeakboardMailbox
