"""Leakboard's harness. What a plugin needs is importable from here."""

from device.training import TrainOptions
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
    OnDeviceTraining,
    ShadowObservation,
    Victim,
    View,
)
from suite.policy import OutputPolicy, PolicyKind
from suite.registry import attack, defense, victim
from suite.seen_training import SeenStep, SeenTraining

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
    "OnDeviceTraining",
    "Op",
    "OutputPolicy",
    "PolicyKind",
    "SeenStep",
    "SeenTraining",
    "Segment",
    "ShadowObservation",
    "TrainOptions",
    "Victim",
    "View",
    "World",
    "attack",
    "defense",
    "split",
    "victim",
]
