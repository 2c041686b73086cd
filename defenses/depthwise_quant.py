"""CERIAS: an int8 model with its most exposed layers in the secure world, cut along their channels where too large."""

from collections.abc import Sequence

import numpy as np

from suite import Defense, Deployment, OutputPolicy, Victim, defense
from suite.graph.ir import Graph, Node
from suite.graph.macs import node_macs
from suite.graph.quantize import calibrate, quantize
from suite.graph.streaming import fit, streamed_bytes

CALIBRATION_IMAGES = 512
FLOAT_WORK = 1.0
INT8_WORK = 0.8
STREAM_WORK = 50.0
"""Of a multiply-accumulate on int8, and of a byte streamed in, in float multiply-accumulates: cautious roundings of
what kernels and streaming (cipher, checks, copies) take on an Armv8 core, counted in instructions. They only choose
layers by default."""


@defense("depthwise_quant", variants=({}, {"layers": "all", "output": "probs"}))
class DepthwiseQuant(Defense):
    """The model on int8, and as many layers in the TEE as a time budget allows, those too large for it in slices.

    Ramshankar, Yang and Lu, "Securing Deep Neural Networks on Edge from Membership Inference Attacks Using Trusted
    Execution Environments" (CERIAS poster, 2023): inference is split between REE and TEE, with "depth-wise partitioning
    of layers and model quantization to make deployment of DNNs in TEEs feasible".

    Interpretation. Quantization: after training, symmetric, int8 weights with a scale for each output channel,
    activations calibrated on members; the whole model is on int8, in either world (the poster's AlexNet(Q) and its
    quarter of the memory). Depth-wise partition: a layer that does not fit is cut along its output channels into
    slices, which are streamed in sealed, authenticated, computed and discarded. ``layers`` is ``all``, a range, ``3-6``
    (convolutions and fully connected layers, from 1; whatever follows one goes with it) or ``auto``: the most exposed
    first, for as long as the estimated work stays below ``time_budget`` times that of the float model unprotected.
    Exposure is taken to grow towards the output, as layer-wise studies of membership leakage find (Mo et al., DarkneTZ,
    MobiSys 2020, section 2). ``tee_mib`` bounds the TEE's peak; what fits stays in it, opened once. ``calibration`` is
    the percentile of magnitudes that int8 covers (100: all), ``slice_kib`` the largest slice.
    """

    layers: str = "auto"
    time_budget: float = 1.5
    tee_mib: float = 13.0
    slice_kib: int = 256
    calibration: float = 99.99
    output: str = "top1"

    max_accuracy_loss_frac = 0.01

    def deploy(self, victim: Victim) -> Deployment:
        """Quantize, choose the hidden layers, and stream what does not fit.

        Raises:
            ValueError: a parameter is out of range, or the range of layers is not the victim's; DoesNotFit: the TEE's
                peak is above ``tee_mib`` even with every filter in slices.
        """
        self._check(victim)
        graph = quantize(victim.graph, calibrate(victim.graph, _images(victim), self.calibration))
        groups = _groups(graph)
        if self.layers == "auto":
            hidden = self._most_exposed(graph, groups)
        else:
            first, last = self._range(victim.architecture, len(groups))
            hidden = range(first - 1, last)
        policy = OutputPolicy.parse(self.output)
        names = {node.name for index in hidden for node in groups[index]}
        return Deployment(fit(graph, names, self._budget_bytes, self.slice_kib * 1024), policy)

    @property
    def _budget_bytes(self) -> int:
        return int(self.tee_mib * 2**20)

    def _check(self, victim: Victim) -> None:
        for name, least in (("time_budget", 0.0), ("tee_mib", 0.0), ("slice_kib", 1)):
            if not getattr(self, name) >= least:
                raise ValueError(f"depthwise_quant[{name}={getattr(self, name):g}]: {name} is at least {least:g}")
        if not 50.0 <= self.calibration <= 100.0:
            raise ValueError(
                f"depthwise_quant[calibration={self.calibration:g}]: a percentile of magnitudes, 50 to 100"
            )

    def _most_exposed(self, graph: Graph, groups: Sequence[tuple[Node, ...]]) -> range:
        """The last groups whose work, with what has to be streamed for them, keeps within the time budget."""
        unprotected = FLOAT_WORK * sum(node_macs(graph, node) for node in graph.nodes)
        for first in range(len(groups)):
            names = {node.name for group in groups[first:] for node in group}
            work = INT8_WORK * sum(node_macs(graph, node) for node in graph.nodes)
            work += STREAM_WORK * streamed_bytes(fit(graph, names, self._budget_bytes, self.slice_kib * 1024))
            if work <= self.time_budget * unprotected or first == len(groups) - 1:
                return range(first, len(groups))
        raise ValueError("depthwise_quant: a model without convolutions and linear layers has nothing to hide")

    def _range(self, architecture: str, n: int) -> tuple[int, int]:
        """Numbers of the first and the last hidden layer, from 1."""
        first, dash, last = ("1", "-", str(n)) if self.layers == "all" else self.layers.partition("-")
        try:
            start, end = int(first), int(last if dash else first)
        except ValueError:
            start, end = 0, 0
        if not 1 <= start <= end <= n:
            raise ValueError(
                f"depthwise_quant[layers={self.layers}]: {architecture} has {n} layers with parameters; write auto,"
                f" all, or a range within 1-{n}"
            )
        if end < n and self.output != "probs":
            raise ValueError(
                f"depthwise_quant[layers={self.layers}]: the answer is the normal world's, which would see the"
                f" probabilities whatever the output policy: write output=probs, or end the range with {n}"
            )
        return start, end


def _images(victim: Victim) -> np.ndarray:
    """Members to calibrate on; noise where there are none, in a survey, whose numbers do not matter."""
    if len(victim.members):
        return victim.members.images[:CALIBRATION_IMAGES]
    return np.random.default_rng(0).standard_normal((8, *victim.input_shape)).astype(np.float32)


def _groups(graph: Graph) -> list[tuple[Node, ...]]:
    """Each layer with parameters, and what follows it up to the next; what comes before the first goes with that."""
    groups: list[list[Node]] = []
    ahead: list[Node] = []
    for node in graph.nodes:
        if node.has_parameters:
            groups.append(ahead if not groups else [])
        (groups[-1] if groups else ahead).append(node)
    return [tuple(group) for group in groups]
