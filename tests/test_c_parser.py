"""The parser of model files, in a sanitized build: each kind of damage has its error, and none a crash."""

import re
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_build import MODEL_ID, PROBS, small_graph
from graph_strategies import split_graphs
from hypothesis import given, settings

from device.build import build_program
from suite.graph import wire
from suite.graph.format import pack_public, pack_sealed
from suite.graph.ir import Graph, Node, Op, float_bits
from suite.graph.partition import split

ROOT = Path(__file__).parents[1]
U32_MAX = 2**32 - 1
NAMES = dict(
    (int(value), name)
    for name, value in re.findall(
        r"^\tLB_(?:ERROR_)?(\w+) = (\d+),", (ROOT / "ta/runtime/lb_runtime.h").read_text(), re.MULTILINE
    )
)
HEADER = {name: wire.HEADER.fields[name][1] // 4 for name in wire.HEADER.names}


def parse_all(files: list[bytes]) -> list[str]:
    """Parse each file, run what is accepted, and return the error names. Fails when the program crashes."""
    program = build_program(Path(__file__).parent / "c" / "parse_many.c", ("runtime", "kernels"), sanitize=True)
    stream = b"".join(struct.pack("<I", len(data)) + data for data in files)
    done = subprocess.run([program], input=stream, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return [NAMES[int(line.split()[0])] for line in done.stdout.splitlines()]


def branching_graph() -> Graph:
    """Every operator at least once, small."""
    base = small_graph()
    pool = {"kernel_h": 2, "kernel_w": 2, "stride_h": 1, "stride_w": 1, "pad_h": 0, "pad_w": 0}
    shapes = {**base.shapes, "m": (3, 5, 5), "a": (3, 5, 5), "s": (3, 5, 5), "k": (6, 5, 5), "b": (6, 5, 5)}
    shapes |= {"d": (6, 5, 5), "g": (6, 3, 6), "r6": (6, 3, 6), "lr": (6, 3, 6)}
    rng = np.random.default_rng(1)
    depth = {
        "stride_h": 1,
        "stride_w": 1,
        "pad_h": 1,
        "pad_w": 1,
        "dilation_h": 1,
        "dilation_w": 1,
        "groups": 6,
    }
    filters = rng.standard_normal((6, 1, 3, 3)).astype(np.float32)
    six = np.ones(6, np.float32)
    middle = (
        Node("max", Op.MAX_POOL2D, ("r",), "m", "max", pool | {"dilation_h": 1, "dilation_w": 1, "ceil": 0}),
        Node("avg", Op.AVG_POOL2D, ("r",), "a", "avg", pool | {"ceil": 0, "count_include_pad": 1}),
        Node("add", Op.ADD, ("m", "a"), "s", "add"),
        Node("cat", Op.CONCAT, ("s", "m"), "k", "cat"),
        Node("bn", Op.BATCH_NORM, ("k",), "b", "bn", {}, {"scale": six, "shift": six}),
        Node("dw", Op.CONV2D, ("b",), "d", "dw", depth, {"weight": filters, "bias": six}),
        Node("gap", Op.ADAPTIVE_AVG_POOL2D, ("d",), "g", "gap", {"out_h": 3, "out_w": 6}),
        Node("relu6", Op.RELU6, ("g",), "r6", "relu6"),
        Node("leaky", Op.LEAKY_RELU, ("r6",), "lr", "leaky", {"slope_bits": float_bits(0.1)}),
        Node("flat", Op.FLATTEN, ("lr",), "f", "flat"),
    )
    return Graph(("image",), ("p",), (*base.nodes[:2], *middle, *base.nodes[3:]), shapes)


@pytest.fixture(scope="module")
def public() -> bytes:
    return pack_public(split(branching_graph(), {"add", "cat"}), PROBS, MODEL_ID)


@pytest.fixture(scope="module")
def sealed() -> bytes:
    graph = branching_graph()
    return pack_sealed(split(graph, {node.name for node in graph.nodes[2:]}), PROBS, MODEL_ID)


def words(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<u4").copy()


def patched(data: bytes, at: int, value: int) -> bytes:
    out = words(data)
    out[at] = value % 2**32
    return out.tobytes()


def field(data: bytes, section: str, row: int, name: str) -> int:
    """The word at which a field of a table's row lies."""
    dtype = {"tensors": wire.TENSOR, "ops": wire.OP, "segments": wire.SEGMENT}[section]
    return (int(words(data)[HEADER[f"{section}_off"]]) + row * dtype.itemsize + dtype.fields[name][1]) // 4


def test_the_writer_s_files_are_accepted_and_run(public, sealed):
    assert parse_all([public, sealed]) == ["OK", "OK"]


@settings(deadline=None, max_examples=10)
@given(split_graphs())
def test_random_deployments_are_accepted_and_run(case):
    graph, hidden = case
    segments = split(graph, hidden)
    files = [pack_public(segments, PROBS, MODEL_ID)] + ([pack_sealed(segments, PROBS, MODEL_ID)] if hidden else [])
    assert set(parse_all(files)) == {"OK"}


@pytest.mark.parametrize("which", ["public", "sealed"])
def test_every_word_of_the_structure_set_to_evil_values_never_crashes(which, request):
    data = request.getfixturevalue(which)
    old = words(data)
    end = int(old[HEADER["weights_off"]]) // 4
    files, places = [], []
    for at in range(end):
        value = int(old[at])
        for evil in {0, 1, 2, value + 1, value - 1, value ^ 64, 2**24 + 1, 2**31, U32_MAX} - {value}:
            files.append(patched(data[: 4 * end], at, evil) + data[4 * end :])
            places.append((at, evil))
    errors = parse_all(files)
    assert {error for (at, _), error in zip(places, errors, strict=True) if at < 3} <= {
        "MAGIC",
        "VERSION",
        "FILE_SIZE",
    }
    assert {errors[i] for i, (at, _) in enumerate(places) if at in range(HEADER["reserved"], 32)} == {"RESERVED"}
    # What may change without harm: ids, padding between sections, classes of a file that does not answer ...
    accepted = sum(error == "OK" for error in errors)
    assert accepted < len(errors) / 4
    # ... and the damage is told apart.
    assert len(set(errors)) > 18


@pytest.mark.parametrize("which", ["public", "sealed"])
def test_every_truncation_is_refused(which, request):
    data = request.getfixturevalue(which)
    cut = [data[:n] for n in [*range(0, 300), *range(300, len(data), 101)]]
    assert set(parse_all(cut)) == {"TRUNCATED", "FILE_SIZE"}
    # The same with a header that admits it.
    honest = [patched(c[: len(c) // 4 * 4], 2, len(c) // 4 * 4) for c in cut if len(c) >= 128]
    assert "OK" not in parse_all(honest)


CASES = [
    # section, row, field, value, error; the sealed file's ops: max avg add cat bn dw gap relu6 leaky flat fc soft
    ("tensors", 0, "kind", 4, "TENSOR_KIND"),
    ("tensors", 0, "kind", 3, "TENSOR_DTYPE"),
    ("tensors", 0, "dtype", 3, "TENSOR_DTYPE"),
    ("tensors", 0, "dtype", 1, "TENSOR_KIND"),
    ("tensors", 0, "scale", 0x3F800000, "TENSOR_SCALE"),
    ("tensors", 0, "layout", 1, "TENSOR_KIND"),
    ("tensors", 0, "rank", 5, "TENSOR_SHAPE"),
    ("tensors", 0, "dims", 0, "TENSOR_SHAPE"),
    ("tensors", 0, "dims", 2**24, "TENSOR_SHAPE"),
    ("tensors", 0, "bytes", 4, "TENSOR_BYTES"),
    ("tensors", 0, "offset", 32, "TENSOR_PLACE"),
    ("tensors", 0, "offset", 2**32 - 64, "TENSOR_PLACE"),
    ("segments", 0, "world", 0, "SEGMENT_WORLD"),
    ("segments", 0, "n_ops", 4, "SEGMENT_RANGE"),
    ("segments", 0, "first_op", 1, "SEGMENT_RANGE"),
    ("segments", 0, "n_inputs", 0, "SEGMENT_IO"),
    ("segments", 0, "first_output", U32_MAX, "REF"),
    ("segments", 0, "reserved", 1, "RESERVED"),
    ("ops", 0, "kind", 99, "OP_KIND"),
    ("ops", 0, "fused", 4, "OP_FUSED"),
    ("ops", 2, "fused", 6, "OP_FUSED"),
    ("ops", 0, "attr", 0, "OP_ATTR"),
    ("ops", 0, "attr", 3, "OP_SHAPE"),
    ("ops", 2, "attr", 1, "RESERVED"),
    ("ops", 2, "n_inputs", 1, "OP_INPUTS"),
    ("ops", 4, "weight", U32_MAX, "OP_WEIGHTS"),
    ("ops", 7, "weight", 0, "OP_WEIGHTS"),
    ("ops", 8, "attr", float_bits(1.5), "OP_ATTR"),
    ("ops", 8, "attr", float_bits(-0.1), "OP_ATTR"),
    ("ops", 8, "attr", float_bits(float("nan")), "OP_ATTR"),
    ("ops", 8, "fused", 4, "OP_FUSED"),
    ("ops", 0, "output", U32_MAX, "REF"),
    ("ops", 0, "first_input", U32_MAX, "REF"),
]


@pytest.mark.parametrize(("section", "row", "name", "value", "error"), CASES)
def test_each_damage_has_its_error(sealed, section, row, name, value, error):
    assert parse_all([patched(sealed, field(sealed, section, row, name), value)]) == [error]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("policy", 5, "POLICY"),
        ("policy_arg", 1, "POLICY"),
        ("n_classes", 0, "CLASSES"),
        ("n_classes", 6, "CLASSES"),
        ("n_segments", 0, "COUNT"),
        ("n_tensors", 9000, "COUNT"),
        ("tensors_off", 0, "SECTION"),
        ("ops_off", 4, "SECTION"),
        ("weights_off", 2**32 - 64, "SECTION"),
        ("weights_bytes", U32_MAX, "SECTION"),
        ("arena_bytes", 64, "TENSOR_PLACE"),
        ("world", 2, "WORLD"),
    ],
)
def test_each_damage_of_the_header_has_its_error(sealed, name, value, error):
    assert parse_all([patched(sealed, HEADER[name], value)]) == [error]


def test_an_op_over_its_input_and_a_read_of_nothing_are_refused(sealed):
    info = words(sealed)
    refs = int(info[HEADER["refs_off"]]) // 4
    first = int(info[field(sealed, "ops", 0, "first_input")])
    place = field(sealed, "tensors", int(info[refs + first]), "offset")
    output = field(sealed, "tensors", int(info[field(sealed, "ops", 0, "output")]), "offset")
    overlap = patched(sealed, output, int(info[place]))
    # The first op reads what only the last one makes: the rest of an earlier query.
    stale = patched(sealed, refs + int(info[field(sealed, "ops", 7, "first_input")]), int(info[refs]))
    assert parse_all([overlap]) == ["OP_OVERLAP"]
    assert parse_all([stale])[0] in ("OP_SHAPE", "UNWRITTEN")
    swapped = info.copy()
    one, two = (field(sealed, "ops", row, "kind") for row in (0, 1))
    size = wire.OP.itemsize // 4
    swapped[one : one + size], swapped[two : two + size] = (
        info[two : two + size].copy(),
        info[one : one + size].copy(),
    )
    assert parse_all([swapped.tobytes()]) == ["OK"]  # two independent pools: the order is free
    three = field(sealed, "ops", 2, "kind")
    swapped[one : one + size], swapped[three : three + size] = (
        info[three : three + size].copy(),
        swapped[one : one + size].copy(),
    )
    assert parse_all([swapped.tobytes()]) == ["UNWRITTEN"]
