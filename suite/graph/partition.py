"""Splitting a graph between the worlds: maximal runs of nodes of one world, with few switches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from suite.graph.ir import Graph, GraphError, Node, subgraph


class World(StrEnum):
    """Where a part of the model runs."""

    REE = "ree"  # the normal world: everything in it is public
    TEE = "tee"  # the secure world


@dataclass(frozen=True, slots=True)
class Segment:
    """One step of a query: a part of the graph that runs without leaving its world.

    ``graph.inputs`` are the tensors that earlier segments (or the query) hand to it, ``graph.outputs`` those
    that later segments read, or the query's result. Both cross the boundary when the worlds differ; a tensor
    that one TEE segment makes for a later one crosses twice, because the TA keeps nothing between two calls.
    """

    world: World
    graph: Graph


def split(graph: Graph, in_tee: Collection[str] | Callable[[Node], bool]) -> tuple[Segment, ...]:
    """Cut ``graph`` into segments of alternating worlds, in an order in which they can run.

    ``in_tee`` names the nodes that go to the secure world, or answers for each node. The order is Kahn's,
    greedy: it stays in the current world while any node of it is ready, and starts in the world that needs
    fewer segments.

    Raises:
        GraphError: ``in_tee`` names a node that the graph does not have.
    """
    worlds = _worlds(graph, in_tee)
    if not worlds:
        raise GraphError("a graph without nodes cannot be split")
    candidates = [runs for start in World if (runs := _runs(graph, worlds, start))]
    # Of two equally long orders the one that starts in the REE is taken: World lists it first.
    runs = min(candidates, key=len)
    ordered = replace(graph, nodes=tuple(n for _, run in runs for n in run))
    return tuple(Segment(world, subgraph(ordered, run)) for world, run in runs)


def _worlds(graph: Graph, in_tee: Collection[str] | Callable[[Node], bool]) -> dict[str, World]:
    if callable(in_tee):
        return {node.name: World.TEE if in_tee(node) else World.REE for node in graph.nodes}
    if unknown := sorted(set(in_tee) - {node.name for node in graph.nodes}):
        raise GraphError(f"no node {unknown[0]!r} to place in the TEE; the graph has {_names(graph)}")
    return {node.name: World.TEE if node.name in in_tee else World.REE for node in graph.nodes}


def _names(graph: Graph) -> str:
    names = [node.name for node in graph.nodes]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _runs(graph: Graph, worlds: Mapping[str, World], start: World) -> list[tuple[World, list[Node]]]:
    """Order the nodes greedily, beginning in ``start``; empty when nothing can begin there."""
    maker = {node.output: node.name for node in graph.nodes}
    waiting = {node.name: {maker[t] for t in node.inputs if t in maker} for node in graph.nodes}
    todo = list(graph.nodes)
    world = start
    runs: list[tuple[World, list[Node]]] = []
    while todo:
        run: list[Node] = []
        done: set[str] = set()
        later: list[Node] = []
        # One pass is enough: the nodes are in topological order, so what a run makes ready comes after it.
        for node in todo:
            waiting[node.name] -= done
            if worlds[node.name] is world and not waiting[node.name]:
                run.append(node)
                done.add(node.name)
            else:
                later.append(node)
        for node in later:
            waiting[node.name] -= done
        if run:
            runs.append((world, run))
        elif not runs:
            return []
        todo = later
        world = World.TEE if world is World.REE else World.REE
    return runs


def merge(segments: Sequence[Segment]) -> Graph:
    """The whole graph again, in the order of the segments."""
    nodes = tuple(node for segment in segments for node in segment.graph.nodes)
    shapes = {name: shape for segment in segments for name, shape in segment.graph.shapes.items()}
    made = {node.output for node in nodes}
    inputs = dict.fromkeys(t for s in segments for t in s.graph.inputs if t not in made)
    scales = {name: scale for segment in segments for name, scale in segment.graph.scales.items()}
    return Graph(tuple(inputs), segments[-1].graph.outputs, nodes, shapes, scales)
