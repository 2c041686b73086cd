"""Coarse: the last layers in the TEE, and answers with few decimals."""

from suite import Defense, Deployment, OutputPolicy, Victim, defense, split


@defense("coarse", variants=({"decimals": 1},))
class Coarse(Defense):
    """The last ``k`` layers with parameters in the TEE, which rounds what it answers.

    Coarser probabilities are one of the mitigations of Shokri et al. 2017, section VIII; that they are made in the TEE,
    where nobody can undo it, is ours.
    """

    decimals: int = 1
    k: int = 1

    def deploy(self, victim: Victim) -> Deployment:
        """Cut before the first of the last ``k`` layers with parameters."""
        nodes, layers = victim.graph.nodes, victim.graph.parameter_nodes()
        if not 1 <= self.k <= len(layers):
            raise ValueError(f"coarse[k={self.k}]: {victim.architecture} has {len(layers)} layers with parameters")
        hidden = {node.name for node in nodes[nodes.index(layers[-self.k]) :]}
        return Deployment(split(victim.graph, in_tee=hidden), OutputPolicy.parse(f"rounded{self.decimals}"))
