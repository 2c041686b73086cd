"""Reading a model file back into graphs: for tests, and for whoever looks into a public file.

Names are not stored: tensors come back as ``t<index>``, operators as ``op<index>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.graph import packing, wire
from suite.graph.format import FormatError
from suite.graph.ir import ATTRS, QUANTIZED_WEIGHTS, WEIGHTS, Graph, GraphError, Node, Op, Weights
from suite.graph.partition import Segment, World
from suite.graph.wire import NONE, NUMPY_DTYPES, DType, Layout, TensorKind
from suite.policy import OutputPolicy, PolicyKind

_OPS = {number: op for op, number in wire.OP_KINDS.items()}
_WORLDS = {number: world for world, number in wire.WORLDS.items()}


@dataclass(frozen=True, slots=True)
class Place:
    """An activation tensor: its shape, and the bytes ``offset .. offset + size`` it takes in the arena.

    With a ``scale`` it is int8, channels last; without (0) float32.
    """

    shape: tuple[int, ...]
    offset: int
    size: int
    scale: float = 0.0


@dataclass(frozen=True, slots=True)
class FileSegment:
    """One step of a query as a file tells it; ``graph`` is None for a TEE segment in a public file."""

    world: World
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    graph: Graph | None


@dataclass(frozen=True, slots=True)
class ModelFile:
    """All that one file says. ``policy`` is None in the file that does not make the answer."""

    world: World
    segments: tuple[FileSegment, ...]
    places: Mapping[str, Place]
    arena_bytes: int
    policy: OutputPolicy | None
    n_classes: int
    model_id: bytes

    def as_segments(self) -> tuple[Segment, ...]:
        """The segments whose operators the file holds."""
        return tuple(Segment(s.world, s.graph) for s in self.segments if s.graph is not None)


def parse_file(path: Path) -> ModelFile:
    """Read the model file at ``path``; errors as for :func:`parse`, with the path in front."""
    try:
        return parse(path.read_bytes())
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


def parse(data: bytes) -> ModelFile:
    """Read one model file.

    Raises:
        FormatError: the bytes are no whole model file of this version; says what is wrong and where.
    """
    try:
        return _Parser(data).file()
    except GraphError as error:
        raise (error if isinstance(error, FormatError) else FormatError(f"damaged model file: {error}")) from None
    except (ValueError, LookupError, ArithmeticError, StopIteration) as error:
        # Shapes, layouts and groups that contradict each other show only when the arrays are built.
        raise FormatError(f"damaged model file: {error or type(error).__name__}") from None


class _Parser:
    def __init__(self, data: bytes) -> None:
        if len(data) < wire.HEADER.itemsize:
            raise FormatError(f"no model file: {len(data)} bytes are less than the header's {wire.HEADER.itemsize}")
        self.data = data
        self.header = np.frombuffer(data, wire.HEADER, 1)[0]
        if self.header["magic"] != wire.MAGIC:
            raise FormatError(
                f"no model file: it begins with {int(self.header['magic']):#010x}, not {wire.MAGIC:#010x}"
            )
        if self.header["version"] != wire.VERSION:
            raise FormatError(f"model file of version {self.header['version']}; this program reads {wire.VERSION}")
        if self.header["file_bytes"] != len(data):
            raise FormatError(f"damaged model file: {len(data)} bytes, its header says {self.header['file_bytes']}")
        if int(self.header["world"]) not in _WORLDS:
            raise FormatError(f"damaged model file: world {self.header['world']} does not exist")
        self.tensors = self._section("tensors", wire.TENSOR)
        self.ops = self._section("ops", wire.OP)
        self.segments = self._section("segments", wire.SEGMENT)
        self.refs = self._section("refs", wire.REF)
        self.slices = self._section("slices", wire.SLICE)
        start, size = int(self.header["weights_off"]), int(self.header["weights_bytes"])
        if start + size > len(data):
            raise FormatError("damaged model file: the weights reach past its end")
        self.weights = data[start : start + size]
        self.places: dict[str, Place] = {}

    def _section(self, name: str, kind: np.dtype[Any]) -> NDArray[Any]:
        count, start = int(self.header[f"n_{name}"]), int(self.header[f"{name}_off"])
        if start % wire.ALIGN or start + count * kind.itemsize > len(self.data):
            raise FormatError(f"damaged model file: section {name!r} ({count} at {start}) is not within it")
        return np.frombuffer(self.data, kind, count, start)

    def file(self) -> ModelFile:
        kind = int(self.header["policy"])
        if kind and kind not in list(PolicyKind):
            raise FormatError(f"damaged model file: output policy {kind} does not exist")
        world = _WORLDS[int(self.header["world"])]
        return ModelFile(
            world,
            tuple(self._segment(row, world) for row in self.segments),
            self.places,
            int(self.header["arena_bytes"]),
            OutputPolicy(PolicyKind(kind), int(self.header["policy_arg"])) if kind else None,
            int(self.header["n_classes"]),
            self.header["model_id"].tobytes(),
        )

    def _segment(self, row: Any, file_world: World) -> FileSegment:
        if int(row["world"]) not in _WORLDS:
            raise FormatError(f"damaged model file: a segment's world {row['world']} does not exist")
        world = _WORLDS[int(row["world"])]
        inputs = self._range(int(row["first_input"]), int(row["n_inputs"]))
        outputs = self._range(int(row["first_output"]), int(row["n_outputs"]))
        first, count = int(row["first_op"]), int(row["n_ops"])
        if first + count > len(self.ops):
            raise FormatError(f"damaged model file: a segment's operators {first}+{count} do not exist")
        if world is not file_world and not count:
            return FileSegment(world, inputs, outputs, None)
        nodes = tuple(node for index in range(first, first + count) for node in self._nodes(index))
        names = dict.fromkeys([*inputs, *(node.output for node in nodes)])
        shapes = {name: self._shape_of(name, nodes) for name in names}
        scales = {name: scale for name in names if (scale := self._scale_of(name, nodes))}
        return FileSegment(world, inputs, outputs, Graph(inputs, outputs, nodes, shapes, scales))

    def _place_of(self, name: str, nodes: tuple[Node, ...]) -> Place:
        if name in self.places:
            return self.places[name]
        # The tensor between an operator and the activation fused into it exists only in the graph.
        return next(self.places[node.output] for node in nodes if node.inputs == (name,))

    def _shape_of(self, name: str, nodes: tuple[Node, ...]) -> tuple[int, ...]:
        return self._place_of(name, nodes).shape

    def _scale_of(self, name: str, nodes: tuple[Node, ...]) -> float:
        return self._place_of(name, nodes).scale

    def _range(self, first: int, count: int) -> tuple[str, ...]:
        if first + count > len(self.refs):
            raise FormatError(f"damaged model file: references {first}+{count} do not exist")
        return tuple(self._activation(int(index)) for index in self.refs[first : first + count])

    def _tensor(self, index: int, *kinds: TensorKind) -> tuple[tuple[int, ...], int, int]:
        """Shape, offset and bytes of the tensor ``index``, which must be of one of ``kinds``."""
        if index >= len(self.tensors) or self.tensors[index]["kind"] not in kinds:
            raise FormatError(f"damaged model file: tensor {index} is no {kinds[0].name.lower()}")
        row = self.tensors[index]
        if not 1 <= row["rank"] <= 4:
            raise FormatError(f"damaged model file: tensor {index} has rank {row['rank']}")
        return tuple(int(d) for d in row["dims"][: row["rank"]]), int(row["offset"]), int(row["bytes"])

    def _activation(self, index: int) -> str:
        name = f"t{index}"
        shape, offset, size = self._tensor(index, TensorKind.ACTIVATION)
        if offset + size > self.header["arena_bytes"]:
            raise FormatError(f"damaged model file: tensor {index} lies outside the arena")
        self.places[name] = Place(shape, offset, size, float(self.tensors[index]["scale"]))
        return name

    def _weight(self, index: int, groups: int) -> Weights:
        shape, offset, size = self._tensor(index, TensorKind.WEIGHT, TensorKind.STREAMED)
        layout = Layout(int(self.tensors[index]["layout"]))
        dtype = NUMPY_DTYPES[DType(int(self.tensors[index]["dtype"]))]
        if self.tensors[index]["kind"] == TensorKind.STREAMED:
            return np.zeros(shape, dtype)  # it is not in the file
        if offset + size > len(self.weights) or size != dtype.itemsize * packing.stored_floats(shape, layout, groups):
            raise FormatError(f"damaged model file: weight {index} has {size} bytes at {offset}")
        return packing.unpack(np.frombuffer(self.weights, dtype, size // dtype.itemsize, offset), shape, layout, groups)

    def _nodes(self, index: int) -> list[Node]:
        """Operator ``index``, and the activation fused into it as a node of its own."""
        row = self.ops[index]
        if int(row["kind"]) not in _OPS:
            raise FormatError(f"damaged model file: operator {index} is of unknown kind {row['kind']}")
        op = _OPS[int(row["kind"])]
        attrs = {key: int(value) for key, value in zip(ATTRS.get(op, ()), row["attr"], strict=False)}
        indices = [int(row[key]) for key in ("weight", "bias", "multiplier") if row[key] != NONE]
        keys = QUANTIZED_WEIGHTS if row["multiplier"] != NONE and op in WEIGHTS else WEIGHTS.get(op, ())
        if len(indices) != len(keys):
            raise FormatError(f"damaged model file: operator {index} ({op}) has {len(indices)} weights")
        groups = max(attrs.get("groups", 1), 1)
        weights = {key: self._weight(at, groups) for key, at in zip(keys, indices, strict=True)}
        slices = tuple(int(n) for n in self.slices[self.slices["op"] == index]["count"])
        inputs = self._range(int(row["first_input"]), int(row["n_inputs"]))
        output = self._activation(int(row["output"]))
        name = f"op{index}"
        if not row["fused"]:
            return [Node(name, op, inputs, output, name, attrs, weights, slices)]
        fused = _OPS.get(int(row["fused"]))
        if fused not in (Op.RELU, Op.RELU6):
            raise FormatError(f"damaged model file: operator {index} fuses kind {row['fused']}")
        between = f"{output}.{op}"
        return [
            Node(name, op, inputs, between, name, attrs, weights, slices),
            Node(f"{name}.{fused}", fused, (between,), output, name),
        ]
