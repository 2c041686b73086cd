"""ShadowNet: transformed linear layers outside, their restoration and the nonlinear layers inside."""

from dataclasses import replace

import numpy as np

from suite import Defense, Deployment, OutputPolicy, Victim, defense, split
from suite.graph.ir import Node, Op, Weights
from suite.graph.rewrite import Parts, rewrite

LOW, HIGH = 0.5, 2.0


@defense("shadownet")
class ShadowNet(Defense):
    """All convolutions and fully connected layers outside, filters scaled, masked and shuffled; all else in the TEE.

    Sun et al., "ShadowNet: A Secure and Efficient On-device Model Inference System for Convolutional Neural Networks",
    IEEE S&P 2023. The normal world gets, in random order, every filter times a secret scalar plus one of a few random
    filters, and these random filters themselves. The TEE subtracts the random filter's result, divides by the scalar
    and puts the channels back in order.

    Interpretation: there are ``ratio`` times as many random filters as filters (at least one; in each group of a
    grouped convolution), drawn from a normal distribution with the layer's own standard deviation. Scalars are 0.5 to 2
    in magnitude (even on a logarithmic scale) and of either sign, which keeps float32 results within 1e-5 of the
    original. The restoration is one 1x1 convolution (a linear layer for vectors) with two numbers a row: kernels are
    dense, so its zeros count as work of the TEE. Biases are added inside. Left out: blinding the feature maps on their
    way out, for which a board's graph has no fresh randomness, so what crosses is seen as it is.
    """

    ratio: float = 0.2
    seed: int = 0
    output: str = "probs"

    def deploy(self, victim: Victim) -> Deployment:
        """Transform every layer, and put its restoration behind it.

        Raises:
            ValueError: ``ratio`` is not above 0 and at most 1, or ``seed`` is negative.
        """
        if not 0 < self.ratio <= 1:
            raise ValueError(f"shadownet[ratio={self.ratio:g}]: random filters a filter are above 0 and at most 1")
        if self.seed < 0:
            raise ValueError(f"shadownet[seed={self.seed}]: a seed is a whole number from 0")
        draw = np.random.default_rng(self.seed)
        outside: set[str] = set()

        def take_apart(node: Node) -> Parts | None:
            if node.op not in (Op.CONV2D, Op.LINEAR):
                return None
            groups = node.attrs.get("groups", 1)
            weight, bias = node.weights["weight"], node.weights["bias"]
            pairs = [self._transform(part, draw) for part in np.split(weight, groups)]
            shadows, restore = (np.concatenate(parts).astype(np.float32) for parts in zip(*pairs, strict=True))
            made = f"{node.output}_shadow"
            weights = {"weight": shadows, "bias": np.zeros(len(shadows), np.float32)}
            public = replace(node, name=f"{node.name}_shadow", output=made, weights=weights)
            outside.add(public.name)
            attrs: dict[str, int] = {}
            if node.op is Op.CONV2D:
                restore = restore[:, :, None, None]
                one = ("stride_h", "stride_w", "dilation_h", "dilation_w")
                attrs = dict.fromkeys(one, 1) | {"pad_h": 0, "pad_w": 0, "groups": groups}
            inside = {"weight": restore, "bias": bias}
            restored = Node(f"{node.name}_restored", node.op, (made,), node.output, node.layer, attrs, inside)
            return Parts((public, restored), {made: (len(shadows), *victim.graph.shapes[node.output][1:])})

        graph = rewrite(victim.graph, take_apart)
        segments = split(graph, in_tee=lambda node: node.name not in outside)
        return Deployment(segments, OutputPolicy.parse(self.output), disguised=True)

    def _transform(self, weight: Weights, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Filters [n, ...] as [n + m, ...] for the normal world, and the matrix [n, n + m] that undoes it."""
        n = len(weight)
        m = max(round(self.ratio * n), 1)
        masks = draw.standard_normal((m, *weight.shape[1:])) * weight.std()
        scalars = draw.choice((-1.0, 1.0), n) * np.exp(draw.uniform(np.log(LOW), np.log(HIGH), n))
        mask_of = draw.permutation(np.arange(n) % m)
        masked = weight * scalars.reshape(-1, *(1,) * (weight.ndim - 1)) + masks[mask_of]
        order = draw.permutation(n + m)  # the filter at place i is number order[i]
        place = np.argsort(order)
        undo = np.zeros((n, n + m))
        undo[np.arange(n), place[:n]] = 1 / scalars
        undo[np.arange(n), place[n + mask_of]] = -1 / scalars
        return np.concatenate([masked, masks])[order], undo
