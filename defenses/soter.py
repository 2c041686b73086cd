"""SOTER: most linear layers outside with scaled weights, a random few inside."""

from dataclasses import replace

import numpy as np

from suite import Defense, Deployment, OutputPolicy, Victim, defense, split
from suite.graph.ir import Node, Op
from suite.graph.rewrite import Parts, rewrite

LOW, HIGH = 0.25, 4.0


@defense("soter")
class Soter(Defense):
    """A random ``theta`` of the convolutions and fully connected layers outside, scaled; all else in the TEE.

    Shen et al., "SOTER: Guarding Black-box Inference for General Neural Networks at the Edge", USENIX ATC 2022. These
    operators are associative, (s W) x = s (W x): the normal world gets s W, with a secret scalar s for each operator,
    and the TEE divides its result by s. Operators that are not associative (activations, poolings, additions) and the
    remaining associative ones run in the TEE whole.

    Interpretation: the draw is over all associative operators, and at least one is on either side; ``theta`` is 0.8, "a
    major fraction"; biases stay inside, since s (W x + b) would tell s. A scalar is 0.25 to 4 in magnitude (even on a
    logarithmic scale) and of either sign, which keeps float32 results within 1e-6 of the unscaled ones. What the seed
    draws is fixed with the deployment. Left out: the oblivious fingerprints, by which the TEE would notice a normal
    world that computes something else. They guard integrity and hide nothing.
    """

    theta: float = 0.8
    seed: int = 0
    output: str = "probs"

    def deploy(self, victim: Victim) -> Deployment:
        """Draw the operators that go out, and scale them.

        Raises:
            ValueError: ``theta`` is not between 0 and 1, ``seed`` is negative, or the victim has one operator alone.
        """
        linear = [node for node in victim.graph.nodes if node.op in (Op.CONV2D, Op.LINEAR)]
        if not 0 < self.theta < 1:
            raise ValueError(f"soter[theta={self.theta:g}]: the fraction of operators outside is above 0 and below 1")
        if self.seed < 0:
            raise ValueError(f"soter[seed={self.seed}]: a seed is a whole number from 0")
        if len(linear) < 2:
            raise ValueError(f"soter: {victim.architecture} has {len(linear)} associative operators, and it takes two")
        draw = np.random.default_rng(self.seed)
        count = min(max(round(self.theta * len(linear)), 1), len(linear) - 1)
        chosen = {linear[i].name for i in draw.permutation(len(linear))[:count]}
        outside: set[str] = set()

        def take_apart(node: Node) -> Parts | None:
            if node.name not in chosen:
                return None
            scalar = draw.choice((-1.0, 1.0)) * np.exp(draw.uniform(np.log(LOW), np.log(HIGH)))
            weight, bias = node.weights["weight"], node.weights["bias"]
            scaled = (weight.astype(np.float64) * scalar).astype(np.float32)
            restore = {"scale": np.full(len(bias), 1 / scalar, np.float32), "shift": bias}
            made = f"{node.output}_scaled"
            weights = {"weight": scaled, "bias": np.zeros_like(bias)}
            public = replace(node, name=f"{node.name}_scaled", output=made, weights=weights)
            outside.add(public.name)
            restored = Node(f"{node.name}_restored", Op.BATCH_NORM, (made,), node.output, node.layer, {}, restore)
            return Parts((public, restored), {made: victim.graph.shapes[node.output]})

        graph = rewrite(victim.graph, take_apart)
        segments = split(graph, in_tee=lambda node: node.name not in outside)
        return Deployment(segments, OutputPolicy.parse(self.output), disguised=True)
