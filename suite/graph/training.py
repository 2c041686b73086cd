"""The training section of a model file (``ta/include/lb_training.h``), and where PyTorch's dropouts belong in it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from suite.graph import wire
from suite.graph.format import FormatError
from suite.graph.fuse import fuse
from suite.graph.ir import GraphError, Op
from suite.graph.partition import Segment, World
from suite.graph.wire import aligned

MAGIC = 0x3154424C
FORMAT = 1
MAX_DROPOUTS = 256
KEY_BYTES = 64
SECTION = struct.Struct("<4I64s48x")
"""magic, format, gives_gradient, n_dropouts, owner_key"""
DROPOUT = struct.Struct("<II")
"""op, drop"""
_FILE_BYTES = wire.HEADER.fields["file_bytes"][1]  # type: ignore[index]


def allow_training(
    sealed: bytes, segments: Sequence[Segment], owner_key: bytes, dropouts: Mapping[str, float] | None = None
) -> bytes:
    """A sealed file, in the clear, whose owner lets a TA train it.

    Args:
        sealed: as :func:`suite.graph.format.pack_sealed` makes it of ``segments``.
        segments: of the deployment.
        owner_key: the public key, X || Y, to which the TA seals the tuned weights, whoever asks for them.
        dropouts: probability of becoming 0 by tensor, for tensors of any segment.

    Raises:
        FormatError: the key has another length, or a dropout is where none can be.
    """
    if len(owner_key) != KEY_BYTES:
        raise FormatError(f"an owner's public key is X || Y, {KEY_BYTES} bytes, not {len(owner_key)}")
    placed = place_dropouts(segments, World.TEE, dropouts or {})
    section = SECTION.pack(MAGIC, FORMAT, segments[0].world is World.REE, len(placed), owner_key)
    section += b"".join(DROPOUT.pack(op, min(round(p * 2**32), 2**32 - 1)) for op, p in placed)
    whole = bytearray(sealed.ljust(aligned(len(sealed)), b"\0") + section.ljust(aligned(len(section)), b"\0"))
    whole[_FILE_BYTES : _FILE_BYTES + 4] = len(whole).to_bytes(4, "little")
    return bytes(whole)


def place_dropouts(
    segments: Sequence[Segment], world: World, dropouts: Mapping[str, float]
) -> tuple[tuple[int, float], ...]:
    """The dropouts in one world's file: (index of the op that makes the tensor, probability), by rising index.

    Raises:
        FormatError: a tensor is one that no op makes, or that comes out of a ReLU6 or softmax.
    """
    made = {step.output for segment in segments for step in fuse(segment.graph)}
    if unknown := sorted(set(dropouts) - made):
        raise FormatError(f"a dropout belongs to {unknown[0]!r}, which no operator makes")
    placed = []
    index = 0
    for segment in segments:
        for step in fuse(segment.graph) if segment.world is world else ():
            p = dropouts.get(step.output)
            if p is not None and not 0 <= p < 1:
                raise FormatError(f"dropout probability {p} of {step.output!r}: at least 0 and below 1")
            if p and (Op.RELU6 in (step.fused, step.node.op) or step.node.op is Op.SOFTMAX):
                raise FormatError(f"a dropout cannot follow the ReLU6 or softmax that makes {step.output!r}")
            if p:
                placed.append((index, p))
            index += 1
    if len(placed) > MAX_DROPOUTS:
        raise FormatError(f"{len(placed)} dropouts in the {world}: at most {MAX_DROPOUTS}")
    return tuple(placed)


def check_trainable(segments: Sequence[Segment]) -> None:
    """Refuse what boards cannot train.

    Raises:
        GraphError: a part is on int8, or the deployment does not end in a softmax, whose cross-entropy is the loss.
    """
    for segment in segments:
        if segment.graph.scales:
            raise GraphError(f"training wants float32 throughout; {sorted(segment.graph.scales)[0]!r} is on int8")
    last = segments[-1].graph
    if not last.nodes or last.nodes[-1].op is not Op.SOFTMAX or last.nodes[-1].output != last.outputs[0]:
        ending = last.nodes[-1].op if last.nodes else "nothing"
        raise GraphError(f"training wants a model that ends in a softmax; this one's last segment ends in {ending}")


def is_trainable(segments: Sequence[Segment]) -> bool:
    """Whether boards can train it."""
    try:
        check_trainable(segments)
    except GraphError:
        return False
    return True
