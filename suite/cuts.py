"""Every partition point of a defense on a victim, and which of them a TEE has room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from suite.deploying import deploy
from suite.graph.macs import graph_macs
from suite.graph.planner import plan_memory
from suite.model import Deployment, Victim
from suite.registry import PluginError
from suite.spec import PluginSpec, specify


@dataclass(frozen=True, slots=True)
class Cut:
    """What the TEE needs with one ``k``: its first and last layer with parameters, its weights as stored, all it takes.

    ``tee_flops_frac`` as in records.
    """

    k: int
    layers: str
    weights_bytes: int
    peak_bytes: int
    tee_flops_frac: float


def cuts(spec: PluginSpec, victim: Victim) -> tuple[Cut, ...]:
    """One cut for every ``k`` that ``spec``, its other parameters as they are, can have on ``victim``.

    Raises:
        PluginError: the defense has no parameter ``k``, or none that can be put on this victim.
    """
    if "k" not in dict(spec.params):
        raise PluginError(f"defense {spec.name!r} has no parameter 'k' to make cuts by; leave out --cuts")
    others = {key: value for key, value in spec.params if key != "k" and value is not None}
    refused: PluginError | None = None
    found = []
    for k in range(1, len(victim.graph.parameter_nodes()) + 1):
        try:
            deployment = deploy(specify(spec.plugin, {**others, "k": k}), victim)
        except PluginError as error:
            refused = error
            continue
        found.append(_cut(k, deployment))
    if refused is not None and not found:
        raise refused
    return tuple(found)


def _cut(k: int, deployment: Deployment) -> Cut:
    plan = plan_memory(deployment.segments)
    named = list(_layers(deployment))
    hidden, public = (sum(map(graph_macs, graphs)) for graphs in (deployment.hidden, deployment.public))
    return Cut(
        k,
        " to ".join(dict.fromkeys([named[0], named[-1]])) if named else "",
        sum(layer.weights_bytes for layer in plan.layers),
        plan.peak_bytes,
        hidden / (hidden + public) if hidden else 0.0,
    )


def _layers(deployment: Deployment) -> Iterator[str]:
    for graph in deployment.hidden:
        for node in graph.parameter_nodes():
            yield node.layer


def cut_table(found: Sequence[Cut], limit_bytes: int) -> str:
    """One row a cut, and a line that says how many fit into ``limit_bytes``; text."""
    header = ("k", "layers in the TEE", "weights MiB", "needs MiB", "FLOPs in TEE", "fits")
    rows = [
        (
            cut.k,
            cut.layers,
            f"{cut.weights_bytes / 2**20:.2f}",
            f"{cut.peak_bytes / 2**20:.2f}",
            f"{100 * cut.tee_flops_frac:.1f} %",
            "yes" if cut.peak_bytes <= limit_bytes else "no",
        )
        for cut in found
    ]
    fitting = [cut.k for cut in found if cut.peak_bytes <= limit_bytes]
    summary = f"{len(fitting)} of {len(found)} cuts fit" + (f", the largest with k={fitting[-1]}" if fitting else "")
    return f"{tabulate(rows, header, disable_numparse=True)}\n{summary}"
