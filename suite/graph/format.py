"""Writing a deployment as the two files that a board reads (``ta/include/lb_model.h``, version 2).

The public file lists every step of a query. Its REE segments carry ops and weights; a TEE segment is no more
than the tensors that cross, which lie in the public arena. The sealed file holds the TEE segments, in the
same order, each with tensors of its own; they run one after the other and share one arena.

Who makes the answer applies the output policy, and only that file's header carries it; the other one says 0.
When the last segment is in the TEE, its output in the sealed file is the whole (n_classes,) tensor, to which
the TA applies the policy, and its output in the public file is what comes back: (n_classes,) floats, or for
LABEL a (1,) tensor of 4 bytes that holds the uint32 index. When it is in the REE, the agent applies the
policy to its output.

Filters that come in slices (``Node.slices``) are not in the sealed file, which only lists them and has room for their
key, still 0; :func:`pack_slices` gives them, in the order in which a query needs them.

The first segment has one input, the query's image; the last one has one output, the answer. The bytes are a
pure function of segments, policy and model id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from suite.graph import packing, wire
from suite.graph.arena import Arena, place_public, place_sealed
from suite.graph.fuse import Step, fuse
from suite.graph.ir import ATTRS, Graph, GraphError, Node, Op
from suite.graph.partition import Segment, World
from suite.graph.wire import I8_LANES, NONE, DType, Layout, TensorKind, aligned
from suite.policy import OutputPolicy, PolicyKind


class FormatError(GraphError):
    """A deployment that the format cannot hold, or bytes that are not a model file; says which and where."""


def pack_public(segments: Sequence[Segment], policy: OutputPolicy, model_id: bytes) -> bytes:
    """The public file of a deployment.

    Args:
        segments: every step of a query, as :func:`suite.graph.partition.split` gives them.
        policy: what leaves the last segment.
        model_id: 16 bytes, the same for both files of a deployment.

    Raises:
        FormatError: the segments are not a query from one image to one (n_classes,) tensor, or the policy's
        argument
            is out of range.
    """
    n_classes = _check(segments, policy, model_id)
    hidden_answer = segments[-1].world is World.TEE
    file = _File()
    tensors = _Activations(file, place_public(segments))
    if hidden_answer and policy.kind is PolicyKind.LABEL:
        tensors.add(segments[-1].graph.outputs[0], (1,))
    for segment in segments:
        steps = fuse(segment.graph) if segment.world is World.REE else ()
        file.add_segment(segment, steps, tensors)
    stated = None if hidden_answer else policy
    return file.to_bytes(World.REE, tensors.arena.size, stated, n_classes, model_id)


def pack_sealed(segments: Sequence[Segment], policy: OutputPolicy, model_id: bytes) -> bytes:
    """The sealed file of the same deployment, in the clear (whoever stores it encrypts it).

    Arguments and errors as for :func:`pack_public`; FormatError also when no segment is in the TEE.
    """
    n_classes = _check(segments, policy, model_id)
    hidden = [segment for segment in segments if segment.world is World.TEE]
    if not hidden:
        raise FormatError("nothing is in the TEE: such a deployment has no sealed file")
    file = _File()
    arena_bytes = 0
    for segment in hidden:
        arena = place_sealed(segment.graph)
        arena_bytes = max(arena_bytes, arena.size)
        file.add_segment(segment, fuse(segment.graph), _Activations(file, arena))
    stated = policy if segments[-1].world is World.TEE else None
    return file.to_bytes(World.TEE, arena_bytes, stated, n_classes, model_id)


def can_stream(node: Node) -> bool:
    """Whether a layer's filter may come in slices: on int8, and not in groups of channels (or of one alone)."""
    if not node.is_quantized:
        return False
    return node.op is Op.LINEAR or (node.attrs["groups"] == 1 and node.weights["weight"].shape[:2] != (1, 1))


def slice_sizes(node: Node) -> tuple[int, ...]:
    """Bytes of each slice of a node's filter; none when it does not come in slices."""
    rest = node.weights["weight"].shape[1:] if node.slices else ()
    return tuple(packing.stored_floats((count, *rest), Layout.DOT4, 1) for count in node.slices)


def pack_slices(segments: Sequence[Segment]) -> tuple[bytes, ...]:
    """The streamed filters' slices, in the clear, in the order in which a query needs them; none where none stream."""
    found = []
    for segment in segments:
        for node in segment.graph.nodes:
            first = 0
            for count in node.slices:
                part = node.weights["weight"][first : first + count]
                found.append(packing.pack(part, Layout.DOT4, 1).tobytes())
                first += count
    return tuple(found)


def sealed_bytes(segments: Sequence[Segment]) -> int:
    """Size of the sealed file without making it; 0 when nothing is in the TEE."""
    file = _File()
    hidden = [segment for segment in segments if segment.world is World.TEE]
    for segment in hidden:
        file.add_segment(segment, fuse(segment.graph), _Activations(file, place_sealed(segment.graph)))
    return file.offsets()["end"] if hidden else 0


