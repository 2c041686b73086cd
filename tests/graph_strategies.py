"""Random operator graphs for hypothesis: one image in, class probabilities out, every node of use."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from hypothesis import strategies as st

from suite.graph.ir import Graph, Node, Op, float_bits
from suite.graph.reference import apply


@dataclass
class _Builder:
    rng: np.random.Generator
    shapes: dict[str, tuple[int, ...]]
    nodes: list[Node] = field(default_factory=list)

    def floats(self, *shape: int) -> np.ndarray:
        fan = max(int(np.prod(shape[1:])), 1)
        return (self.rng.standard_normal(shape) / fan**0.5).astype(np.float32)

    def add(self, op: Op, inputs: tuple[str, ...], attrs=None, weights=None) -> str:
        name = f"{op}{len(self.nodes)}"
        node = Node(name, op, inputs, f"{name}.out", f"layer{len(self.nodes)}", attrs or {}, weights or {})
        made = apply(node, [torch.zeros(1, *self.shapes[t]) for t in inputs])
        self.nodes.append(node)
        self.shapes[node.output] = tuple(made.shape[1:])
        return node.output


def _conv(draw, b: _Builder, source: str) -> str:
    channels, height, width = b.shapes[source]
    kind = draw(st.sampled_from(["dense", "dense", "grouped", "depthwise"]))
    out = draw(st.integers(1, 18))
    groups = 1
    if kind == "depthwise":
        groups = out = channels
    elif kind == "grouped" and channels % 2 == 0:
        groups, out = 2, 2 * draw(st.integers(1, 9))
    pads = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    dilation = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    room = [(size + 2 * p - 1) // d + 1 for size, p, d in zip((height, width), pads, dilation, strict=True)]
    kernel = [draw(st.integers(1, min(3, r))) for r in room]
    attrs = {
        "stride_h": draw(st.integers(1, 2)),
        "stride_w": draw(st.integers(1, 3)),
        "pad_h": pads[0],
        "pad_w": pads[1],
        "dilation_h": dilation[0],
        "dilation_w": dilation[1],
        "groups": groups,
    }
    weights = {"weight": b.floats(out, channels // groups, *kernel), "bias": b.floats(out)}
    return b.add(Op.CONV2D, (source,), attrs, weights)


def _pool(draw, b: _Builder, source: str, op: Op) -> str:
    _, height, width = b.shapes[source]
    kernel = [draw(st.integers(1, min(3, size))) for size in (height, width)]
    attrs = {
        "kernel_h": kernel[0],
        "kernel_w": kernel[1],
        "stride_h": draw(st.integers(1, 2)),
        "stride_w": draw(st.integers(1, 3)),
        "pad_h": draw(st.integers(0, kernel[0] // 2)),
        "pad_w": draw(st.integers(0, kernel[1] // 2)),
        "ceil": draw(st.integers(0, 1)),
    }
    if op is Op.MAX_POOL2D:
        attrs |= {"dilation_h": 1, "dilation_w": 1}
    else:
        attrs["count_include_pad"] = draw(st.integers(0, 1))
    return b.add(op, (source,), attrs)


def _step(draw, b: _Builder, images: list[str]) -> str:
    """Append one node that reads one or two of ``images``, the newer the likelier."""
    source = images[-1 - min(draw(st.sampled_from([0, 0, 0, 1, 2])), len(images) - 1)]
    shape = b.shapes[source]
    op = draw(st.sampled_from([Op.CONV2D, Op.CONV2D, *(o for o in Op if o not in _TAIL)]))
    if op is Op.CONV2D:
        return _conv(draw, b, source)
    if op in (Op.MAX_POOL2D, Op.AVG_POOL2D):
        return _pool(draw, b, source, op)
    if op is Op.ADAPTIVE_AVG_POOL2D:
        size = {"out_h": draw(st.integers(1, shape[1])), "out_w": draw(st.integers(1, shape[2]))}
        return b.add(op, (source,), size)
    if op is Op.BATCH_NORM:
        return b.add(op, (source,), None, {"scale": b.floats(shape[0]), "shift": b.floats(shape[0])})
    if op is Op.LEAKY_RELU:
        return b.add(op, (source,), {"slope_bits": float_bits(draw(st.sampled_from([0.0, 0.01, 0.1, 1.0])))})
    if op is Op.ADD:
        other = draw(st.sampled_from([t for t in images if b.shapes[t] == shape]))
        return b.add(op, (source, other))
    if op is Op.CONCAT:
        partners = [t for t in images if b.shapes[t][1:] == shape[1:] and b.shapes[t][0] + shape[0] <= 24]
        return b.add(op, (source, draw(st.sampled_from(partners)))) if partners else b.add(Op.RELU, (source,))
    return b.add(op, (source,))


_TAIL = (Op.LINEAR, Op.FLATTEN, Op.SOFTMAX, Op.QUANTIZE, Op.DEQUANTIZE)


@st.composite
def graphs(draw, max_steps: int = 8) -> Graph:
    """A graph of every operator, with branches that join again; ends in linear and softmax."""
    b = _Builder(np.random.default_rng(draw(st.integers(0, 2**32 - 1))), {})
    b.shapes["image"] = (draw(st.integers(1, 4)), draw(st.integers(3, 12)), draw(st.integers(3, 12)))
    images = ["image"]
    for _ in range(draw(st.integers(1, max_steps))):
        images.append(_step(draw, b, images))
    read = {t for node in b.nodes for t in node.inputs}
    ends = [b.add(Op.FLATTEN, (t,)) for t in images if t not in read]
    joined = ends[0] if len(ends) == 1 else b.add(Op.CONCAT, tuple(ends))
    classes = draw(st.integers(2, 11))
    weights = {"weight": b.floats(classes, b.shapes[joined][0]), "bias": b.floats(classes)}
    logits = b.add(Op.LINEAR, (joined,), None, weights)
    if draw(st.booleans()):
        logits = b.add(draw(st.sampled_from([Op.RELU, Op.RELU6])), (logits,))
    answer = b.add(Op.SOFTMAX, (logits,))
    return Graph(("image",), (answer,), tuple(b.nodes), b.shapes)


@st.composite
def split_graphs(draw) -> tuple[Graph, frozenset[str]]:
    """A graph and the names of the nodes that go to the TEE, of any pattern."""
    graph = draw(graphs())
    flags = draw(st.lists(st.booleans(), min_size=len(graph.nodes), max_size=len(graph.nodes)))
    return graph, frozenset(node.name for node, flag in zip(graph.nodes, flags, strict=True) if flag)


def images_for(graph: Graph, count: int = 2) -> dict[str, np.ndarray]:
    """Standard normal images [count, *shape]; the same ones for the same graph."""
    rng = np.random.default_rng(len(graph.nodes))
    return {"image": rng.standard_normal((count, *graph.shapes["image"])).astype(np.float32)}
