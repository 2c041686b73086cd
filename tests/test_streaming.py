"""Filters that come into the secure world slice by slice: what a query gives, takes and holds, and what is refused."""

import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_build import MODEL_ID, deploy, small_graph
from int8_graphs import hidden, images_of, quantized, with_slices

from device.board import BoardError, DeploymentFiles, SlicesRefused
from device.build import build, build_program
from device.emulated import EmulatedBoard
from device.sealing import key_to_pem, seal
from device.slice_sealing import HEADER, SliceSealingError, seal_slices, sealed_slices
from suite.cli import main
from suite.graph.format import pack_public, pack_sealed, pack_slices
from suite.graph.ir import Graph, Node, Op
from suite.graph.partition import split
from suite.graph.planner import plan_memory
from suite.graph.reference import run_graph
from suite.graph.streaming import fit, streamed_bytes
from suite.policy import OutputPolicy

PROBS = OutputPolicy.parse("probs")
SANITIZE = pytest.mark.parametrize("sanitize", [False, True], ids=["plain", "sanitized"])


@pytest.fixture(scope="module")
def graph() -> Graph:
    """The small graph on int8 with both filters in slices: three of them."""
    return with_slices(quantized(small_graph()), 64)


def names(graph: Graph) -> set[str]:
    return {node.name for node in graph.nodes}


def deep_graph(width: int, layers: int) -> Graph:
    """image (1,4,8) through fully connected layers of ``width``² weights to five classes."""
    rng = np.random.default_rng(0)
    sizes = [32, *[width] * layers, 5]
    nodes = [Node("flat", Op.FLATTEN, ("image",), "x0", "flat")]
    shapes = {"image": (1, 4, 8), "x0": (32,)}
    for i, (taken, made) in enumerate(zip(sizes, sizes[1:], strict=False)):
        weight = (rng.standard_normal((made, taken)) / taken**0.5).astype(np.float32)
        bias = np.zeros(made, np.float32)
        weights = {"weight": weight, "bias": bias}
        nodes.append(Node(f"fc{i}", Op.LINEAR, (f"x{i}",), f"x{i + 1}", f"fc{i}", {}, weights))
        shapes[f"x{i + 1}"] = (made,)
    nodes.append(Node("soft", Op.SOFTMAX, (f"x{layers + 1}",), "p", "soft"))
    return Graph(("image",), ("p",), tuple(nodes), shapes | {"p": (5,)})


@SANITIZE
def test_a_streamed_deployment_answers_what_the_model_answers(tmp_path, graph, sanitize):
    images, segments = images_of(graph, 9), split(graph, names(graph))
    with EmulatedBoard(sanitize=sanitize).open(deploy(tmp_path, graph, names(graph))) as session:
        before = session.stats()
        answer = session.infer(images, boundary=True)
        again, stats = session.infer(images[:2]), session.stats()
    np.testing.assert_allclose(answer.outputs, run_graph(graph, {"image": images})["p"], rtol=1e-5)
    np.testing.assert_array_equal(again.outputs, answer.outputs[:2])
    np.testing.assert_array_equal(answer.boundary["step0.in0"], images)
    slices = pack_slices(segments)
    assert len(slices) == 3
    assert stats.bytes_to_tee == images[0].nbytes + sum(map(len, slices)) + 16 * len(slices)
    assert stats.bytes_from_tee == 20
    assert (stats.switches_per_query, before.switches_per_query) == (1 + calls_for(segments), stats.switches_per_query)
    if not sanitize:  # whose static data are larger
        assert 0 < stats.tee_peak_bytes <= plan_memory(segments).peak_bytes


def calls_for(segments) -> int:
    """How often the block of the inputs must be filled with whole slices."""
    room = max(sum(s.graph.bytes_of(t) for t in s.graph.inputs) for s in segments)
    sizes = [len(one) + 16 for one in pack_slices(segments)]
    room, calls, left = max(room, *sizes), 0, 0
    for size in sizes:
        if size > left:
            calls, left = calls + 1, room
        left -= size
    return calls


@SANITIZE
def test_several_segments_take_each_its_own_slices(tmp_path, sanitize):
    graph = quantized(deep_graph(48, 4))
    inside = {"fc0", "fc2", "fc3", "soft"} & names(graph)
    cut = with_slices(graph, 1024)
    kept = {node.name: node for node in graph.nodes}
    graph = Graph(
        cut.inputs,
        cut.outputs,
        tuple(node if node.name in inside else kept[node.name] for node in cut.nodes),
        cut.shapes,
        cut.scales,
    )
    images = images_of(graph, 5)
    segments = split(graph, inside)
    assert sum(bool(s.graph.nodes) and any(n.slices for n in s.graph.nodes) for s in segments) == 2
    with EmulatedBoard(sanitize=sanitize).open(deploy(tmp_path, graph, inside)) as session:
        answer, stats = session.infer(images, boundary=True), session.stats()
    np.testing.assert_allclose(answer.outputs, run_graph(graph, {"image": images})["p"], rtol=1e-5)
    assert stats.switches_per_query > 3 + 2
    assert stats.bytes_to_tee > streamed_bytes(segments)


