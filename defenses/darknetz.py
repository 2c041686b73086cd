"""DarkneTZ: a range of layers, mostly the last ones, in the secure world."""

from suite import Defense, Deployment, OnDeviceTraining, OutputPolicy, Victim, defense, split
from suite.graph.dropouts import dropouts_of


@defense(
    "darknetz",
    variants=(
        {"k": 1},
        {"k": 2},
        {"k": 3},
        {"k": 2, "output": "probs"},
        {"start": 3, "end": 4, "output": "probs"},
        {"k": 2, "finetune": True},
    ),
)
class DarkneTZ(Defense):
    """The last ``k`` layers with parameters in the TEE, or those from ``start`` to ``end``, first and last included.

    Mo et al., "DarkneTZ: towards model privacy at the edge using trusted execution environments", MobiSys 2020,
    sections 4.2 and 6: layers are hidden from the end, and with the softmax inside only the top-1 class comes out.
    A range that ends before the last layer (the ``pp_start`` and ``pp_end`` of their program) goes from the normal
    world to the secure one and back; then the normal world makes the answer, and ``output`` can only be ``probs``.

    Interpretation: a layer with parameters is a convolution or a fully connected layer, and they count from 1
    (DarkneTZ counts poolings, dropouts and the softmax as well); a batch norm is folded into the layer before it and
    goes with it (one that cannot be folded is a layer of its own), as does everything up to the next such layer.
    ``output="probs"`` lets the probabilities out instead of the top-1 class, which tells the effect of hiding layers
    from that of hiding confidences.

    ``finetune=true`` lets the device train the model further, the hidden layers inside the TEE: then whoever owns the
    normal world can have training steps run, and sees the gradients of the public layers. Dropouts are those of the
    victim.
    """

    k: int | None = None
    start: int | None = None
    end: int | None = None
    output: str = "top1"
    finetune: bool | None = None

    def deploy(self, victim: Victim) -> Deployment:
        """Cut before the first hidden layer with parameters, and before the one that follows the last.

        Raises:
            ValueError: not one of ``k`` and a range is given, it is not within the victim's layers with parameters, or
                the range ends before the last of them and ``output`` is not ``probs``.
        """
        nodes, layers = victim.graph.nodes, victim.graph.parameter_nodes()
        first, last = self._range(victim.architecture, len(layers))
        begin = nodes.index(layers[first - 1])
        end = nodes.index(layers[last]) if last < len(layers) else len(nodes)
        hidden = {node.name for node in nodes[begin:end]}
        training = None
        if self.finetune:
            training = OnDeviceTraining(dropouts_of(victim.module, victim.input_shape, victim.graph))
        return Deployment(split(victim.graph, in_tee=hidden), OutputPolicy.parse(self.output), training=training)

    def _range(self, architecture: str, n: int) -> tuple[int, int]:
        """Numbers of the first and the last hidden layer, from 1."""
        has = f"{architecture} has {n} layers with parameters"
        if self.k is not None and self.start is None and self.end is None:
            if not 1 <= self.k <= n:
                raise ValueError(f"darknetz[k={self.k}]: {has}, so k is 1 to {n}")
            return n - self.k + 1, n
        if self.k is not None or self.start is None or self.end is None:
            raise ValueError(
                "darknetz needs k or a range: write darknetz[k=2], or darknetz[start=2,end=3,output=probs]"
            )
        text = f"darknetz[start={self.start},end={self.end}]"
        if not 1 <= self.start <= self.end <= n:
            raise ValueError(f"{text}: {has}, so start and end are 1 to {n}, and start is not above end")
        if self.end < n and self.output != "probs":
            raise ValueError(
                f"{text}: {has}, so layer {self.end + 1} and the answer are the normal world's, which would see the"
                f" probabilities whatever the output policy: write output=probs, or end={n}"
            )
        return self.start, self.end
