"""How much memory the Trusted Application will need, before anything is deployed.

The TA decrypts the sealed model into one buffer, chunk by chunk: meanwhile it holds a copy of the chunk, which came
through a block of shared memory. Then both are freed, and beside the model there are an arena for activations and the
kernels' scratch; what crosses lies in two blocks of shared memory, one a direction. Stack and static data are the TA's
own. The plan is an upper bound of what a board reports as ``tee_peak_bytes``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from suite.graph.arena import place_sealed
from suite.graph.format import sealed_bytes, slice_sizes
from suite.graph.fuse import fuse
from suite.graph.ir import Graph, GraphError
from suite.graph.packing import layout_of, stored_bytes
from suite.graph.partition import Segment, World
from suite.graph.scratch import scratch_bytes
from suite.graph.wire import aligned

STACK_BYTES = 64 * 1024
STATIC_BYTES = 5 * 1024
"""The TA's own data, its session, and alignment and bookkeeping of its three heap blocks: 3 KiB as measured
on the emulated board, and room for what another compiler makes of it."""

SLICE_RECORD_BYTES = 64
"""What a sealed slice of a filter has beside the filter's bytes: who it is, and its tag."""
CHUNK_BYTES = 64 * 1024
"""Of the model in one chunk, as ``device/sealing.py`` makes them."""
RECORD_BYTES = 64
"""What a chunk has beside the model's bytes: its struct and its tag (``ta/include/lb_sealed.h``)."""
HEADER_BYTES = 192
"""Of a sealed model; it goes through the chunks' block of shared memory."""

PAGE_BYTES = 4096
"""Shared memory is mapped in whole pages."""


class DoesNotFit(GraphError):
    """A deployment that needs more secure memory than there is; ``plan.table()`` says what takes it."""

    def __init__(self, message: str, plan: MemoryPlan) -> None:
        super().__init__(message)
        self.plan = plan

    def __reduce__(self) -> tuple[type[DoesNotFit], tuple[str, MemoryPlan]]:
        return DoesNotFit, (str(self), self.plan)  # so that it comes whole out of a worker process


@dataclass(frozen=True, slots=True)
class LayerMemory:
    """What one kernel call in the TEE takes, in bytes: its weights as stored, its output, its scratch."""

    layer: str
    op: str
    weights_bytes: int
    activation_bytes: int
    scratch_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The TA's memory at its peak, part by part, in bytes. All are 0 when nothing is in the TEE.

    ``file_bytes``: the sealed file, weights and structure; ``arena_bytes``: activations; ``scratch_bytes``:
    the largest of any kernel; ``shared_bytes``: two blocks in whole pages, one for the largest input of any
    call and one for the largest output. ``loading_bytes``: one chunk, in the TA and in shared memory, as long as the
    model is loaded and arena, scratch and the two blocks are not there. ``streaming_bytes``: the largest slice of a
    streamed filter, once in the TA, where it is opened in place, and once in a block of shared memory.
    """

    file_bytes: int
    loading_bytes: int
    arena_bytes: int
    scratch_bytes: int
    shared_bytes: int
    stack_bytes: int
    static_bytes: int
    layers: tuple[LayerMemory, ...]
    streaming_bytes: int = 0

    @property
    def peak_bytes(self) -> int:
        """While the model is loaded or while it runs, whichever takes more."""
        running = self.arena_bytes + self.scratch_bytes + self.shared_bytes + self.streaming_bytes
        return self.file_bytes + max(self.loading_bytes, running) + self.stack_bytes + self.static_bytes

    def table(self) -> str:
        """One row a kernel call, then one row each for what the whole TA holds; text."""
        rows: list[tuple[str, str, int | None, int | None, int | None]] = [
            (one.layer, one.op, one.weights_bytes, one.activation_bytes, one.scratch_bytes) for one in self.layers
        ]
        rows.append(("at once", "", self.file_bytes, self.arena_bytes, self.scratch_bytes))
        header = ("layer", "op", "weights_bytes", "activation_bytes", "scratch_bytes")
        rest = (
            f"while loading {self.loading_bytes}, shared memory {self.shared_bytes}, slices {self.streaming_bytes}, "
            f"stack {self.stack_bytes}, "
            f"static data {self.static_bytes}; peak {self.peak_bytes} bytes"
        )
        return f"{tabulate(rows, header)}\n{rest}"


def plan_memory(segments: Sequence[Segment]) -> MemoryPlan:
    """The plan of a deployment, whether or not it fits anywhere."""
    hidden = [segment.graph for segment in segments if segment.world is World.TEE]
    if not hidden:
        return MemoryPlan(0, 0, 0, 0, 0, 0, 0, ())
    layers = []
    for graph in hidden:
        for step in fuse(graph):
            node = step.node
            groups = node.attrs.get("groups", 1)
            stored = sum(
                aligned(stored_bytes(array, layout_of(graph, node, key), groups))
                for key, array in node.weights.items()
                if key != "weight" or not node.slices
            )
            op = f"{node.op}+{step.fused}" if step.fused else str(node.op)
            made = aligned(graph.bytes_of(step.output))
            layers.append(LayerMemory(node.layer, op, stored, made, scratch_bytes(graph, node)))
    file_bytes = aligned(sealed_bytes(segments))
    record = min(CHUNK_BYTES, file_bytes) + RECORD_BYTES
    return MemoryPlan(
        file_bytes=file_bytes,
        loading_bytes=record + _pages(max(record, HEADER_BYTES)),
        arena_bytes=max(place_sealed(graph).size for graph in hidden),
        scratch_bytes=max(layer.scratch_bytes for layer in layers),
        shared_bytes=_shared(hidden),
        stack_bytes=STACK_BYTES,
        static_bytes=STATIC_BYTES,
        layers=tuple(layers),
        streaming_bytes=_streaming(hidden),
    )


def _streaming(hidden: Sequence[Graph]) -> int:
    largest = max((size for graph in hidden for node in graph.nodes for size in slice_sizes(node)), default=0)
    if not largest:
        return 0
    record = aligned(largest + SLICE_RECORD_BYTES)
    return record + -(-record // PAGE_BYTES) * PAGE_BYTES


def _shared(hidden: Sequence[Graph]) -> int:
    largest_in = max(sum(graph.bytes_of(tensor) for tensor in graph.inputs) for graph in hidden)
    largest_out = max(sum(graph.bytes_of(tensor) for tensor in graph.outputs) for graph in hidden)
    return _pages(largest_in) + _pages(largest_out)


def _pages(size: int) -> int:
    return -(-size // PAGE_BYTES) * PAGE_BYTES


def plan_tee(segments: Sequence[Segment], limit_bytes: int) -> MemoryPlan:
    """The plan of a deployment on a board whose secure world has ``limit_bytes``.

    Raises:
        DoesNotFit: it needs more; the message is one line, and the error carries the plan with its table.
    """
    plan = plan_memory(segments)
    if plan.peak_bytes <= limit_bytes:
        return plan
    largest = sorted(plan.layers, key=lambda one: -(one.weights_bytes + one.activation_bytes))[:3]
    names = ", ".join(f"{one.layer} ({_mib(one.weights_bytes + one.activation_bytes)})" for one in largest)
    raise DoesNotFit(
        f"the TEE part needs {_mib(plan.peak_bytes)} ({plan.peak_bytes} bytes), the limit is "
        f"{_mib(limit_bytes)} ({limit_bytes} bytes); largest layers: {names}. "
        "Put fewer layers into the TEE, or raise the board's limit",
        plan,
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:.2f} MiB"
