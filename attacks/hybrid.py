"""Hybrid extraction: the exposed layers as they are, the hidden ones from a public model, and answers to learn from."""

from suite import ExtractionAttack, Goal, Stolen, View, attack
from suite.exposed import exposed_layers, template_of, with_weights
from suite.graph.module import GraphModule
from suite.held_out import FAITHFUL, LEARNING, from_own_labels, taught
from suite.transfer_set import FINE_TUNING, at_random
from suite.view import AdversaryView


@attack("hybrid", goal=Goal.EXTRACTION, needs={View.WEIGHTS, View.QUERY, View.AUXILIARY})
class Hybrid(ExtractionAttack):
    """A surrogate made of the public part's weights and of a public pre-trained model's for what is hidden.

    Zhang et al., "No Privacy Left Outside: On the (In-)Security of TEE-Shielded DNN Partition for On-Device ML", IEEE
    S&P 2024, section III: initialise from both, then train with the answers.

    Interpretation: the public pre-trained model is the attacker's own, of the victim's architecture, trained on
    labelled images of its own. Exposed layers stay fixed while the hidden ones learn: first what the pre-trained model
    learned, from the same images and labels, but behind the exposed layers; then what was answered, each at the
    learning rate that agrees best with answers it did not learn from. (From the answers at once, fifty of them made a
    worse model than ``knockoff`` does.) Where all layers are exposed and the model so made agrees with 99 % of the
    answers, it is taken as it is; where it does not, the exposed weights are not all that the deployment computes with,
    and all learn. Where answers held back agree more with what ``knockoff`` makes of the pre-trained model, as where
    few layers are exposed and many answers known, that is taken. Layers that a defense disguises are not taken for
    exposed; with none exposed this is ``knockoff``.
    """

    def extract(self, view: AdversaryView, budget: int) -> Stolen:
        """Place the exposed layers, ask, train the rest."""
        known = at_random(view, budget)
        pretrained = view.pretrained
        template = template_of(pretrained, view.input_shape)
        found = {} if view.disguised else exposed_layers(view.public, template, view.input_shape)
        alone = (pretrained, FINE_TUNING)
        if not found:
            return Stolen(taught(view, known, alone), view.n_queries)
        graph = with_weights(template, found)
        hidden = [node.name for node in template.parameter_nodes() if node.name not in found]
        start = GraphModule(graph, hidden or None).eval()
        if hidden:
            start = from_own_labels(view, known, start)
        elif known.agreement(start) >= FAITHFUL:
            return Stolen(start, view.n_queries)
        return Stolen(taught(view, known, (start, LEARNING if hidden else FINE_TUNING), alone), view.n_queries)