def _check(segments: Sequence[Segment], policy: OutputPolicy, model_id: bytes) -> int:
    """Refuse what the format cannot say; return the number of classes."""
    if not segments:
        raise FormatError("a deployment needs at least one segment")
    first, last = segments[0].graph, segments[-1].graph
    if len(first.inputs) != 1:
        raise FormatError(f"a query is one image, but the first segment takes {list(first.inputs)}")
    if len(last.outputs) != 1 or len(last.shapes[last.outputs[0]]) != 1:
        shapes = {name: last.shapes[name] for name in last.outputs}
        raise FormatError(f"an answer is one tensor (n_classes,), but the last segment makes {shapes}")
    if first.inputs[0] in first.scales or last.outputs[0] in last.scales:
        raise FormatError("a query and its answer are float32: quantize after the one, dequantize before the other")
    for segment in segments:
        for node in segment.graph.nodes:
            _check_slices(node, segment.world)
    known = set(first.inputs)
    for index, segment in enumerate(segments):
        if missing := [name for name in segment.graph.inputs if name not in known]:
            raise FormatError(f"segment {index} takes {missing[0]!r}, which no segment before it hands out")
        known.update(segment.graph.outputs)
    if len(model_id) != 16:
        raise FormatError(f"a model id has 16 bytes, not {len(model_id)}")
    n_classes = last.shapes[last.outputs[0]][0]
    if policy.kind is PolicyKind.TOPK and policy.arg > n_classes:
        raise FormatError(f"output policy {policy} asks for more than the model's {n_classes} classes")
    return n_classes


def _check_slices(node: Node, world: World) -> None:
    if not node.slices:
        return
    whole = can_stream(node) and sum(node.slices) == len(node.weights["bias"])
    if world is World.REE or not whole or min(node.slices) < 1 or any(n % I8_LANES for n in node.slices[:-1]):
        raise FormatError(
            f"layer {node.layer!r} cannot come in slices of {list(node.slices)} channels: that takes an int8 layer in"
            f" the TEE, not in groups, and slices that add up to its channels, all but the last multiples of {I8_LANES}"
        )


