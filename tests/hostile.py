"""The hostile normal world of tests/c/hostile: built for either board, and what it needs beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from c_build import MODEL_ID, small_graph

from device import build, cross
from device.owner import OwnerKey
from device.sealing import seal
from suite.graph.format import pack_sealed
from suite.graph.ir import Graph, Node, Op
from suite.graph.partition import split
from suite.graph.reference import apply
from suite.graph.training import allow_training
from suite.policy import OutputPolicy

FOLDER = build.ROOT / "tests" / "c" / "hostile"
HIDDEN = {"conv", "flat", "fc", "soft"}
GROUPS = (
    "parameter types",
    "sizes",
    "references",
    "order",
    "loading",
    "training",
    "exhaustion",
    "open and close",
    "changed during calls",
)
LARGE_ID = bytes(range(16, 32))


def sources() -> list[Path]:
    return sorted(FOLDER.glob("*.c"))


def build_for_host(*, sanitize: bool) -> Path:
    main = FOLDER / "main.c"
    others = [file for file in sources() if file != main]
    return build.build_program(main, ("client", "runtime", "kernels"), more=others, sanitize=sanitize)


def build_for_board() -> Path:
    header = hashlib.sha256((FOLDER / "hostile.h").read_bytes()).hexdigest()[:12]
    runtime = [build.ROOT / "ta" / "runtime" / "sealed.c"]
    return cross.build_program(f"hostile-{header}", [*sources(), *runtime, *cross.client_sources()])


def large_graph() -> Graph:
    """image (1,32,32) to 1,100 classes: 4.3 MiB of weights, of which a TA holds two but not three."""
    weight = np.full((1100, 1024), 1 / 1024, np.float32)
    nodes = (
        Node("flat", Op.FLATTEN, ("image",), "f", "flat"),
        Node("fc", Op.LINEAR, ("f",), "l", "fc", {}, {"weight": weight, "bias": weight[:, 0].copy()}),
        Node("soft", Op.SOFTMAX, ("l",), "p", "soft"),
    )
    return Graph(("image",), ("p",), nodes, {"image": (1, 32, 32), "f": (1024,), "l": (1100,), "p": (1100,)})


def write_material(folder: Path, device_key: bytes) -> None:
    """All models, sealed to the device, and what the small one's two segments take and, by PyTorch, give."""
    folder.mkdir()
    small, large = small_graph(), large_graph()
    policy = OutputPolicy.parse("top1")
    model = pack_sealed(split(small, HIDDEN), policy, MODEL_ID)
    (folder / "model").write_bytes(seal(model, device_key, chunk_bytes=1024))
    trainable = allow_training(model, split(small, HIDDEN), OwnerKey.generate().public)
    (folder / "trainable").write_bytes(seal(trainable, device_key, chunk_bytes=1024))
    model = pack_sealed(split(large, {node.name for node in large.nodes}), policy, LARGE_ID)
    (folder / "large").write_bytes(seal(model, device_key))

    tensor = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 2, 6, 6)).astype(np.float32))
    tensors = {"image": tensor}
    for node in small.nodes:
        tensor = tensors[node.output] = apply(node, [tensors[name] for name in node.inputs])
    for name, source in {"in0": "image", "out0": "c", "in1": "r"}.items():
        (folder / name).write_bytes(tensors[source].numpy().astype("<f4").tobytes())
    (folder / "out1").write_bytes(int(tensor.argmax()).to_bytes(4, "little"))
