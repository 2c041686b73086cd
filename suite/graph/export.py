"""From a PyTorch model to an operator graph: trace, translate call by call, fold batch norms."""

from __future__ import annotations

import operator
import re

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram

from suite.graph.aten import RULES
from suite.graph.call import Call, UnsupportedOperator, Value
from suite.graph.capture import Capture, capture, capture_program
from suite.graph.fold import fold_batch_norms, without_dead_nodes
from suite.graph.ir import Graph, GraphError, Node, Op

IMAGE = "image"
"""The name of an exported graph's input tensor."""

__all__ = ["IMAGE", "UnsupportedOperator", "export_graph", "export_program"]


def export_graph(model: nn.Module, input_shape: tuple[int, ...], *, softmax: bool) -> Graph:
    """Translate ``model``, in eval mode, for images of ``input_shape``: (C, H, W) or (F,), without batch.

    With ``softmax`` a model that does not end in one gets one, so that the graph answers probabilities. Batch
    norms are folded into the convolution or linear layer before them. The model itself is not changed.

    Raises:
        UnsupportedOperator: the model uses an operator that boards do not have; names it and its layer.
        GraphError: the model is not one float32 tensor to one, or cannot be traced.
    """
    if len(input_shape) not in (1, 3) or min(input_shape) < 1:
        raise GraphError(f"input shape {input_shape} is neither (C, H, W) nor (F,); it has no batch dimension")
    return _finished(capture(model, input_shape), type(model).__name__, softmax)


def export_program(program: ExportedProgram, model: str, *, softmax: bool) -> Graph:
    """As :func:`export_graph`, of what ``torch.export`` made for one image; ``model`` names it in messages.

    Raises:
        UnsupportedOperator, GraphError: see there.
    """
    return _finished(capture_program(program, model), model, softmax)


def _finished(traced: Capture, model: str, softmax: bool) -> Graph:
    graph = fold_batch_norms(without_dead_nodes(_translate(traced, model)))
    return _with_softmax(graph) if softmax else graph


def _translate(traced: Capture, model: str) -> Graph:
    values: dict[fx.Node, Value] = {traced.image: IMAGE, **traced.constants}
    nodes: list[Node] = []
    shapes: dict[str, tuple[int, ...]] = {IMAGE: tuple(traced.image.meta["val"].shape[1:])}
    for fx_node in traced.nodes:
        values[fx_node] = _value(fx_node, values, nodes, shapes)
    answer = values.get(traced.result)
    if not isinstance(answer, str) or answer == IMAGE:
        raise GraphError(f"{model} computes nothing from its input")
    return Graph((IMAGE,), (answer,), tuple(nodes), shapes)


def _value(
    fx_node: fx.Node, values: dict[fx.Node, Value], nodes: list[Node], shapes: dict[str, tuple[int, ...]]
) -> Value:
    """What ``fx_node`` makes; appends the nodes that a board must run for it."""
    layer, kind = _layer(fx_node)
    arguments = [values[node] for node in fx_node.all_input_nodes]
    if isinstance(fx_node.target, OpOverload) and all(isinstance(value, Tensor) for value in arguments):
        # It depends on constants alone: a transposed or re-parametrised weight, for example.
        args, kwargs = fx.map_arg((fx_node.args, fx_node.kwargs), lambda node: values[node])
        with torch.no_grad():
            return fx_node.target(*args, **kwargs)  # type: ignore[no-any-return]
    if fx_node.target is operator.getitem:
        whole, index = values[fx_node.args[0]], fx_node.args[1]  # type: ignore[index]
        if isinstance(whole, tuple) and isinstance(index, int) and whole[index] is not None:
            return whole[index]
        # Of a pooling's or batch norm's results only the first exists on a board; the rest may not be used.
        return None
    call = Call(fx_node, layer, kind, values, nodes, shapes)
    rule = RULES.get(call.operator)
    if rule is None:
        raise call.unsupported("boards have no such operator")
    return rule(call)


def _layer(fx_node: fx.Node) -> tuple[str, str]:
    """The dotted path of the module that ``fx_node`` came from, and the module's class."""
    stack = fx_node.meta.get("nn_module_stack") or {}
    if not stack:
        return "(model)", "Module"
    path, kind = list(stack.values())[-1]
    path = re.sub(r"^L\['self'\]\.?|@\d+", "", path)
    name = kind if isinstance(kind, str) else kind.__qualname__
    return path or "(model)", name.rpartition(".")[2]


def _with_softmax(graph: Graph) -> Graph:
    answer = graph.outputs[0]
    if graph.nodes[-1].op is Op.SOFTMAX and graph.nodes[-1].output == answer:
        return graph
    if len(graph.shapes[answer]) != 1:
        raise GraphError(f"a softmax needs (n_classes,) values, but the model returns {graph.shapes[answer]}")
    name = "softmax"
    while name in graph.shapes:
        name += "_"
    node = Node(name, Op.SOFTMAX, (answer,), name, name)
    return Graph(graph.inputs, (name,), (*graph.nodes, node), {**graph.shapes, name: graph.shapes[answer]})
