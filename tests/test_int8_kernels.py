"""The int8 kernels: every build of them computes the same bits, and int8 model files are checked before they run."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_build import MODEL_ID, PROBS
from int8_graphs import hidden, quantized, with_slices
from test_c_parser import HEADER, U32_MAX, branching_graph, field, parse_all, patched, words

from device.build import FLAGS, INCLUDES, build_program, find_compiler
from suite.graph import wire
from suite.graph.format import pack_public, pack_sealed
from suite.graph.ir import Op
from suite.graph.partition import split

ROOT = Path(__file__).parents[1]
DIGEST = ROOT / "tests/c/int8_digest.c"


def digests(program: Path) -> list[str]:
    return subprocess.run([program], capture_output=True, check=True, text=True).stdout.splitlines()


@pytest.mark.parametrize("flags", [("-O3",), ("-O1", "-ffp-contract=off"), ("-O2", "-mno-avx", "-mno-sse4.1")])
def test_vector_code_and_portable_code_compute_the_same_bits(tmp_path, flags):
    compiler = find_compiler()
    if (
        "-mno-avx" in flags
        and "x86_64"
        not in subprocess.run([*compiler, "-dumpmachine"], capture_output=True, text=True, check=True).stdout
    ):
        pytest.skip("a flag of x86")
    program = tmp_path / "portable"
    kernels = sorted(map(str, (ROOT / "ta/kernels").glob("*.c")))
    includes = [f"-I{ROOT / path}" for path in INCLUDES]
    subprocess.run(
        [*compiler, *FLAGS, *flags, "-DLB_PORTABLE", *includes, str(DIGEST), *kernels, "-o", program], check=True
    )
    ours, portable = digests(build_program(DIGEST, ("kernels",))), digests(program)
    assert len(ours) > 3000
    assert ours == portable


def test_the_kernels_keep_within_their_memory():
    assert digests(build_program(DIGEST, ("kernels",), sanitize=True)) == digests(build_program(DIGEST, ("kernels",)))


@pytest.fixture(scope="module")
def sealed() -> bytes:
    """Every operator of int8, some filters resident and some in slices."""
    graph = quantized(branching_graph())
    return pack_sealed(hidden(with_slices(graph, 64)), PROBS, MODEL_ID)


@pytest.fixture(scope="module")
def resident() -> bytes:
    return pack_sealed(hidden(quantized(branching_graph())), PROBS, MODEL_ID)


@pytest.fixture(scope="module")
def public() -> bytes:
    graph = quantized(branching_graph())
    inside = {node.name for node in graph.nodes if node.op in (Op.ADD, Op.CONCAT)}
    return pack_public(split(graph, inside), PROBS, MODEL_ID)


def op_at(data: bytes, op: Op) -> int:
    """The index of the first operator of a kind."""
    info = words(data)
    kinds = [int(info[field(data, "ops", row, "kind")]) for row in range(int(info[HEADER["n_ops"]]))]
    return kinds.index(wire.OP_KINDS[op])


def tensor_of(data: bytes, op: Op, what: str) -> int:
    """The tensor index that an operator names."""
    info = words(data)
    at = int(info[field(data, "ops", op_at(data, op), what if what != "input" else "first_input")])
    return at if what != "input" else int(info[int(info[HEADER["refs_off"]]) // 4 + at])


def test_the_writer_s_int8_files_are_accepted_and_run(sealed, resident, public):
    assert parse_all([sealed, resident, public]) == ["OK"] * 3


@pytest.mark.parametrize("which", ["sealed", "resident", "public"])
def test_every_word_of_an_int8_file_set_to_evil_values_never_crashes(which, request):
    data = request.getfixturevalue(which)
    old = words(data)
    start, size = int(old[HEADER["weights_off"]]) // 4, int(old[HEADER["weights_bytes"]]) // 4
    structure = [at for at in range(len(old)) if not start <= at < start + size]
    files = []
    for at in structure:
        value = int(old[at])
        for evil in {0, 1, 2, value + 1, value - 1, value ^ 64, 0x7FC00000, 0x3F800000, 2**31, U32_MAX} - {value}:
            files.append(patched(data, at, evil))
    errors = parse_all(files)
    assert sum(error == "OK" for error in errors) < len(errors) / 3
    assert len(set(errors)) > 18


CASES = [
    # operator, tensor it names (or the op itself), field, value, error
    (Op.CONV2D, "weight", "dtype", 2, "TENSOR_DTYPE"),
    (Op.CONV2D, "weight", "layout", 2, "TENSOR_BYTES"),
    (Op.CONV2D, "weight", "layout", 4, "TENSOR_KIND"),
    (Op.CONV2D, "weight", "scale", 0x3F800000, "TENSOR_SCALE"),
    (Op.CONV2D, "bias", "dtype", 0, "OP_WEIGHTS"),
    (Op.CONV2D, "multiplier", "dtype", 2, "OP_WEIGHTS"),
    (Op.CONV2D, "output", "dtype", 0, "TENSOR_KIND"),
    (Op.CONV2D, "output", "layout", 0, "TENSOR_KIND"),
    (Op.CONV2D, "output", "scale", 0, "TENSOR_SCALE"),
    (Op.CONV2D, "output", "scale", 0xBF800000, "TENSOR_SCALE"),
    (Op.CONV2D, "output", "scale", 0x7FC00000, "TENSOR_SCALE"),
    (Op.CONV2D, "output", "scale", 0x7F800000, "TENSOR_SCALE"),
    (Op.MAX_POOL2D, "output", "scale", 0x3F800000, "OP_SCALE"),
    (Op.ADD, "output", "scale", 0x2F800000, "OP_SCALE"),
    (Op.CONV2D, None, "multiplier", U32_MAX, "OP_WEIGHTS"),
    (Op.ADD, None, "multiplier", 0, "OP_WEIGHTS"),
    (Op.MAX_POOL2D, None, "kind", wire.OP_KINDS[Op.QUANTIZE], "RESERVED"),
    (Op.LINEAR, None, "fused", wire.OP_KINDS[Op.RELU], "OP_FUSED"),
    (Op.FLATTEN, None, "kind", wire.OP_KINDS[Op.SOFTMAX], "OP_DTYPE"),
    (Op.QUANTIZE, None, "kind", wire.OP_KINDS[Op.RELU], "OP_DTYPE"),
]


@pytest.mark.parametrize(("op", "tensor", "name", "value", "error"), CASES)
def test_each_damage_of_an_int8_file_has_its_error(resident, op, tensor, name, value, error):
    table, row = ("tensors", tensor_of(resident, op, tensor)) if tensor else ("ops", op_at(resident, op))
    assert parse_all([patched(resident, field(resident, table, row, name), value)]) == [error]


def weight_word(data: bytes, op: Op, what: str) -> int:
    info = words(data)
    row = tensor_of(data, op, what)
    return (int(info[HEADER["weights_off"]]) + int(info[field(data, "tensors", row, "offset")])) // 4


@pytest.mark.parametrize(
    ("what", "value", "error"),
    [
        ("weight", 0x00800000, "OP_RANGE"),
        ("bias", 2**30 + 1, "OP_RANGE"),
        ("bias", 2**32 - 2**30 - 1, "OP_RANGE"),
        ("multiplier", 0x7FC00000, "OP_SCALE"),
        ("multiplier", 0x7F800000, "OP_SCALE"),
        ("multiplier", 0xBF800000, "OP_SCALE"),
    ],
)
def test_numbers_that_would_overflow_a_sum_are_refused(resident, what, value, error):
    assert parse_all([patched(resident, weight_word(resident, Op.CONV2D, what), value)]) == [error]


def test_slices_must_cover_their_filters_in_order(sealed):
    first = int(words(sealed)[HEADER["slices_off"]]) // 4
    fields = {name: first + i for i, name in enumerate(wire.SLICE.names)}
    for name in fields:
        for change in (1, 4, U32_MAX):
            value = int(words(sealed)[fields[name]]) + change
            assert parse_all([patched(sealed, fields[name], value)]) == ["SLICE"], (name, change)
    count = int(words(sealed)[HEADER["n_slices"]])
    damaged = {"n_slices": count - 1, "slice_bytes": 1, "slice_key_off": 4, "slices_off": 32}
    errors = {"n_slices": "SLICE", "slice_bytes": "SLICE", "slice_key_off": "SECTION", "slices_off": "SECTION"}
    for name, value in damaged.items():
        assert parse_all([patched(sealed, HEADER[name], value)]) == [errors[name]], name
    assert parse_all([patched(sealed, HEADER["n_slices"], 70000)]) == ["COUNT"]


def test_a_public_file_has_no_streamed_filters(public):
    row = tensor_of(public, Op.CONV2D, "weight")
    info = words(patched(public, field(public, "tensors", row, "kind"), int(wire.TensorKind.STREAMED)))
    info[field(public, "tensors", row, "offset")] = 0
    assert parse_all([info.tobytes()]) == ["TENSOR_PLACE"]
    assert np.array_equal(words(public)[:3], info[:3])
