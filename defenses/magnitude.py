"""The largest weights in the secure world."""

import math
from dataclasses import replace

import numpy as np

from suite import Defense, Deployment, OutputPolicy, Victim, defense, split
from suite.graph.ir import Node, Op, Weights
from suite.graph.rewrite import Parts, rewrite

LINEAR = frozenset({Op.CONV2D, Op.LINEAR})


@defense("magnitude")
class Magnitude(Defense):
    """The weights of largest magnitude of every layer in the TEE; the normal world computes with zeros in their place.

    Hou et al., "Model Protection: Real-Time Privacy-Preserving Inference Service for Model Privacy at the Edge", IEEE
    Transactions on Dependable and Secure Computing 2021. Convolutions and fully connected layers are linear, so that
    their results are sums: W x = W_public x + W_secret x. The normal world computes the first, the TEE the second, and
    adds both.

    Interpretation: ``fraction`` of the weights of each layer are hidden, at least one (not of the model as a whole,
    which would leave whole layers open); biases are the TEE's, and so is everything that is neither a convolution nor
    fully connected, which saves switches. Kernels are dense: W_secret takes as much memory and as many
    multiply-accumulates as the whole layer, and both count as the TEE's, although nearly all of its numbers are zeros.
    """

    fraction: float = 0.01
    output: str = "probs"

    def deploy(self, victim: Victim) -> Deployment:
        """Replace every layer by its public part, its secret part and their sum.

        Raises:
            ValueError: ``fraction`` is not between 0 and 1.
        """
        if not 0 < self.fraction < 1:
            raise ValueError(f"magnitude[fraction={self.fraction:g}]: a fraction of the weights is above 0 and below 1")
        outside: set[str] = set()

        def take_apart(node: Node) -> Parts | None:
            if node.op not in LINEAR:
                return None
            shape = victim.graph.shapes[node.output]
            weight, bias = node.weights["weight"], node.weights["bias"]
            large = _largest(weight, self.fraction)
            made = f"{node.output}_public", f"{node.output}_secret"
            public = {"weight": np.where(large, np.float32(0), weight), "bias": np.zeros_like(bias)}
            secret = {"weight": np.where(large, weight, np.float32(0)), "bias": bias}
            outside.add(f"{node.name}_public")
            return Parts(
                (
                    replace(node, name=f"{node.name}_public", output=made[0], weights=public),
                    replace(node, name=f"{node.name}_secret", output=made[1], weights=secret),
                    Node(f"{node.name}_sum", Op.ADD, made, node.output, node.layer),
                ),
                dict.fromkeys(made, shape),
            )

        graph = rewrite(victim.graph, take_apart)
        segments = split(graph, in_tee=lambda node: node.name not in outside)
        return Deployment(segments, OutputPolicy.parse(self.output))


def _largest(weight: Weights, fraction: float) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which ``fraction`` of the weights are largest in magnitude; of equal ones the first."""
    size = np.abs(weight).reshape(-1)
    count = math.ceil(fraction * len(size))
    least = np.partition(size, len(size) - count)[len(size) - count]
    chosen = size > least
    chosen[np.flatnonzero(size == least)[: count - chosen.sum()]] = True
    return chosen.reshape(weight.shape)
