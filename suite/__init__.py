"""Leakboard's harness. What a plugin needs is importable from here."""

from suite.graph.ir import Graph, Node, Op
from suite.graph.partition import Segment, World, split
from suite.model import (
    Attack,
    Defense,
    Deployment,
    Effort,
    Goal,
    Guess,
    LabelledImages,
    Learned,
    LearnedDefense,
    LearningProgress,
    Observation,
    ShadowObservation,
    Victim,
    View,
)
from suite.policy import OutputPolicy, PolicyKind
from suite.registry import attack, defense, victim

__all__ = [
    "Attack",
    "Defense",
    "Deployment",
    "Effort",
    "Goal",
    "Graph",
    "Guess",
    "LabelledImages",
    "Learned",
    "LearnedDefense",
    "LearningProgress",
    "Node",
    "Observation",
    "Op",
    "OutputPolicy",
    "PolicyKind",
    "Segment",
    "ShadowObservation",
    "Victim",
    "View",
    "World",
    "attack",
    "defense",
    "split",
    "victim",
]
