"""No protection: the white-box bound of every table."""

from suite import Defense, Deployment, OutputPolicy, Victim, defense, split


@defense("vanilla")
class Vanilla(Defense):
    """The whole model in the normal world, probabilities out.

    The upper bound of every table: the model as it is deployed without a TEE (the unprotected baseline of
    Mo et al., DarkneTZ, MobiSys 2020, section 6).
    """

    def deploy(self, victim: Victim) -> Deployment:
        """Put every node into the normal world."""
        return Deployment(split(victim.graph, in_tee=()), OutputPolicy.parse("probs"))
