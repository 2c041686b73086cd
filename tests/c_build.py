"""The C side as tests use it: the kernels through ctypes, and deployments of small graphs."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from device.board import DeploymentFiles
from device.build import build
from device.owner import OwnerKey
from suite.graph.format import pack_public, pack_sealed, pack_slices
from suite.graph.ir import Graph, Node, Op
from suite.graph.partition import split
from suite.graph.training import allow_training
from suite.policy import OutputPolicy, PolicyKind

MODEL_ID = bytes(range(16))
PROBS = OutputPolicy(PolicyKind.PROBS)


@functools.cache
def kernels() -> ctypes.CDLL:
    made = build().kernels
    assert made is not None
    library = ctypes.CDLL(str(made))
    for name in ("lb_conv2d_scratch_bytes", "lb_conv2d_depthwise_scratch_bytes", "lb_policy_bytes"):
        getattr(library, name).restype = ctypes.c_size_t
    library.lb_strerror.restype = ctypes.c_char_p
    return library


def aligned(floats: int, fill: float = np.nan) -> np.ndarray:
    """float32 [floats] on a 64-byte boundary."""
    raw = np.empty(4 * floats + 64, np.uint8)
    start = -raw.ctypes.data % 64
    array = raw[start : start + 4 * floats].view(np.float32)
    array[:] = fill
    return array


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)  # keeps the array alive


def small_graph(classes: int = 5, seed: int = 0) -> Graph:
    """image (2,6,6) -> conv, relu -> flatten -> linear -> softmax: one node of each kind of importance."""
    rng = np.random.default_rng(seed)

    def floats(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32) / 4

    conv = {
        "stride_h": 1,
        "stride_w": 1,
        "pad_h": 1,
        "pad_w": 1,
        "dilation_h": 1,
        "dilation_w": 1,
        "groups": 1,
    }
    nodes = (
        Node(
            "conv",
            Op.CONV2D,
            ("image",),
            "c",
            "conv",
            conv,
            {"weight": floats(3, 2, 3, 3), "bias": floats(3)},
        ),
        Node("relu", Op.RELU, ("c",), "r", "relu"),
        Node("flat", Op.FLATTEN, ("r",), "f", "flat"),
        Node("fc", Op.LINEAR, ("f",), "l", "fc", {}, {"weight": floats(classes, 108), "bias": floats(classes)}),
        Node("soft", Op.SOFTMAX, ("l",), "p", "soft"),
    )
    shapes = {
        "image": (2, 6, 6),
        "c": (3, 6, 6),
        "r": (3, 6, 6),
        "f": (108,),
        "l": (classes,),
        "p": (classes,),
    }
    return Graph(("image",), ("p",), nodes, shapes)


def deploy(folder: Path, graph: Graph, hidden: set[str], policy: OutputPolicy = PROBS) -> DeploymentFiles:
    """Write the files of a deployment with the ``hidden`` nodes in the TEE."""
    segments = split(graph, hidden)
    public, sealed = folder / "public.lbm", folder / "sealed.lbm"
    public.write_bytes(pack_public(segments, policy, MODEL_ID))
    if not hidden:
        return DeploymentFiles(public, None)
    sealed.write_bytes(pack_sealed(segments, policy, MODEL_ID))
    slices = folder / "slices.bin"
    slices.write_bytes(b"".join(pack_slices(segments)))
    return DeploymentFiles(public, sealed, slices if slices.stat().st_size else None)


def deploy_trainable(
    folder: Path, graph: Graph, hidden: set[str], owner: OwnerKey, dropouts: Mapping[str, float] | None = None
) -> DeploymentFiles:
    """As :func:`deploy`, and the hidden part may be trained for ``owner``."""
    policy = OutputPolicy.parse("top1") if hidden else PROBS
    files = deploy(folder, graph, hidden, policy)
    if files.sealed is not None:
        allowed = allow_training(files.sealed.read_bytes(), split(graph, hidden), owner.public, dropouts)
        files.sealed.write_bytes(allowed)
    return files
