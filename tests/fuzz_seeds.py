"""Valid inputs from which the fuzz targets start: ``python tests/fuzz_seeds.py`` writes the seeds of tests/c/fuzz."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum

import numpy as np
from fuzz_targets import TARGETS

from device import slice_sealing, wire
from device.wire import FrameType
from suite.graph.format import pack_public, pack_sealed, pack_slices
from suite.graph.ir import Graph, Node, Op
from suite.graph.partition import split
from suite.graph.quantize import calibrate, quantize
from suite.graph.training import allow_training
from suite.graph.wire import HEADER
from suite.policy import OutputPolicy

MODEL_ID = bytes(range(16))
MODEL_ID_AT = HEADER.fields["model_id"][1]


def tiny_graph() -> Graph:
    """image (2,4,4) to three classes through every operator, with as few weights as that takes."""
    rng = np.random.default_rng(0)

    def floats(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    def conv(groups: int) -> dict[str, int]:
        ones = dict.fromkeys(("stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w"), 1)
        return ones | {"groups": groups}

    window = {"kernel_h": 2, "kernel_w": 2, "stride_h": 1, "stride_w": 1, "pad_h": 0, "pad_w": 0, "ceil": 0}
    nodes = (
        Node("conv", Op.CONV2D, ("image",), "c", "conv", conv(1), {"weight": floats(2, 2, 3, 3), "bias": floats(2)}),
        Node("relu", Op.RELU, ("c",), "r", "relu"),
        Node("max", Op.MAX_POOL2D, ("r",), "m", "max", window | {"dilation_h": 1, "dilation_w": 1}),
        Node("avg", Op.AVG_POOL2D, ("r",), "a", "avg", window | {"count_include_pad": 1}),
        Node("add", Op.ADD, ("m", "a"), "s", "add"),
        Node("cat", Op.CONCAT, ("s", "m"), "k", "cat"),
        Node("bn", Op.BATCH_NORM, ("k",), "b", "bn", {}, {"scale": floats(4), "shift": floats(4)}),
        Node("dw", Op.CONV2D, ("b",), "d", "dw", conv(4), {"weight": floats(4, 1, 3, 3), "bias": floats(4)}),
        Node("relu6", Op.RELU6, ("d",), "r6", "relu6"),
        Node("gap", Op.ADAPTIVE_AVG_POOL2D, ("r6",), "g", "gap", {"out_h": 1, "out_w": 2}),
        Node("flat", Op.FLATTEN, ("g",), "f", "flat"),
        Node("fc", Op.LINEAR, ("f",), "l", "fc", {}, {"weight": floats(3, 8), "bias": floats(3)}),
        Node("soft", Op.SOFTMAX, ("l",), "p", "soft"),
    )
    shapes = {"image": (2, 4, 4), "c": (2, 4, 4), "r": (2, 4, 4), "m": (2, 3, 3), "a": (2, 3, 3), "s": (2, 3, 3)}
    shapes |= {"k": (4, 3, 3), "b": (4, 3, 3), "d": (4, 3, 3), "r6": (4, 3, 3), "g": (4, 1, 2), "f": (8,), "l": (3,)}
    return Graph(("image",), ("p",), nodes, shapes | {"p": (3,)})


def part_graph() -> Graph:
    """image (1,2,2) to two classes by one small linear layer: the smallest model there is."""
    floats = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    nodes = (
        Node("flat", Op.FLATTEN, ("image",), "f", "flat"),
        Node("fc", Op.LINEAR, ("f",), "l", "fc", {}, {"weight": floats, "bias": floats[0, :2]}),
        Node("soft", Op.SOFTMAX, ("l",), "p", "soft"),
    )
    return Graph(("image",), ("p",), nodes, {"image": (1, 2, 2), "f": (4,), "l": (2,), "p": (2,)})


def deployments() -> dict[str, tuple[bytes, bytes]]:
    """Public and sealed model file by name; the sealed one is empty where nothing is hidden."""
    every = {node.name for node in tiny_graph().nodes}
    cases = {
        "open": (tiny_graph(), set(), "probs"),
        "hidden": (tiny_graph(), every, "rounded2"),
        "tail": (tiny_graph(), {"gap", "flat", "fc", "soft"}, "top1"),
        "twice": (tiny_graph(), {"add", "cat", "fc", "soft"}, "rounded0"),
        "middle": (tiny_graph(), {"max", "avg", "dw"}, "topk2"),
        "small": (part_graph(), {"fc", "soft"}, "probs"),
    }
    made = {}
    for name, (graph, hidden, policy) in cases.items():
        segments, rule = split(graph, hidden), OutputPolicy.parse(policy)
        made[name] = (
            pack_public(segments, rule, MODEL_ID),
            pack_sealed(segments, rule, MODEL_ID) if hidden else b"",
        )
    return made


def streamed() -> tuple[bytes, bytes, tuple[bytes, ...]]:
    """Public and sealed model file, and slices, of a linear layer on int8 that comes in two."""
    floats = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)
    nodes = (
        Node("flat", Op.FLATTEN, ("image",), "f", "flat"),
        Node("fc", Op.LINEAR, ("f",), "l", "fc", {}, {"weight": floats, "bias": floats[:, 0].copy()}),
        Node("soft", Op.SOFTMAX, ("l",), "p", "soft"),
    )
    graph = Graph(("image",), ("p",), nodes, {"image": (1, 2, 2), "f": (4,), "l": (8,), "p": (8,)})
    images = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 1, 2, 2)
    int8 = quantize(graph, calibrate(graph, images, 100.0))
    cut = replace(int8, nodes=tuple(replace(n, slices=(4, 4)) if n.name == "fc" else n for n in int8.nodes))
    segments, policy = split(cut, {node.name for node in cut.nodes}), OutputPolicy.parse("probs")
    parts = (segments, policy, MODEL_ID)
    return pack_public(*parts), pack_sealed(*parts), pack_slices(segments)


_GENERATOR = (
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
"""Of P-256: a point of the curve."""


def trainable(name: str) -> tuple[bytes, bytes]:
    """As :func:`deployments` has it, and the hidden part may be trained; with dropouts where they can be."""
    cases = {"tail": {"gap", "flat", "fc", "soft"}, "middle": {"max", "avg", "dw"}, "small": {"fc", "soft"}}
    graph, policy = (part_graph() if name == "small" else tiny_graph()), {"tail": "top1", "middle": "topk2"}
    segments, hidden = split(graph, cases[name]), OutputPolicy.parse(policy.get(name, "probs"))
    dropouts = {"small": {}, "tail": {"g": 0.5}, "middle": {"m": 0.25}}[name]
    sealed = pack_sealed(segments, hidden, MODEL_ID)
    public = pack_public(segments, hidden, MODEL_ID)
    return public, allow_training(sealed, segments, bytes.fromhex(_GENERATOR), dropouts)


def model_seeds() -> dict[str, bytes]:
    seeds = {}
    for name, (public, sealed) in deployments().items():
        seeds[f"public-{name}"] = public
        if sealed:
            seeds[f"sealed-{name}"] = sealed
    seeds["sealed-streamed"] = streamed()[1]
    seeds |= {f"sealed-{name}-trainable": trainable(name)[1] for name in ("tail", "middle", "small")}
    return seeds


def sealed_header(model_bytes: int, chunk_bytes: int, version: int = 1, salt: bytes = bytes(32)) -> bytes:
    n_chunks = -(-model_bytes // chunk_bytes)
    words = struct.pack("<10I", 0x3153424C, 1, 1, 2, 3, 4, version, model_bytes, chunk_bytes, n_chunks)
    return words + struct.pack("<4I", 5, 6, 7, 8) + bytes(32) + bytes.fromhex(_GENERATOR) + salt + bytes(8)


def sealed_chunk(header: bytes, index: int) -> bytes:
    n_chunks, version = struct.unpack_from("<I", header, 36)[0], struct.unpack_from("<I", header, 24)[0]
    return struct.pack("<4I", 0x4353424C, index, n_chunks, version) + header[8:24] + header[40:56]


def sealed_seeds() -> dict[str, bytes]:
    """A byte of how the header is cut, the header, then for each chunk a byte of its length, and its struct."""
    seeds = {"header": b"\0" + sealed_header(3000, 1024), "cut": b"\4" + sealed_header(3000, 1024)}
    seeds["point"] = b"\0" + sealed_header(1, 1024, salt=b"P" * 32)
    header = sealed_header(3000, 1024, 7)
    chunks = [b"\0" + sealed_chunk(header, index) for index in range(3)]
    seeds["whole"] = b"\0" + header + b"".join(chunks)
    seeds["swapped"] = b"\0" + header + chunks[1] + chunks[0]
    return seeds


class Step(IntEnum):
    """``enum step`` of fuzz_ta.c."""

    OPEN = 0
    CLOSE = 1
    MODEL = 2
    HEADER = 3
    BEGIN = 4
    CHUNK = 5
    OPEN_MODEL = 6
    RUN = 7
    ANY = 8
    FAIL = 9
    LOAD = 10

    def on(self, session: int) -> bytes:
        return bytes([self + len(Step) * session])


class Training(IntEnum):
    """``enum training`` of fuzz_ta.c."""

    BEGIN = 1
    FORWARD = 2
    BACKWARD = 3
    ANSWER = 4
    STEP = 5
    EXPORT = 6
    END = 7


def train(what: Training, segment: int = 0, in_bytes: int = 0, out_bytes: int = 0) -> bytes:
    """A step of training on session 0; ``segment`` has the label, or whether to update, in its upper half."""
    return Step.RUN.on(0) + struct.pack("<BHH", segment, what << 12 | in_bytes, out_bytes)


def training_seeds(model: Callable[[bytes], bytes]) -> dict[str, bytes]:
    """What a TA is asked for while a model is trained; ``model`` makes one the text of what is loaded."""
    begin, step, forget = train(Training.BEGIN), train(Training.STEP, 16), train(Training.STEP)
    load, end = Step.LOAD.on(0), train(Training.END)
    image, crossing = 4 * 4, 4 * 4 * 3 * 3  # of the small model, and of the tail's
    small, tail, middle = (model(trainable(name)[1]) + load for name in ("small", "tail", "middle"))
    answer = train(Training.ANSWER, 16, image, image)
    maps = 4 * 2 * 3 * 3
    there = train(Training.FORWARD, 0, 4 * 2 * 4 * 4, 2 * maps) + train(Training.FORWARD, 1, crossing, crossing)
    back = train(Training.BACKWARD, 1, crossing, crossing) + train(Training.BACKWARD, 0, 2 * maps, 4 * 2 * 4 * 4)
    export = train(Training.EXPORT, 0, 0, 256) + train(Training.EXPORT, 1, 0, 8191) * 2
    return {
        "trains": small + begin + (answer * 2 + step) * 2 + answer + forget + end + run_small() + export,
        "trains-tail": tail + begin + train(Training.ANSWER, 32, crossing, crossing) + step + export,
        "trains-middle": middle + begin + (there + back) * 2 + step + end,
        "trains-in-disorder": middle + begin + there + there + begin + back + step + export + begin + export,
        "trains-too-short": small + begin + train(Training.ANSWER, 16, image, image - 1) + step + answer + step,
        "trains-twice": small + begin + begin + answer + small + answer + train(Training.EXPORT, 1, 0, 8191),
        "trains-fails": small + begin + Step.FAIL.on(0) + b"\3" + train(Training.EXPORT, 0, 0, 256) + export,
    }


def run_small() -> bytes:
    return Step.RUN.on(0) + struct.pack("<BHH", 0, 16, 8)


def ta_seeds() -> dict[str, bytes]:
    """A byte of step and session, then what the step wants (fuzz_ta.c)."""

    def text(sealed: bytes) -> bytes:
        return Step.MODEL.on(0) + struct.pack("<H", len(sealed)) + sealed

    def model(name: str) -> bytes:
        return text(streamed()[1] if name == "streamed" else deployments()[name][1])

    def run(segment: int, in_bytes: int, out_bytes: int, session: int = 0) -> bytes:
        return Step.RUN.on(session) + struct.pack("<BHH", segment, in_bytes, out_bytes)

    def chunk(how: int, rest: bytes = b"") -> bytes:
        return Step.CHUNK.on(0) + bytes([how]) + rest

    feed = run(0, 0x8000 | len(streamed()[2][0]) + slice_sealing.TAG_BYTES, 32)
    load, begin, opened = Step.LOAD.on(0), Step.BEGIN.on(0), Step.OPEN_MODEL.on(0)
    header = Step.HEADER.on(0) + bytes([15, 0])
    values = struct.pack("<2I", 1, 2)
    return training_seeds(text) | {
        "runs": model("hidden") + load + run(0, 128, 12) + run(0, 128, 12) + Step.CLOSE.on(0),
        "by-hand": model("hidden") + header + begin + chunk(0) * 3 + opened + run(0, 128, 12) + run(0, 127, 12),
        "two-segments": model("twice") + load + run(0, 144, 1000) + run(1, 32, 12) + run(0, 144, 1000),
        "two-sessions": model("small")
        + Step.OPEN.on(1)
        + b"\1"
        + Step.LOAD.on(1)
        + load
        + run(0, 16, 8)
        + run(0, 16, 8, 1),
        "forged": model("tail") + header + begin + chunk(2, b"\1\x40\0\1") + chunk(0),
        "cut": model("tail") + header + begin + chunk(4, b"\x20\0") + begin + chunk(0) + opened,
        "another-header": model("tail") + Step.HEADER.on(0) + b"\x0f\1\x08\0\1" + begin + chunk(0) + opened,
        "fails": Step.FAIL.on(0) + b"\5" + model("small") + load + Step.FAIL.on(0) + b"\x0c" + load,
        "streams": model("streamed")
        + load
        + (run(0, 16, 32) + feed + feed) * 2
        + run(0, 16, 32)
        + feed
        + run(0, 16, 32),
        "streams-twice": model("streamed") + load + run(0, 16, 32) + run(0, 0x8000 | 160, 32) + feed,
        "streams-short": model("streamed") + load + run(0, 16, 32) + run(0, 0x8000 | 81, 32) + feed,
        "statistics": Step.ANY.on(0) + struct.pack("<BH", 3, 0x22) + values * 4,
        "device-key": Step.ANY.on(0) + struct.pack("<BH", 5, 0x6) + struct.pack("<H", 64) + values * 3,
        "anything": Step.ANY.on(0) + struct.pack("<BHH", 6, 0x25, 0x4000 | 192) + sealed_header(3000, 1024) + values,
    }


def frame(kind: FrameType, body: bytes = b"") -> bytes:
    return wire.FRAME.pack(wire.FRAME_MAGIC, wire.FRAME_VERSION, int(kind), 7, len(body)) + body


def sealed_file(model: bytes) -> bytes:
    """Without tags: the harness makes them."""
    header = sealed_header(len(model), 1024)
    header = header[:8] + model[MODEL_ID_AT : MODEL_ID_AT + 16] + header[24:]
    chunks = [model[at : at + 1024] for at in range(0, len(model), 1024)]
    return header + b"".join(sealed_chunk(header, i) + text + bytes(16) for i, text in enumerate(chunks))


def agent_seeds() -> dict[str, bytes]:
    """Four bytes of settings, then frames (fuzz_agent.c)."""
    seeds = {}
    for name, (public, model) in deployments().items():
        sealed = sealed_file(model) if model else b""
        image = np.linspace(-1, 1, 4 if name == "small" else 32, dtype=np.float32).tobytes()
        load = frame(FrameType.LOAD, wire.LOAD.pack(len(public), len(sealed), 0))
        load += frame(FrameType.LOAD_DATA, public + sealed)
        query = frame(FrameType.INFER, wire.INFER.pack(2, 1) + image * 2)
        timed = frame(FrameType.TIME, wire.TIME.pack(2, 2, 1, 0) + image)
        seeds[name] = b"\3\0\0\0" + load + query + timed + frame(FrameType.STATS) + frame(FrameType.QUIT)
    public, model, slices = streamed()
    sealed = sealed_file(model)
    table = b"".join(struct.pack("<I", len(one)) for one in slices)
    head = slice_sealing.HEADER.pack(slice_sealing.MAGIC, slice_sealing.FORMAT, MODEL_ID, len(slices))
    file = head + table + b"".join(one + bytes(16) for one in slices)
    image = np.linspace(-1, 1, 4, dtype=np.float32).tobytes()
    load = frame(FrameType.LOAD, wire.LOAD.pack(len(public), len(sealed), len(file)))
    load += frame(FrameType.LOAD_DATA, public + sealed + file)
    query = frame(FrameType.INFER, wire.INFER.pack(2, 1) + image * 2)
    seeds["streams"] = b"\3\0\0\0" + load + query + frame(FrameType.STATS) + frame(FrameType.QUIT)
    for name, pixels in {"small": 4, "tail": 32, "middle": 32}.items():
        public, model = trainable(name)
        sealed, image = sealed_file(model), np.linspace(-1, 1, pixels, dtype=np.float32).tobytes()
        load = frame(FrameType.LOAD, wire.LOAD.pack(len(public), len(sealed), 0))
        load += frame(FrameType.LOAD_DATA, public + sealed)
        begin = frame(
            FrameType.TRAIN_BEGIN, wire.TRAIN_BEGIN.pack(0.1, 0.9, 0.01, 3, 1) + wire.DROPOUT.pack(0, 1 << 30)
        )
        labels = struct.pack("<2I", 1, 0)
        batch = frame(FrameType.TRAIN_BATCH, wire.TRAIN_BATCH.pack(2, 1, 1, 1, 1, 1) + image * 2 + labels)
        probe = frame(FrameType.TRAIN_BATCH, wire.TRAIN_BATCH.pack(1, 0, 0, 1, 0, 2) + image + labels[:4])
        query = frame(FrameType.INFER, wire.INFER.pack(1, 1) + image)
        export = frame(FrameType.TRAIN_EXPORT)
        seeds[f"trains-{name}"] = b"\3\0\0\0" + load + begin + batch + probe + query + export + batch + begin + probe
    hello = frame(FrameType.HELLO) + frame(FrameType.DEVICE_KEY)
    seeds["again"] = b"\3\0\0\0" + hello + seeds["small"][4:-16] + seeds["small"][4:]
    seeds["fails"] = b"\3\x09\0\0" + hello + seeds["small"][4:]
    seeds["pieces"] = b"\3\0\7\0" + seeds["small"][4:]
    seeds["gone"] = b"\3\0\0\3" + seeds["small"][4:]
    return seeds


SEEDS = {"model": model_seeds, "sealed": sealed_seeds, "ta": ta_seeds, "agent": agent_seeds}


def main() -> None:
    for name, make in SEEDS.items():
        corpus = TARGETS[name].corpus
        corpus.mkdir(parents=True, exist_ok=True)
        for seed, data in make().items():
            (corpus / seed).write_bytes(data)
            print(f"{corpus / seed}: {len(data)} bytes")


if __name__ == "__main__":
    main()
