"""Where a module drops values out while it is trained: exported graphs, which answer queries, know nothing of it."""

from __future__ import annotations

from torch import fx, nn
from torch._ops import OpOverload

from suite.graph.capture import capture
from suite.graph.ir import Graph, GraphError

_THROUGH = ("aten.dropout", "aten.clone", "aten.contiguous", "aten.alias", "aten.detach")
_OTHERS = ("aten.feature_dropout", "aten.alpha_dropout", "aten.feature_alpha_dropout")


def dropouts_of(model: nn.Module, input_shape: tuple[int, ...], graph: Graph) -> dict[str, float]:
    """The probability of becoming 0 by tensor of ``graph``, the export of ``model``.

    Raises:
        GraphError: a dropout's input is read by something else too, or is no tensor of the graph.
    """
    found: dict[str, float] = {}
    traced = capture(model, input_shape)
    for node in traced.nodes:
        if _operator(node) in _OTHERS:
            raise GraphError(f"{_operator(node)} ({node.name}) drops more than single values: boards cannot train that")
        if _operator(node) != "aten.dropout" or not node.args[1]:
            continue
        source = node.args[0]
        assert isinstance(source, fx.Node)
        while _operator(source) in _THROUGH:
            source = source.all_input_nodes[0]
        if source.name not in graph.shapes:
            raise GraphError(f"a dropout reads {source.name!r}, which the exported graph does not have")
        if len(source.users) > 1:
            raise GraphError(f"a dropout reads {source.name!r}, and so does something else: boards cannot train that")
        found[source.name] = 1 - (1 - found.get(source.name, 0.0)) * (1 - float(node.args[1]))  # type: ignore[arg-type]
    return found


def _operator(node: fx.Node) -> str:
    if not isinstance(node.target, OpOverload):
        return ""
    return str(node.target.overloadpacket).removesuffix("_")
