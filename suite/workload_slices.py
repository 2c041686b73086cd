"""How often a query pays for filters that are streamed into the TEE, counted as the agent feeds them (slices.c)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from suite.graph.format import slice_sizes
from suite.graph.partition import Segment, World

TAG_BYTES = 16
"""``LB_SLICE_TAG_BYTES`` of ta/include/lb_slices.h: behind each slice's ciphertext."""

FED, BYTES, OPENED = "slices.fed", "slices.bytes", "slices.opened"
COUNTS = (FED, BYTES, OPENED)
"""What :func:`work` counts, the same in either world: calls into the TEE that bring slices, bytes that they bring (the
normal world copies them, the TEE deciphers them) and slices (each with a key stream and a tag of its own)."""


def work(segments: Sequence[Segment]) -> Mapping[str, int]:
    """Counts of a query through ``segments``."""
    taken = [[size + TAG_BYTES for size in _slices(segment)] for segment in segments]
    room = max((size for sizes in taken for size in sizes), default=0)
    for segment in segments:
        if segment.world is World.TEE:
            room = max(room, sum(map(segment.graph.bytes_of, segment.graph.inputs)))
    return {
        FED: sum(_calls(sizes, room) for sizes in taken),
        BYTES: sum(map(sum, taken)),
        OPENED: sum(map(len, taken)),
    }


def _slices(segment: Segment) -> Iterator[int]:
    for node in segment.graph.nodes:
        yield from slice_sizes(node)


def _calls(sizes: Sequence[int], room: int) -> int:
    """Calls that bring slices in their order, in each as many as there is room for."""
    calls = left = 0
    for size in sizes:
        if size > left:
            calls, left = calls + 1, room
        left -= size
    return calls
