"""One model to train, as a value, and the module that it describes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from suite.registry import REGISTRY, Kind, PluginError, discover
from victims.layers import InputShape
from victims.recipe import Recipe

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class TrainTask:
    """All that determines a trained model, besides the images: part of a store key.

    ``input_shape`` is (channels, height, width). ``epochs`` is the final number, the recipe's factor
    already applied. ``precision``: ``bf16`` trains under autocast; parameters stay float32.

    Raises:
        ValueError: a field is out of range; says which.
    """

    architecture: str
    input_shape: InputShape
    n_classes: int
    recipe: Recipe
    epochs: int
    seed: int
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"{self}: epochs must be at least 1, not {self.epochs}")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"{self}: unknown precision {self.precision!r}: use fp32 or bf16")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"{self}: seed must be in [0, 2^63), not {self.seed}")

    def __str__(self) -> str:
        shape = "x".join(map(str, self.input_shape))
        return f"{self.architecture} ({shape}, {self.n_classes} classes, seed {self.seed})"


def build_model(architecture: str, input_shape: InputShape, n_classes: int) -> nn.Module:
    """A fresh model of a registered architecture; draws its weights from the global generator.

    Raises:
        PluginError: no such architecture; says which come close.
        ValueError: the architecture cannot be built for this shape or class count.
    """
    try:
        plugin = REGISTRY.get(Kind.VICTIM, architecture)
    except PluginError:  # a worker process that has imported no victim yet
        plugin = discover((Kind.VICTIM,)).get(Kind.VICTIM, architecture)
    model = plugin.cls(input_shape, n_classes)
    if not isinstance(model, nn.Module):
        raise PluginError(f"victim {architecture!r} ({plugin.where}): {plugin.cls.__name__} is no nn.Module")
    return model


def load_model(task: TrainTask, state_dict: Mapping[str, torch.Tensor]) -> nn.Module:
    """The trained model on the CPU, in eval mode. Draws nothing from the global generator.

    Raises:
        ValueError: ``state_dict`` is not of this architecture, shape or class count; names the first
        difference.
    """
    with torch.random.fork_rng(devices=[]):
        model = build_model(task.architecture, task.input_shape, task.n_classes)
    try:
        model.load_state_dict(state_dict)
    except RuntimeError as error:
        detail = re.sub(r"\s+", " ", str(error))
        raise ValueError(f"these parameters are not of {task}: {detail}") from error
    return model.eval()
