"""One traced ATen call on its way into the graph: its arguments by name, and the errors that name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from suite.graph.ir import GraphError, Node, Op, Weights

Value = str | Tensor | tuple[str | None, ...] | None
"""What a call made: the name of a tensor of the graph, a constant, several results, or nothing usable."""


class UnsupportedOperator(GraphError):
    """An operator, or a use of one, that boards do not have; names the operator, the layer and its type."""


@dataclass(frozen=True, slots=True)
class Call:
    """One ATen call on its way into the graph (``nodes`` and ``shapes`` grow)."""

    node: fx.Node
    layer: str
    kind: str
    values: Mapping[fx.Node, Value]
    nodes: list[Node]
    shapes: dict[str, tuple[int, ...]]

    @property
    def operator(self) -> str:
        """The operator without overload: ``aten.conv2d``; in-place forms lose their underscore."""
        if not isinstance(self.node.target, OpOverload):
            return str(self.node.target)
        packet = str(self.node.target.overloadpacket)
        return packet.removesuffix("_")

    def unsupported(self, reason: str) -> UnsupportedOperator:
        """The error for this call."""
        return UnsupportedOperator(
            f"operator {self.node.target} of layer {self.layer!r} ({self.kind}): {reason}; boards run "
            f"{', '.join(Op)} (see suite/graph/ir.py Op)"
        )

    def arg(self, name: str) -> Any:
        """The argument ``name`` of the ATen schema, its default when not given, None when there is none."""
        target = self.node.target
        assert isinstance(target, OpOverload)
        for index, argument in enumerate(target._schema.arguments):
            if argument.name == name:
                if index < len(self.node.args):
                    return self.node.args[index]
                return self.node.kwargs.get(name, argument.default_value)
        return None

    def tensor(self, name: str) -> str:
        """The graph tensor that argument ``name`` is."""
        return self.name_of(self.arg(name), name)

    def name_of(self, argument: Any, name: str) -> str:
        """The graph tensor that ``argument``, called ``name`` in messages, is."""
        value = self.values[argument] if isinstance(argument, fx.Node) else argument
        if isinstance(value, str):
            return value
        if isinstance(value, Tensor | float | int):
            raise self.unsupported(f"its {name!r} is a constant, not computed from the image")
        raise self.unsupported(f"its {name!r} is nothing that boards compute")

    def constant(self, name: str) -> Tensor | None:
        """The constant that argument ``name`` is, on the CPU, or None where none is given."""
        argument = self.arg(name)
        if argument is None:
            return None
        value = self.values[argument] if isinstance(argument, fx.Node) else None
        if not isinstance(value, Tensor):
            raise self.unsupported(f"its {name!r} is computed from the image, not a parameter of the model")
        return value.cpu()

    def rank(self, name: str, rank: int) -> str:
        """The graph tensor that argument ``name`` is, which must have ``rank`` dimensions, batch included."""
        tensor = self.tensor(name)
        if len(self.shapes[tensor]) + 1 != rank:
            raise self.unsupported(
                f"it is applied to {(1, *self.shapes[tensor])}, and boards do so only to rank {rank}"
            )
        return tensor

    def made(self) -> Tensor:
        """The (fake) tensor that the call made, for its shape; the first one of several."""
        value = self.node.meta["val"]
        first = value[0] if isinstance(value, tuple | list) else value
        assert isinstance(first, Tensor)
        return first

    def emit(
        self,
        op: Op,
        inputs: tuple[str, ...],
        attrs: Mapping[str, int] | None = None,
        weights: Mapping[str, Weights] | None = None,
        *,
        shape: tuple[int, ...] | None = None,
        suffix: str = "",
    ) -> str:
        """Append a node that makes this call's result, of ``shape`` (else as traced); return its tensor."""
        made = self.made()
        if made.dtype != torch.float32:
            raise self.unsupported(f"it computes in {made.dtype}, boards in float32")
        if made.shape[0] != 1:
            raise self.unsupported(f"it makes {tuple(made.shape)} of one image, without the batch dimension")
        name = self.node.name + suffix
        self.nodes.append(Node(name, op, inputs, name, self.layer, attrs or {}, weights or {}))
        self.shapes[name] = tuple(int(d) for d in made.shape[1:]) if shape is None else shape
        return name
