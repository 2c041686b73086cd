"""Leakboard's harness. What a plugin needs is importable from here."""

from device.agent_board import AgentBoard
from device.training import TrainOptions
from suite.attack_model import (
    Attack,
    ExtractionAttack,
    Guess,
    Observation,
    ReferenceAttack,
    References,
    ShadowObservation,
    Stolen,
)
from suite.exposure_model import ExposureAttack, LayerLosses
from suite.graph.ir import Graph, Node, Op
from suite.graph.partition import Segment, World, split
from suite.model import (
    Defense,
    Deployment,
    Effort,
    Goal,
    LabelledImages,
    Learned,
    LearnedDefense,
    LearningProgress,
    OnDeviceTraining,
    Victim,
    View,
)
from suite.policy import OutputPolicy, PolicyKind
from suite.registry import attack, board, defense, victim
from suite.seen_training import SeenStep, SeenTraining

__all__ = [
    "AgentBoard",
    "Attack",
    "Defense",
    "Deployment",
    "Effort",
    "ExposureAttack",
    "ExtractionAttack",
    "Goal",
    "Graph",
    "Guess",
    "LabelledImages",
    "LayerLosses",
    "Learned",
    "LearnedDefense",
    "LearningProgress",
    "Node",
    "Observation",
    "OnDeviceTraining",
    "Op",
    "OutputPolicy",
    "PolicyKind",
    "ReferenceAttack",
    "References",
    "SeenStep",
    "SeenTraining",
    "Segment",
    "ShadowObservation",
    "Stolen",
    "TrainOptions",
    "Victim",
    "View",
    "World",
    "attack",
    "board",
    "defense",
    "split",
    "victim",
]