class _File:
    """The sections of one file as they grow."""

    def __init__(self) -> None:
        self.tensors: list[tuple[TensorKind, Layout, DType, tuple[int, ...], int, int, float]] = []
        self.ops: list[dict[str, int | list[int]]] = []
        self.segments: list[tuple[int, ...]] = []
        self.refs: list[int] = []
        self.slices: list[tuple[int, int, int, int]] = []
        self.weights: list[tuple[int, Node, str, Layout, int]] = []
        self.weights_bytes = 0

    def add_tensor(
        self,
        kind: TensorKind,
        layout: Layout,
        dtype: DType,
        shape: tuple[int, ...],
        offset: int,
        size: int,
        scale: float = 0.0,
    ) -> int:
        self.tensors.append((kind, layout, dtype, shape, offset, size, scale))
        return len(self.tensors) - 1

    def add_refs(self, indices: Sequence[int]) -> tuple[int, int]:
        first = len(self.refs)
        self.refs.extend(indices)
        return first, len(indices)

    def add_weight(self, graph: Graph, node: Node, key: str) -> int:
        layout = packing.layout_of(graph, node, key)
        groups = node.attrs.get("groups", 1)
        weight = node.weights[key]
        size = packing.stored_bytes(weight, layout, groups)
        if key == "weight" and node.slices:
            return self.add_tensor(TensorKind.STREAMED, layout, DType.INT8, weight.shape, 0, size)
        offset = self.weights_bytes
        self.weights.append((offset, node, key, layout, groups))
        self.weights_bytes = aligned(offset + size)
        return self.add_tensor(TensorKind.WEIGHT, layout, packing.dtype_of(weight), weight.shape, offset, size)

    def add_segment(self, segment: Segment, steps: Sequence[Step], tensors: _Activations) -> None:
        graph = segment.graph
        inputs = [tensors.index(name, graph) for name in graph.inputs]
        first_op = len(self.ops)
        for step in steps:
            self.add_op(step, graph, tensors)
        outputs = [tensors.index(name, graph) for name in graph.outputs]
        self.segments.append(
            (
                wire.WORLDS[segment.world],
                first_op if steps else 0,
                len(steps),
                *self.add_refs(inputs),
                *self.add_refs(outputs),
                0,
            )
        )

    def add_op(self, step: Step, graph: Graph, tensors: _Activations) -> None:
        node = step.node
        first, count = self.add_refs([tensors.index(name, graph) for name in node.inputs])
        output = tensors.index(step.output, graph)
        weights = [self.add_weight(graph, node, key) for key in node.weight_keys]
        first_channel = 0
        for channels, size in zip(node.slices, slice_sizes(node), strict=True):
            self.slices.append((len(self.ops), first_channel, channels, size))
            first_channel += channels
        attrs = [node.attrs[key] for key in ATTRS.get(node.op, ())]
        self.ops.append(
            {
                "kind": wire.OP_KINDS[node.op],
                "fused": wire.OP_KINDS[step.fused] if step.fused else 0,
                "first_input": first,
                "n_inputs": count,
                "output": output,
                "weight": weights[0] if weights else NONE,
                "bias": weights[1] if weights else NONE,
                "multiplier": weights[2] if len(weights) > 2 else NONE,
                "attr": attrs + [0] * (wire.OP["attr"].shape[0] - len(attrs)),
            }
        )

    def offsets(self) -> Mapping[str, int]:
        """Where each section begins, and ``end``, the size of the file."""
        sizes = {
            "tensors": wire.TENSOR.itemsize * len(self.tensors),
            "ops": wire.OP.itemsize * len(self.ops),
            "segments": wire.SEGMENT.itemsize * len(self.segments),
            "refs": wire.REF.itemsize * len(self.refs),
            "weights": self.weights_bytes,
            "slices": wire.SLICE.itemsize * len(self.slices),
            "slice_key": wire.SLICE_KEY_BYTES if self.slices else 0,
        }
        at = aligned(wire.HEADER.itemsize)
        result = {}
        for name, size in sizes.items():
            result[name] = at
            at += aligned(size)
        return result | {"end": at}

    def to_bytes(
        self, world: World, arena_bytes: int, policy: OutputPolicy | None, n_classes: int, model_id: bytes
    ) -> bytes:
        at = self.offsets()
        if max(at["end"], arena_bytes) >= 2**32:
            raise FormatError(f"the model takes {max(at['end'], arena_bytes)} bytes; the format ends at 4 GiB")
        out = bytearray(at["end"])
        header = np.zeros((), wire.HEADER)
        for name, value in {
            "magic": wire.MAGIC,
            "version": wire.VERSION,
            "file_bytes": at["end"],
            "world": wire.WORLDS[world],
            "weights_off": at["weights"],
            "weights_bytes": self.weights_bytes,
            "arena_bytes": arena_bytes,
            "policy": policy.kind if policy else 0,
            "policy_arg": policy.arg if policy else 0,
            "n_classes": n_classes,
            "slice_bytes": max((size for *_, size in self.slices), default=0),
            "slice_key_off": at["slice_key"] if self.slices else 0,
        }.items():
            header[name] = value
        header["model_id"] = np.frombuffer(model_id, "<u4")
        tensors = np.zeros(len(self.tensors), wire.TENSOR)
        for row, (kind, layout, dtype, shape, offset, size, scale) in zip(tensors, self.tensors, strict=True):
            row["kind"], row["layout"], row["dtype"], row["rank"] = kind, layout, dtype, len(shape)
            row["dims"] = (*shape, *(1,) * (4 - len(shape)))
            row["offset"], row["bytes"], row["scale"] = offset, size, scale
        ops = np.zeros(len(self.ops), wire.OP)
        for row, fields in zip(ops, self.ops, strict=True):
            for name, field in fields.items():
                row[name] = field
        segments = np.array(self.segments, wire.SEGMENT)
        refs = np.array(self.refs, wire.REF)
        slices = np.array(self.slices, wire.SLICE)
        tables = {"tensors": tensors, "ops": ops, "segments": segments, "refs": refs, "slices": slices}
        for name, section in tables.items():
            header[f"n_{name}"], header[f"{name}_off"] = len(section), at[name]
            out[at[name] : at[name] + section.nbytes] = section.tobytes()
        out[: wire.HEADER.itemsize] = header.tobytes()
        for offset, node, key, layout, groups in self.weights:
            data = packing.pack(node.weights[key], layout, groups).tobytes()
            start = at["weights"] + offset
            out[start : start + len(data)] = data
        return bytes(out)


class _Activations:
    """The activation tensors of one arena, added to a file when they are first named."""

    def __init__(self, file: _File, arena: Arena) -> None:
        self.file = file
        self.arena = arena
        self.indices: dict[str, int] = {}

    def add(self, name: str, shape: tuple[int, ...], scale: float = 0.0) -> int:
        """Describe tensor ``name`` with ``shape``: float32, or int8 where it has a ``scale``."""
        layout = Layout.CHANNELS_LAST if scale and len(shape) == 3 else Layout.PLAIN
        dtype = DType.INT8 if scale else DType.FLOAT32
        size = wire.NUMPY_DTYPES[dtype].itemsize * int(np.prod(shape))
        index = self.file.add_tensor(TensorKind.ACTIVATION, layout, dtype, shape, self.arena.offsets[name], size, scale)
        self.indices[name] = index
        return index

    def index(self, name: str, graph: Graph) -> int:
        index = self.indices.get(name)
        return self.add(name, graph.shapes[name], graph.scales.get(name, 0.0)) if index is None else index
