"""Everything hidden: the black-box bound of every table."""

from suite import Defense, Deployment, OutputPolicy, Victim, defense, split


@defense("full_tee", variants=({"output": "top1"}, {"output": "probs"}))
class FullTee(Defense):
    """The whole model in the secure world: an attacker queries it and sees what the output policy lets out.

    The lower bound of every table (the black-box baseline of Zhang et al., "No Privacy Left Outside", IEEE S&P 2024,
    section 3). A defense is compared with the variant that has its own output policy.
    """

    output: str = "top1"

    def deploy(self, victim: Victim) -> Deployment:
        """Put every node into the secure world."""
        names = {node.name for node in victim.graph.nodes}
        return Deployment(split(victim.graph, in_tee=names), OutputPolicy.parse(self.output))