def test_the_memory_does_not_grow_with_the_layers(tmp_path):
    budget = 480 << 10
    for layers in (4, 12):
        folder = tmp_path / str(layers)
        folder.mkdir()
        graph = quantized(deep_graph(256, layers))
        whole, segments = hidden(graph), fit(graph, names(graph), budget, 16 << 10)
        filters = sum(n.weights["weight"].nbytes for n in graph.nodes if "weight" in n.weights)
        assert (plan_memory(whole).peak_bytes > budget) == (layers == 12)
        cut = segments[0].graph if len(segments) == 1 else graph
        images = images_of(cut, 3)
        with EmulatedBoard(budget).open(deploy(folder, cut, names(cut))) as session:
            answer, stats = session.infer(images), session.stats()
        assert stats.tee_peak_bytes <= plan_memory(segments).peak_bytes <= budget
        np.testing.assert_allclose(answer.outputs, run_graph(graph, {"image": images})["p"], rtol=1e-4)
    assert filters > 1.4 * budget
    assert stats.bytes_to_tee > filters - budget


def sealed_to(folder: Path, graph: Graph, device_key: bytes, model_id: bytes = MODEL_ID) -> DeploymentFiles:
    """A deployment that its owner has sealed."""
    folder.mkdir(exist_ok=True)
    segments = split(graph, names(graph))
    files = DeploymentFiles(*(folder / name for name in ("public.lbm", "sealed.lbs", "slices.lbs")))
    model, slices = seal_slices(pack_sealed(segments, PROBS, model_id), pack_slices(segments))
    files.public.write_bytes(pack_public(segments, PROBS, model_id))
    files.sealed.write_bytes(seal(model, device_key))
    files.slices.write_bytes(slices)
    return files


class Owner:
    """A device, a deployment sealed to it, and what comes of other slices than its own."""

    def __init__(self, folder: Path, graph: Graph) -> None:
        storage = folder / "storage"
        storage.mkdir()
        self.folder, self.graph = folder, graph
        self.board = EmulatedBoard(storage=storage)
        self.files = sealed_to(folder / "own", graph, self.board.device_key())
        self.slices = self.files.slices.read_bytes()

    def ask(self, slices: bytes | None) -> np.ndarray:
        file = self.folder / "slices"
        if slices is not None:
            file.write_bytes(slices)
        files = DeploymentFiles(self.files.public, self.files.sealed, None if slices is None else file)
        with self.board.open(files) as session:
            return session.infer(images_of(self.graph, 2)).outputs

    def refuses(self, slices: bytes | None, message: str) -> None:
        with pytest.raises(SlicesRefused, match=message):
            self.ask(slices)


@pytest.fixture
def owner(tmp_path, graph) -> Owner:
    return Owner(tmp_path, graph)


def packed(records: list[bytes], model_id: bytes = MODEL_ID) -> bytes:
    sizes = b"".join(struct.pack("<I", len(record) - 16) for record in records)
    return HEADER.pack(b"LBSL", 1, model_id, len(records)) + sizes + b"".join(records)


def test_what_the_owner_sealed_runs(owner):
    want = run_graph(owner.graph, {"image": images_of(owner.graph, 2)})["p"]
    np.testing.assert_allclose(owner.ask(owner.slices), want, rtol=1e-5)
    assert owner.slices == packed(sealed_slices(owner.slices))


def test_no_changed_byte_of_a_slice_is_computed_on(owner):
    first = HEADER.size + 4 * 3
    for at in (first, first + 40, len(owner.slices) - 40, len(owner.slices) - 1):
        changed = bytearray(owner.slices)
        changed[at] ^= 1
        owner.refuses(bytes(changed), rf"the TA refuses slice {0 if at < first + 80 else 2}: it was changed")
    for at, message in ((4, "another format"), (10, "another model's"), (29, "no such file")):
        changed = bytearray(owner.slices)
        changed[at] ^= 1
        owner.refuses(bytes(changed), message)


