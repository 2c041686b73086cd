"""Weight recovery: the filters behind a disguise."""

import numpy as np

from suite import ExtractionAttack, Goal, Stolen, View, attack
from suite.attack_model import Layout
from suite.disguised import disguised_layers
from suite.exposed import template_of, with_weights
from suite.graph.module import GraphModule
from suite.held_out import FAITHFUL, LEARNING, from_own_labels, taught
from suite.policy import Outputs
from suite.recovery import recovered, resembling
from suite.transfer_set import FINE_TUNING, TransferSet, order_of
from suite.view import AdversaryView

LOOKED_AT = 128
"""Queries whose boundary is looked at; the rest of the budget is for answers."""


@attack(
    "weight_recovery",
    goal=Goal.EXTRACTION,
    needs={View.WEIGHTS, View.BOUNDARY, View.QUERY, View.AUXILIARY},
    variants=({}, {"match": "likeness"}),
)
class WeightRecovery(ExtractionAttack):
    """Take masks, scalars and order off the filters that a defense leaves outside in disguise.

    Wang et al., "Game of Arrows: On the (In-)Security of Weight Obfuscation for On-Device TEE-Shielded LLM Partition
    Algorithms" (ArrowMatch), USENIX Security 2025: obfuscation keeps the weights' directions, which tell with the help
    of a public pre-trained model what belongs where.

    Interpretation: masked filters resemble their mask, so clusters of like filters tell masks and differences, and a
    difference is a filter but for a scalar and its place. These come in two ways:

    - ``match=boundary``: from what crosses between the worlds. The next layer's input is the layer's output behind its
      activation and pooling; the difference whose values go with it is the channel's, and the slope its scalar (with
      enough values and no pooling, least squares over all public filters tells the same). Layers that no tensor tells
      of are learned like ``hybrid`` learns hidden ones.
    - ``match=likeness``: as theirs, from the pre-trained model's filter of the closest direction, with its length and
      bias; then all layers learn from the answers. Their victims are fine-tuned from the public model. Here none is:
      the pre-trained model is the attacker's own, and of the victim it has the architecture alone.

    Where answers held back agree more with what ``knockoff`` makes of the pre-trained model, that is taken.
    """

    match: str = "boundary"

    def __post_init__(self) -> None:
        """Refuse what there is not."""
        if self.match not in ("boundary", "likeness"):
            raise ValueError(f"weight_recovery[match={self.match}]: match is boundary or likeness")

    def unsuited(self, layout: Layout) -> str:
        """It takes a disguise."""
        return "" if layout.disguised else "no parameter in the normal world is disguised"

    def extract(self, view: AdversaryView, budget: int) -> Stolen:
        """Look at the boundary of some queries, undo the disguise, learn what is left from the answers."""
        pretrained = view.pretrained
        template = template_of(pretrained, view.input_shape)
        images = view.auxiliary.images[order_of(view)[:budget]]
        looked = view.query_boundary(images[:LOOKED_AT])
        layers = disguised_layers(view.public, template, images[:LOOKED_AT], looked.boundary)
        if self.match == "likeness":
            found = {layer.own.name: resembling(layer) for layer in layers}
        else:
            found = recovered(layers, template, looked.outputs, view.policy)
        graph = with_weights(template, found)
        missing = [node.name for node in template.parameter_nodes() if node.name not in found]
        exact = self.match == "boundary"
        start = GraphModule(graph, missing if exact and missing else None).eval()
        if exact and not missing:
            known = TransferSet(images[:LOOKED_AT], looked.outputs, view.n_classes)
            if known.agreement(start) >= FAITHFUL:
                return Stolen(start, view.n_queries)
        rest = images[LOOKED_AT:]
        answers = _joined(looked.outputs, view.query(rest)) if len(rest) else looked.outputs
        known = TransferSet(images, answers, view.n_classes)
        rates = FINE_TUNING
        if exact and missing:
            start, rates = from_own_labels(view, known, start), LEARNING
        return Stolen(taught(view, known, (start, rates), (pretrained, FINE_TUNING)), view.n_queries)


def _joined(first: Outputs, second: Outputs) -> Outputs:
    together: Outputs = np.concatenate([first, second])
    return together
