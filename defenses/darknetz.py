"""DarkneTZ: the last layers in the secure world."""

from suite import Defense, Deployment, OutputPolicy, Victim, defense, split


@defense("darknetz", variants=({"k": 1}, {"k": 2}, {"k": 3}, {"k": 2, "output": "probs"}))
class DarkneTZ(Defense):
    """The last ``k`` layers with parameters in the TEE, and every layer between and after them.

    Mo et al., "DarkneTZ: towards model privacy at the edge using trusted execution environments", MobiSys 2020,
    sections 4.2 and 6: layers are hidden from the end, and with the softmax inside only the top-1 class comes out.

    Interpretation: a layer with parameters is a convolution or a fully connected layer; a batch norm is folded into
    the layer before it and goes with it. ``output="probs"`` lets the probabilities out instead of the top-1 class,
    which tells the effect of hiding layers from that of hiding confidences.
    """

    k: int
    output: str = "top1"

    def deploy(self, victim: Victim) -> Deployment:
        """Cut before the k-th last layer with parameters.

        Raises:
            ValueError: ``k`` is below 1 or above the victim's number of layers with parameters.
        """
        layers = victim.graph.parameter_nodes()
        if not 1 <= self.k <= len(layers):
            raise ValueError(
                f"darknetz[k={self.k}]: {victim.architecture} has {len(layers)} layers with parameters, so k is 1 to"
                f" {len(layers)}"
            )
        nodes = victim.graph.nodes
        first = nodes.index(layers[-self.k])
        hidden = {node.name for node in nodes[first:]}
        return Deployment(split(victim.graph, in_tee=hidden), OutputPolicy.parse(self.output))
