"""Reading disguised layers: which layer of the architecture each is, what it takes, what is seen of what it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from suite.graph.ir import Graph, Node, Op, bits_float
from suite.graph.reference import apply
from suite.unmasking import Bools, Floats

_LINEAR = (Op.CONV2D, Op.LINEAR)
_BENT = {Op.RELU, Op.RELU6, Op.LEAKY_RELU}
_TRIED = 4


@dataclass(frozen=True, slots=True)
class Disguised:
    """``own``, a layer of the architecture, and ``public``, the node that stands for it in the normal world.

    ``taken`` float32 [N, ...]: what the node took in N queries.
    """

    own: Node
    public: Node
    taken: NDArray[np.float32]

    @property
    def n(self) -> int:
        """How many filters the layer has."""
        return len(self.own.weights["weight"])

    @property
    def filters(self) -> NDArray[np.float32]:
        """The public ones [n + m, ...]."""
        return self.public.weights["weight"]

    def made(self) -> torch.Tensor:
        """What the public filters made of it [N, n + m, ...], without a bias."""
        bare = {"weight": self.filters, "bias": np.zeros(len(self.filters), np.float32)}
        node = Node("", self.public.op, self.public.inputs, self.public.output, "", self.public.attrs, bare)
        with torch.no_grad():
            return apply(node, [torch.tensor(self.taken)])


def disguised_layers(
    public: Sequence[Graph], template: Graph, images: NDArray[np.float32], crossed: Mapping[str, NDArray[np.float32]]
) -> list[Disguised]:
    """Public convolutions and linear layers as layers of ``template``, in order, with what each took for ``images``.

    A layer's input is the tensor of its size among those that came out of the TEE which makes what went back in. A
    layer for which none does is left out, as is one in groups.
    """
    left = list(template.parameter_nodes())
    came = [images, *(array for name, array in crossed.items() if ".out" in name)]
    went = [array for name, array in crossed.items() if ".in" in name]
    found = []
    for graph in public:
        for node in graph.nodes:
            if node.op not in _LINEAR or node.is_quantized or node.attrs.get("groups", 1) != 1:
                continue
            own = next((one for one in left if _stands_for(node, graph, one, template)), None)
            taken = next((x for x in came if _makes_one_of(node, graph, x, went)), None)
            if own is not None and taken is not None:
                left = left[left.index(own) + 1 :]
                found.append(Disguised(own, node, taken))
    return found


def _stands_for(public: Node, graph: Graph, own: Node, template: Graph) -> bool:
    """Whether a public node computes what a layer does, but for the number of filters."""
    if public.op is not own.op or dict(public.attrs) != dict(own.attrs):
        return False
    theirs, ours = public.weights["weight"].shape, own.weights["weight"].shape
    same = theirs[1:] == ours[1:] and graph.shapes[public.output][1:] == template.shapes[own.output][1:]
    return same and theirs[0] >= ours[0]


def _makes_one_of(node: Node, graph: Graph, x: NDArray[np.float32], went: Sequence[NDArray[np.float32]]) -> bool:
    if x.shape[1:] != graph.shapes[node.inputs[0]]:
        return False
    with torch.no_grad():
        made = apply(node, [torch.tensor(x[:_TRIED])]).numpy()
    scale = 1e-3 * float(np.abs(made).max()) + 1e-6
    return any(y.shape[1:] == made.shape[1:] and np.allclose(y[:_TRIED], made, rtol=1e-3, atol=scale) for y in went)


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of a layer's output. ``seen`` and ``active`` [S, n], see ``suite.unmasking``.

    ``path``: the nodes between that a direction's values go through, too; ``pooled``: whether one takes a maximum, so
    that what is seen is not linear in what was made.
    """

    seen: Floats
    active: Bools
    path: tuple[Node, ...]
    pooled: bool

    def through(self, values: torch.Tensor) -> Floats:
        """Values [N, k, ...] as they would arrive, but for the activation: [S, k]."""
        with torch.no_grad():
            for node in self.path:
                values = apply(node, [values])
        return _columns(values.numpy())


def sight_of(layer: Disguised, template: Graph, known: Mapping[str, NDArray[np.float32]]) -> Sight | None:
    """What a query shows of a layer's output, if the next tensor that is ``known`` (by name) tells it; else None.

    In between there may be one activation, poolings and, before them, the addition of another known tensor.
    """
    at, path, bent, added = layer.own.output, list[Node](), None, None
    while at not in known:
        readers = [node for node in template.nodes if at in node.inputs]
        if len(readers) != 1 or readers[0].has_parameters:
            return None
        (node,) = readers
        if node.op in _BENT and bent is None:
            bent = node
        elif node.op is Op.ADD and bent is None and not path:
            other = next(name for name in node.inputs if name != at) if len(set(node.inputs)) == 2 else ""
            if other not in known:
                return None
            added = known[other]
        elif node.op in (Op.MAX_POOL2D, Op.FLATTEN):
            path.append(node)
        else:
            return None
        at = node.output
    if added is not None and path:
        return None
    seen = known[at]
    channels = layer.n
    if seen.ndim == 2 and layer.own.op is Op.CONV2D:  # flattened maps
        seen = seen.reshape(len(seen), channels, -1)
        path = [node for node in path if node.op is not Op.FLATTEN]
    values = _columns(seen)
    active = np.ones(values.shape, bool)
    if bent is not None and bent.op is Op.LEAKY_RELU:
        slope = bits_float(bent.attrs["slope_bits"])
        values = np.where(values < 0, values / slope, values) if slope > 0 else values
        active = values > 0 if slope == 0 else active
    elif bent is not None:
        active = values > 0
        if bent.op is Op.RELU6:
            active &= values < 6
    if added is not None:
        values = values - _columns(added)
    return Sight(values, active, tuple(path), any(node.op is Op.MAX_POOL2D for node in path))


def _columns(values: NDArray[np.float32]) -> Floats:
    """[N, C, ...] as [N * places, C]."""
    flat = values.reshape(values.shape[0], values.shape[1], -1)
    return np.moveaxis(flat, 1, 2).reshape(-1, values.shape[1]).astype(np.float64)
