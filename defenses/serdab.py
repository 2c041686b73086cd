"""Serdab: the first layers in the secure world."""

from suite import Defense, Deployment, OutputPolicy, Victim, defense, split
from suite.graph.ir import Graph, Node, Op


@defense("serdab")
class Serdab(Defense):
    """The first layers in the TEE, until what comes out no longer resembles the image; the rest in the normal world.

    Elgamal and Nahrstedt, "Serdab: An IoT Framework for Partitioning Neural Networks Computation across Multiple
    Enclaves", CCGRID 2020. It protects the images: the partition point is the first one after which intermediate
    results are too coarse to be recognised, which is told by their resolution. Behind it the time decides.

    Interpretation: with ``k`` not given it is the least number of layers with parameters after which all that leaves
    the TEE has at most ``resolution`` pixels a side (20 by default; a vector counts as the maps that it was made of).
    The TEE takes everything before the next layer with parameters. One TEE and one normal world stand for the several
    enclaves of the paper. The image itself comes to a board through the normal world, so only what the first layers'
    parameters tell is hidden here. The probabilities are made outside, so they are what comes out.
    """

    k: int | None = None
    resolution: int = 20

    def deploy(self, victim: Victim) -> Deployment:
        """Cut before the layer with parameters number ``k + 1``.

        Raises:
            ValueError: ``k`` is not between 1 and the victim's number of layers with parameters less one, or no
                partition point has the resolution.
        """
        graph = victim.graph
        layers = graph.parameter_nodes()
        hidden = {node.name for node in _before(graph, layers[self._partition_point(victim)])}
        return Deployment(split(graph, in_tee=hidden), OutputPolicy.parse("probs"))

    def _partition_point(self, victim: Victim) -> int:
        """How many layers with parameters are in the TEE."""
        layers = victim.graph.parameter_nodes()
        most = len(layers) - 1
        if self.k is not None:
            if not 1 <= self.k <= most:
                has = f"{victim.architecture} has {len(layers)} layers with parameters"
                raise ValueError(f"serdab[k={self.k}]: {has}, so k is 1 to {most}")
            return self.k
        sides = _sides(victim.graph)
        for k in range(1, most + 1):
            if self._is_coarse(victim.graph, layers[k], sides):
                return k
        raise ValueError(
            f"serdab[resolution={self.resolution}]: {victim.architecture} makes nothing that coarse of"
            f" {'x'.join(map(str, victim.input_shape))} images before its last layer; give a higher resolution, or k"
            f" from 1 to {most}"
        )

    def _is_coarse(self, graph: Graph, cut: Node, sides: dict[str, int]) -> bool:
        """Whether all that nodes from ``cut`` on read of what is made before it is small enough."""
        made = {node.output for node in _before(graph, cut)}
        read = {tensor for node in graph.nodes[graph.nodes.index(cut) :] for tensor in node.inputs}
        return all(sides[tensor] <= self.resolution for tensor in (made | set(graph.inputs)) & read)


def _before(graph: Graph, cut: Node) -> tuple[Node, ...]:
    return graph.nodes[: graph.nodes.index(cut)]


def _sides(graph: Graph) -> dict[str, int]:
    """Pixels along the longer side of every tensor."""
    sides = {tensor: max(shape[1:], default=1) for tensor, shape in graph.shapes.items()}
    for node in graph.nodes:
        if node.op is Op.FLATTEN:
            sides[node.output] = sides[node.inputs[0]]
    return sides
