"""Direct use: what the public part can do by itself."""

from suite import ExtractionAttack, Goal, Stolen, View, attack
from suite.attack_model import Layout
from suite.exposed import answering_graph
from suite.graph.module import GraphModule
from suite.view import AdversaryView


@attack("direct_use", goal=Goal.EXTRACTION, needs={View.WEIGHTS})
class DirectUse(ExtractionAttack):
    """The public files as they are, run without the TEE: nothing is asked and nothing is learned.

    What Liu et al., "MirrorNet: A TEE-Friendly Framework for Secure On-device DNN Inference", ICCAD 2023, call illegal
    use. The answer is the last tensor of one value a class that the public part makes without the TEE's help; with
    nothing hidden that is the victim itself, the white box that bounds every extraction.
    """

    def unsuited(self, layout: Layout) -> str:
        """It takes an answer."""
        return "" if layout.answers_alone else "the public part gives no answer without the TEE"

    def extract(self, view: AdversaryView, budget: int) -> Stolen:
        """Put the public graphs together; no queries."""
        return Stolen(
            GraphModule(answering_graph(view.public, view.input_shape, view.n_classes)).eval(), view.n_queries
        )
