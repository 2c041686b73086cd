"""Post-training quantization of a graph to int8, calibrated on images.

Symmetric on both sides, without zero points: weights from -127 to 127 with one scale an output channel, activations
with one scale a tensor, found by running the float graph on the calibration images. Zero stays zero, so that padding
can be left out of sums and a ReLU is a limit. What boards cannot do on int8 (softmax, leaky ReLU, a batch norm of
features) stays float32 between a DEQUANTIZE and a QUANTIZE; a linear layer in front of it leaves floats by itself.

Scales of activations follow Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 3, with the extremes, or a percentile of them, instead of moving averages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from suite.graph import reference
from suite.graph.ir import Graph, GraphError, Node, Op, Weights
from suite.graph.reference_i8 import OPERATORS

MOST = 127
MAX_TAPS = 65536
"""``LB_I8_MAX_TAPS``: products in a sum."""
MAX_BIAS = 1 << 30
"""``LB_I8_MAX_BIAS``."""
MAX_RATIO = 64.0
"""``LB_I8_MAX_RATIO``: of the scales of a sum's or concatenation's input and output."""
LEAST_SCALE = 2.0**-60
_BATCH = 64

_KEEPS_SCALE = frozenset({Op.RELU, Op.RELU6, Op.MAX_POOL2D, Op.AVG_POOL2D, Op.ADAPTIVE_AVG_POOL2D, Op.FLATTEN})
"""Operators whose output has the scale of their input."""


def calibrate(graph: Graph, images: NDArray[np.float32], percentile: float) -> dict[str, float]:
    """How large each tensor's values get: the percentile of their magnitudes, averaged over batches of images.

    With 100 it is the largest magnitude of all. Images float32 [N, *shape].

    Raises:
        GraphError: there are no images, or the percentile is not within 50 to 100.
    """
    if not len(images):
        raise GraphError("nothing to calibrate int8 scales on: there are no images")
    if not 50.0 <= percentile <= 100.0:
        raise GraphError(f"calibration percentile {percentile}: 50 to 100 is allowed")
    found: dict[str, list[float]] = {}
    with torch.no_grad():
        for first in range(0, len(images), _BATCH):
            held = {graph.inputs[0]: torch.tensor(images[first : first + _BATCH], dtype=torch.float32)}
            for node in graph.nodes:
                held[node.output] = reference.apply(node, [held[name] for name in node.inputs])
            for name, values in held.items():
                magnitudes = values.abs().flatten().numpy()
                found.setdefault(name, []).append(float(np.percentile(magnitudes, percentile)))
    join = max if percentile == 100.0 else lambda values: sum(values) / len(values)
    return {name: join(values) for name, values in found.items()}


def quantize(graph: Graph, magnitudes: Mapping[str, float]) -> Graph:
    """``graph`` with its convolutions and linear layers, and all between them that boards can do, on int8.

    ``magnitudes`` as :func:`calibrate` gives them. The input and the outputs stay float32.

    Raises:
        GraphError: a layer has more inputs a channel than int32 sums can take.
    """
    return _Quantizer(graph, magnitudes).run()


@dataclass
class _Quantizer:
    graph: Graph
    magnitudes: Mapping[str, float]
    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)

    def run(self) -> Graph:
        graph = self.graph
        self.shapes = dict(graph.shapes)
        planned = self._planned_scales()
        float_inputs = {t for node in graph.nodes if not self._fits(node) for t in node.inputs} | set(graph.outputs)
        int8_inputs = {t for node in graph.nodes if self._fits(node) for t in node.inputs}
        names: dict[str, str] = {}  # of the int8 form of a tensor, where it has two forms
        for name in graph.inputs:
            self._offer(name, name in int8_inputs, planned, names)
        for node in graph.nodes:
            if not self._fits(node):
                self.nodes.append(node)
                self._offer(node.output, node.output in int8_inputs, planned, names)
                continue
            inputs = tuple(names.get(t, t) for t in node.inputs)
            wanted_float, wanted_int8 = node.output in float_inputs, node.output in int8_inputs
            if node.op is Op.LINEAR and not wanted_int8:
                self.nodes.append(self._layer(replace(node, inputs=inputs), None))
                continue
            output = f"{node.output}.int8" if wanted_float else node.output
            self.shapes[output], self.scales[output] = graph.shapes[node.output], planned[node.output]
            names[node.output] = output
            made = replace(node, inputs=inputs, output=output)
            self.nodes.append(self._layer(made, planned[node.output]) if node.weights else made)
            if wanted_float:
                self.nodes.append(Node(f"{node.name}.float", Op.DEQUANTIZE, (output,), node.output, node.layer))
        return Graph(graph.inputs, graph.outputs, tuple(self.nodes), self.shapes, self.scales)

    def _fits(self, node: Node) -> bool:
        """Whether boards have the operator on int8, a batch norm of maps being a convolution."""
        return node.op in OPERATORS or (node.op is Op.BATCH_NORM and len(self.graph.shapes[node.output]) == 3)

    def _offer(self, tensor: str, wanted: bool, planned: Mapping[str, float], names: dict[str, str]) -> None:
        """A float tensor; where int8 operators read it, its int8 form too."""
        if not wanted:
            return
        names[tensor] = output = f"{tensor}.int8"
        self.shapes[output], self.scales[output] = self.shapes[tensor], planned[tensor]
        self.nodes.append(Node(output, Op.QUANTIZE, (tensor,), output, tensor))

    def _planned_scales(self) -> dict[str, float]:
        """A scale for every tensor: one for all that operators hand on unchanged, from the last of them."""
        leader = {name: name for name in self.graph.shapes}

        def lead(name: str) -> str:
            while leader[name] != name:
                name = leader[name]
            return name

        magnitude = {name: self.magnitudes.get(name, 0.0) for name in self.graph.shapes}
        readers = Counter(t for node in self.graph.nodes for t in node.inputs)
        for node in self.graph.nodes:
            if not self._fits(node) or node.op not in _KEEPS_SCALE:
                continue
            source, result = lead(node.inputs[0]), lead(node.output)
            if source == result:
                continue
            # What a ReLU cuts off needs no steps, unless somebody else reads it.
            cut = node.op in (Op.RELU, Op.RELU6) and readers[node.inputs[0]] == 1 and source == node.inputs[0]
            magnitude[result] = magnitude[result] if cut else max(magnitude[source], magnitude[result])
            leader[source] = result
        scales = {name: max(magnitude[lead(name)] / MOST, LEAST_SCALE) for name in self.graph.shapes}
        return {name: float(np.float32(scale)) for name, scale in self._bounded(scales, lead).items()}

    def _bounded(self, scales: dict[str, float], lead: Callable[[str], str]) -> dict[str, float]:
        """No input of a sum or concatenation may be more than MAX_RATIO times coarser than its output."""
        for node in self.graph.nodes:
            if node.op in (Op.ADD, Op.CONCAT):
                least = max(scales[t] for t in node.inputs) / (MAX_RATIO / 2)
                if scales[node.output] < least:
                    group = lead(node.output)
                    scales |= {name: max(scales[name], least) for name in scales if lead(name) == group}
        return scales

    def _layer(self, node: Node, output_scale: float | None) -> Node:
        if node.op is Op.BATCH_NORM:
            node = _as_depthwise(node, self.shapes)
        weight, bias = (node.weights[key].astype(np.float64) for key in ("weight", "bias"))
        flat = weight.reshape(len(weight), -1)
        if flat.shape[1] > MAX_TAPS:
            raise GraphError(
                f"layer {node.layer!r} has {flat.shape[1]} inputs a channel; int8 sums take {MAX_TAPS} at most"
            )
        input_scale = self.scales[node.inputs[0]]
        steps = np.maximum(np.abs(flat).max(axis=1) / MOST, np.abs(bias) / (input_scale * (MAX_BIAS // 2)))
        steps = np.maximum(steps, LEAST_SCALE)
        weights: dict[str, Weights] = {
            "weight": np.rint(weight / steps.reshape(-1, *(1,) * (weight.ndim - 1))).clip(-MOST, MOST).astype(np.int8),
            "bias": np.rint(bias / (input_scale * steps)).clip(-MAX_BIAS, MAX_BIAS).astype(np.int32),
            "multiplier": (input_scale * steps / (output_scale or 1.0)).astype(np.float32),
        }
        return replace(node, weights=weights)


def _as_depthwise(node: Node, shapes: Mapping[str, tuple[int, ...]]) -> Node:
    """A batch norm as a 1x1 convolution of each channel by itself."""
    scale, shift = node.weights["scale"], node.weights["shift"]
    names = ("stride_h", "stride_w", "dilation_h", "dilation_w")
    attrs = {name: 1 for name in names} | {"pad_h": 0, "pad_w": 0, "groups": len(scale)}
    return replace(node, op=Op.CONV2D, attrs=attrs, weights={"weight": scale.reshape(-1, 1, 1, 1), "bias": shift})