def test_slices_in_another_order_missing_or_of_another_model_are_refused(owner, graph):
    records = sealed_slices(owner.slices)
    owner.refuses(packed(records[::-1]), "the TA refuses slice 0: it")
    owner.refuses(packed([records[0]] * 3), "takes 3 slices of at most|the TA refuses slice 1: it")
    owner.refuses(packed([records[0], records[2], records[1]]), "the TA refuses slice 1: it")
    owner.refuses(packed(records[:2]), "takes 3 slices of at most .* given are 2")
    owner.refuses(packed([*records, records[0]]), "takes 3 slices of at most .* given are 4")
    owner.refuses(None, "takes 3 slices of at most .* given are 0")
    owner.refuses(owner.slices[:-1], "cut short: slice 2 is not whole")
    owner.refuses(owner.slices + b"\0", "goes on behind its last slice")
    owner.refuses(owner.slices[:20], "end within their header")
    owner.refuses(owner.slices[:36], "table of 3 sealed slices is cut short")
    key = owner.board.device_key()
    other = sealed_to(owner.folder / "other", graph, key, bytes(16)).slices.read_bytes()
    owner.refuses(other, "another model's")
    owner.refuses(packed(sealed_slices(other)), "the TA refuses slice 0: it was changed, or is another one")
    again = sealed_to(owner.folder / "again", graph, key).slices.read_bytes()
    owner.refuses(again, "the TA refuses slice 0: it was changed, or is another one")


def test_an_agent_that_was_refused_a_slice_stays_usable(owner):
    bad = packed([*sealed_slices(owner.slices)[:2], bytes(len(sealed_slices(owner.slices)[2]))])
    file = owner.folder / "bad"
    file.write_bytes(bad)
    with owner.board.open(DeploymentFiles(owner.files.public, owner.files.sealed, file)) as session:
        for _ in range(2):
            with pytest.raises(SlicesRefused, match="the TA refuses slice 2"):
                session.infer(images_of(owner.graph, 1))
        assert session.stats().switches_per_query >= 1


def test_slices_where_none_belong_and_files_that_do_not_fit(owner, tmp_path, graph):
    plain = tmp_path / "plain"
    plain.mkdir()
    files = deploy(plain, graph, names(graph))
    with pytest.raises(BoardError, match="they are sealed together"):
        owner.board.open(DeploymentFiles(owner.files.public, owner.files.sealed, files.slices)).close()
    (tmp_path / "short").write_bytes(files.slices.read_bytes()[:-1])
    with pytest.raises(SliceSealingError, match=r"leaves out 3 slices of \d+ bytes, its file of slices has"):
        owner.board.open(DeploymentFiles(files.public, files.sealed, tmp_path / "short")).close()
    with pytest.raises(SlicesRefused, match="takes 3 slices"):
        owner.board.open(DeploymentFiles(files.public, files.sealed)).close()


def test_nothing_of_a_streamed_filter_goes_to_the_agent_in_the_clear(tmp_path, graph, monkeypatch):
    from device.connection import Connection

    sent, ask = bytearray(), Connection.ask

    def spy(self, kind, *body, **options):
        sent.extend(b"".join(bytes(part) for part in body))
        return ask(self, kind, *body, **options)

    monkeypatch.setattr(Connection, "ask", spy)
    EmulatedBoard().open(deploy(tmp_path, graph, names(graph))).close()
    for one in pack_slices(hidden(graph)):
        assert len(one) >= 64
        assert all(one[at : at + 16] not in sent for at in range(0, len(one), 16) if any(one[at : at + 16]))


@SANITIZE
def test_hostile_slices_are_refused(tmp_path, graph, sanitize):
    source = Path(__file__).parent / "c" / "hostile_slices.c"
    program = build_program(source, ("client", "runtime", "kernels"), sanitize=sanitize)
    storage, config = tmp_path / "storage", tmp_path / "config"
    storage.mkdir()
    key = EmulatedBoard(sanitize=sanitize, storage=storage).device_key()
    files = sealed_to(tmp_path, graph, key)
    config.write_text(f"tee_limit_bytes={16 << 20}\nstorage={storage}\n")
    with config.open("rb") as opened:
        environment = {
            **os.environ,
            "LEAKBOARD_EMU_CONFIG_FD": str(opened.fileno()),
            "LEAKBOARD_EMU_SECURE_WORLD": str(build(sanitize=sanitize).secure_world),
        }
        command = [program, files.sealed, files.slices, str(4 * 2 * 6 * 6), str(4 * 5)]
        done = subprocess.run(
            command, env=environment, pass_fds=(opened.fileno(),), capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_command_line_seals_a_streamed_model_with_its_slices_or_not_at_all(tmp_path, graph, capsys):
    (tmp_path / "device").mkdir()
    board, files = EmulatedBoard(storage=tmp_path / "device"), deploy(tmp_path, graph, names(graph))
    key, out = tmp_path / "key.pem", tmp_path / "model.lbs"
    key.write_bytes(key_to_pem(board.device_key()))
    command = ["seal", str(files.sealed), "--device-key", str(key), "-o", str(out)]
    assert main(command) == 1
    assert "name their file with --slices" in capsys.readouterr().err
    assert not out.exists()
    assert main([*command, "--slices", str(files.slices)]) == 0
    images = images_of(graph, 3)
    with board.open(DeploymentFiles(files.public, out, out.with_name("model.lbs.slices"))) as session:
        ours = session.infer(images).outputs
    np.testing.assert_allclose(ours, run_graph(graph, {"image": images})["p"], rtol=1e-5)
