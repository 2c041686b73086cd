"""Training on the emulated board against PyTorch's own steps, what it shows, and what its owner gets back."""

import copy
from ctypes import c_size_t, c_uint32, c_uint64
from pathlib import Path

import numpy as np
import pytest
import torch
from c_build import MODEL_ID, aligned, deploy, deploy_trainable, kernels, pointer, small_graph
from darknetz_vgg7 import INPUT_SHAPE, DarknetzVgg7
from torch import nn

from device.board import BoardError, TeeOutOfMemory
from device.emulated import EmulatedBoard
from device.owner import OwnerKey
from device.sealing import CHUNK, HEADER, SealingError, seal
from device.training import TrainOptions
from suite.finetuning import FineTuning, batches, finetune, write_trainable
from suite.graph import reference
from suite.graph.dropouts import dropouts_of
from suite.graph.export import export_graph
from suite.graph.ir import Graph, GraphError
from suite.graph.parse import parse
from suite.graph.partition import World, split
from suite.graph.quantize import calibrate, quantize
from suite.graph.train_plan import training_bytes
from suite.graph.training import allow_training, place_dropouts
from suite.model import Deployment, LabelledImages, OnDeviceTraining
from suite.policy import OutputPolicy
from suite.seen_training import by_parameter
from victims.task import build_model

torch.set_num_threads(1)
CLOSE = 1e-4
RATE, MOMENTUM, DECAY = 0.05, 0.9, 1e-3
OWNER = OwnerKey.generate()


class Residual(nn.Module):
    """A convolutional network with everything that branches: an addition, a concatenation, groups, every pool."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 16, 3, padding=1, groups=2)
        self.beside = nn.Conv2d(8, 16, 1, stride=2)
        self.classes = nn.Linear(40, 5)
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu6(self.norm(self.first(x)))
        branch = nn.functional.leaky_relu(self.depthwise(x), 0.1)
        x = torch.relu(self.grouped(branch) + self.beside(x))
        x = torch.cat([x, nn.functional.avg_pool2d(x, 3, 1, 1), branch], 1)
        x = nn.functional.adaptive_avg_pool2d(nn.functional.max_pool2d(x, 3, 1, 1), 1)
        return self.classes(torch.flatten(x, 1))


def small_cnn() -> nn.Module:
    torch.manual_seed(0)
    return Residual().eval()


def folded_module(graph: Graph) -> nn.ParameterDict:
    """The graph's parameters, batch norms folded in."""
    return nn.ParameterDict(
        {f"{n.name}__{k}": nn.Parameter(torch.from_numpy(w.copy())) for n in graph.nodes for k, w in n.weights.items()}
    )


def reference_steps(graph: Graph, batches, drop=None) -> dict[str, np.ndarray]:
    """The graph's parameters after PyTorch's steps. ``drop``: (tensor name, values, sample, step) -> values."""
    parameters = folded_module(graph)
    optimizer = torch.optim.SGD(parameters.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
    sample = 0
    for images, labels in batches:
        optimizer.zero_grad()
        losses = []
        for image, label in zip(images, labels, strict=True):
            sample += 1
            held = {graph.inputs[0]: torch.from_numpy(image)[None]}
            for node in graph.nodes[:-1]:
                weights = {key: parameters[f"{node.name}__{key}"] for key in node.weights}
                value = reference._APPLY[node.op]([held[name] for name in node.inputs], node.attrs, weights)
                held[node.output] = drop(node.output, value, sample) if drop else value
            losses.append(nn.functional.cross_entropy(held[graph.nodes[-1].inputs[0]], torch.tensor([int(label)])))
        torch.stack(losses).mean().backward()
        optimizer.step()
    return {name: parameter.detach().numpy() for name, parameter in parameters.items()}


def tuned_parameters(graph: Graph, hidden: set[str], public: bytes, sealed: bytes | None, key: bytes):
    """The board's parameters under the graph's names."""
    halves = {"ree": iter(parse(public).as_segments())}
    if sealed is not None:
        halves["tee"] = iter(parse(OWNER.unseal(sealed, key)).as_segments())
    found = {}
    for segment in split(graph, hidden):
        theirs = next(halves[str(segment.world)])
        ours = [n for n in segment.graph.nodes if n.weights]
        for node, same in zip(ours, [n for n in theirs.graph.nodes if n.weights], strict=True):
            found |= {f"{node.name}__{k}": w for k, w in same.weights.items()}
    return found


def train_on_board(folder: Path, graph: Graph, hidden: set[str], batches, *, sanitize=False, dropouts=None, seed=0):
    storage = folder / "storage"
    storage.mkdir()
    board = EmulatedBoard(storage=storage, sanitize=sanitize)
    key = board.device_key()
    files = deploy_trainable(folder, graph, hidden, OWNER, dropouts)
    public = place_dropouts(split(graph, hidden), World.REE, dropouts or {})
    with board.open(files) as session:
        training = session.train(TrainOptions(RATE, MOMENTUM, DECAY, seed, public))
        for images, labels in batches:
            training.step(images, labels)
        tuned = training.export()
    return tuned_parameters(graph, hidden, tuned.public, tuned.sealed, key)


def agree(got, want) -> None:
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(got[name], want[name], atol=CLOSE * max(1.0, np.abs(want[name]).max()), err_msg=name)


def batches_for(shape, classes, n=2, size=4):
    rng = np.random.default_rng(1)
    return [(rng.standard_normal((size, *shape)).astype(np.float32), rng.integers(0, classes, size)) for _ in range(n)]


def last_layers(graph: Graph, k: int) -> set[str]:
    """The nodes from the k-th last layer with parameters on."""
    first = graph.nodes.index(graph.parameter_nodes()[-k]) if k else len(graph.nodes)
    return {node.name for node in graph.nodes[first:]}


@pytest.mark.parametrize("sanitize", [False, True], ids=["plain", "sanitized"])
@pytest.mark.parametrize(("architecture", "k"), [("vgg7", 0), ("vgg7", 3), ("vgg7", 8), ("alexnet", 2)])
def test_steps_are_pytorch_s(tmp_path, architecture, k, sanitize):
    torch.manual_seed(0)
    if architecture == "vgg7":
        module, shape, classes = DarknetzVgg7().eval(), INPUT_SHAPE, 10
    else:
        module, shape, classes = build_model("alexnet", (1, 8, 8), 10).eval(), (1, 8, 8), 10
    graph = export_graph(module, shape, softmax=True)
    batches = batches_for(shape, classes, n=1 if sanitize else 3, size=2 if sanitize else 5)
    got = train_on_board(tmp_path, graph, last_layers(graph, k), batches, sanitize=sanitize)

    tuned = copy.deepcopy(module)  # PyTorch's whole step, not our reading of the graph
    optimizer = torch.optim.SGD(tuned.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
    for images, labels in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(tuned(torch.from_numpy(images)), torch.from_numpy(labels)).backward()
        optimizer.step()
    after = export_graph(tuned, shape, softmax=True)
    agree(got, {f"{n.name}__{k}": w for n in after.nodes for k, w in n.weights.items()})
    assert any(np.abs(got[f"{n.name}__{k}"] - w).max() > 1e-3 for n in graph.nodes for k, w in n.weights.items())


HIDES = {
    "nothing": lambda names: set(),
    "the first half": lambda names: set(names[: len(names) // 2]),
    "the middle": lambda names: set(names[2:-4]),
    "every other": lambda names: set(names[::2]),
    "the last": lambda names: set(names[-4:]),
    "all": lambda names: set(names),
}


@pytest.mark.parametrize("hides", HIDES)
def test_branches_and_any_cut_train_as_pytorch_does(tmp_path, hides):
    graph = export_graph(small_cnn(), (2, 8, 8), softmax=True)
    hidden = HIDES[hides]([node.name for node in graph.nodes])
    batches = batches_for((2, 8, 8), 5)
    agree(train_on_board(tmp_path, graph, hidden, batches, sanitize=True), reference_steps(graph, batches))


def test_dropouts_fall_where_the_seed_says_in_either_world(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Dropout(0.25), nn.Flatten()),
        *(nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 5)),
    )
    graph = export_graph(module.eval(), (2, 4, 4), softmax=True)
    dropouts = dropouts_of(module, (2, 4, 4), graph)
    assert sorted(dropouts.values()) == [0.25, 0.5]
    hidden, batches, seed = last_layers(graph, 2), batches_for((2, 4, 4), 5), 7
    public_op, hidden_op = 0, 0  # of the convolution in the public file, of the first linear layer in the sealed one
    masks = {
        graph.nodes[1].output: (0.25, (seed << 32 | 1 << 31) + public_op),
        next(n for n in graph.nodes if n.name in hidden and n.op == "relu").output: (0.5, (seed << 32) + hidden_op),
    }
    assert masks.keys() == dropouts.keys()

    def drop(name, value, sample):
        if name not in masks:
            return value
        p, start = masks[name]
        mask = aligned(value.numel(), 1.0)
        kernels().lb_dropout(
            c_size_t(mask.size), c_uint32(int(p * 2**32)), c_uint64(start + (sample << 12)), pointer(mask)
        )
        return value * torch.from_numpy(mask.copy()).reshape(value.shape)

    got = train_on_board(tmp_path, graph, hidden, batches, dropouts=dropouts, seed=seed)
    agree(got, reference_steps(graph, batches, drop))
    plain = reference_steps(graph, batches)
    assert any(np.abs(got[name] - plain[name]).max() > 10 * CLOSE for name in plain)


GRAPH = small_graph()
HIDDEN = {"fc", "soft"}
IMAGES, LABELS = batches_for((2, 6, 6), 5, n=1, size=3)[0]


def gradients_by_pytorch():
    """Of each image's loss with respect to what crosses, and of the mean loss with respect to the convolution."""
    conv, fc = GRAPH.nodes[0], GRAPH.nodes[3]
    weights = {k: torch.tensor(w, requires_grad=True) for k, w in conv.weights.items()}
    crossing = torch.relu(nn.functional.conv2d(torch.from_numpy(IMAGES), weights["weight"], weights["bias"], padding=1))
    crossing = crossing.flatten(1)
    logits = nn.functional.linear(crossing, *(torch.from_numpy(fc.weights[k].copy()) for k in ("weight", "bias")))
    losses = nn.functional.cross_entropy(logits, torch.from_numpy(LABELS), reduction="none")
    boundary = torch.autograd.grad(losses.sum(), crossing, retain_graph=True)[0].numpy()
    losses.mean().backward()
    return boundary, {key: weight.grad.numpy() for key, weight in weights.items()}


def test_the_normal_world_sees_the_gradients_of_its_layers_and_of_the_boundary(tmp_path):
    files = deploy_trainable(tmp_path, GRAPH, HIDDEN, OWNER)
    with EmulatedBoard().open(files) as session:
        training = session.train(TrainOptions(RATE))
        before = session.infer(IMAGES).outputs
        shown = training.step(IMAGES, LABELS, update=False, crossings=True, boundary=True, gradients=True)
        crossed = session.infer(IMAGES, boundary=True).boundary
        again = training.step(IMAGES, LABELS, update=False, boundary=True, gradients=True)
        np.testing.assert_array_equal(session.infer(IMAGES).outputs, before)
    boundary, public = gradients_by_pytorch()
    assert list(shown.boundary) == ["step1.in0"]
    np.testing.assert_allclose(shown.boundary["step1.in0"], boundary, atol=1e-5)
    np.testing.assert_array_equal(again.gradients, shown.gradients)
    assert not again.crossed
    assert shown.crossed.keys() == crossed.keys()
    for name, values in crossed.items():  # what crosses in training without dropouts is what crosses in a query
        np.testing.assert_array_equal(shown.crossed[name], values)
    found = by_parameter(files.public.read_bytes(), shown.gradients)
    assert found.keys() == {(0, 0, "weight"), (0, 0, "bias")}
    for (_, _, key), gradient in found.items():
        np.testing.assert_allclose(gradient, public[key], atol=1e-5)


def test_inference_uses_the_tuned_weights_and_learns(tmp_path):
    with EmulatedBoard().open(deploy_trainable(tmp_path, GRAPH, HIDDEN, OWNER)) as session:
        training = session.train(TrainOptions(0.1))
        for _ in range(60):
            training.step(IMAGES, LABELS)
        np.testing.assert_array_equal(session.infer(IMAGES).outputs, LABELS)


def test_of_a_wholly_hidden_model_no_gradient_comes_out(tmp_path):
    files = deploy_trainable(tmp_path, GRAPH, {node.name for node in GRAPH.nodes}, OWNER)
    with EmulatedBoard().open(files) as session:
        step = session.train(TrainOptions(RATE)).step(IMAGES, LABELS, crossings=True, boundary=True, gradients=True)
    np.testing.assert_array_equal(step.crossed["step0.in0"], IMAGES)
    assert not step.boundary
    assert not step.gradients.size


def recorded_answers(session, monkeypatch) -> list[bytes]:
    """Everything that the agent says from now on."""
    said: list[bytes] = []
    connection = session._connection
    receive = connection._receive
    monkeypatch.setattr(connection, "_receive", lambda *a: said.append(receive(*a)) or said[-1])
    return said


def test_neither_loss_nor_probabilities_nor_hidden_gradients_leave(tmp_path, monkeypatch):
    """A search of all that the agent answers: of bits, and of floats that come close."""
    hidden_file = deploy_trainable(tmp_path, GRAPH, HIDDEN, OWNER)
    with EmulatedBoard().open(hidden_file) as session:
        said = recorded_answers(session, monkeypatch)
        training = session.train(TrainOptions(RATE, MOMENTUM))
        for update in (False, True):
            training.step(IMAGES, LABELS, update=update, crossings=True, boundary=True, gradients=True)
        training.export()
    fc = GRAPH.nodes[3]
    weight, bias = (torch.tensor(fc.weights[k], requires_grad=True) for k in ("weight", "bias"))
    conv = GRAPH.nodes[0]
    crossing = torch.relu(
        nn.functional.conv2d(
            torch.from_numpy(IMAGES), *(torch.tensor(conv.weights[k]) for k in ("weight", "bias")), 1, 1
        )
    )
    logits = nn.functional.linear(crossing.flatten(1), weight, bias)
    losses = nn.functional.cross_entropy(logits, torch.from_numpy(LABELS), reduction="none")
    losses.sum().backward()
    secrets = {
        "losses": losses.detach().numpy(),
        "probabilities": torch.softmax(logits, 1).detach().numpy(),
        "d_logits": bias.grad.numpy(),
        "d_weight": weight.grad.numpy(),
        "tuned": fc.weights["weight"] - RATE * weight.grad.numpy() / len(LABELS),
    }
    everything = np.concatenate(
        [np.frombuffer(a[at : at + (len(a) - at) // 4 * 4], "<f4") for a in said for at in range(4) if a]
    )
    everything = np.sort(np.abs(everything[np.isfinite(everything)]))
    for name, values in secrets.items():
        wanted = np.abs(values.reshape(-1)[np.abs(values.reshape(-1)) > 1e-3])
        at = np.searchsorted(everything, wanted * (1 - 1e-6))
        hits = everything[np.minimum(at, everything.size - 1)] <= wanted * (1 + 1e-6)
        assert hits.mean() < 0.05, f"{hits.mean():.0%} of the hidden {name} are among what the agent said"


def exported(folder: Path) -> tuple[bytes, bytes]:
    """A tuned hidden part, and the key of the device that made it."""
    storage = folder / "storage"
    storage.mkdir()
    board = EmulatedBoard(storage=storage)
    with board.open(deploy_trainable(folder, GRAPH, HIDDEN, OWNER)) as session:
        training = session.train(TrainOptions(RATE))
        training.step(IMAGES, LABELS)
        tuned = training.export()
    assert tuned.sealed is not None
    return tuned.sealed, board.device_key()


def test_a_tuned_model_opens_to_its_owner_alone_and_whole(tmp_path):
    sealed, key = exported(tmp_path)
    model = OWNER.unseal(sealed, key)
    assert OwnerKey.from_pem(OWNER.to_pem()).unseal(sealed, key) == model
    with pytest.raises(SealingError, match="another owner"):
        OwnerKey.generate().unseal(sealed, key)
    with pytest.raises(SealingError, match="authenticate"):
        OWNER.unseal(sealed, OwnerKey.generate().public)
    for at in range(0, len(sealed), 97):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(SealingError):
            OWNER.unseal(bytes(changed), key)
    for damaged in (
        sealed[:-1],
        sealed[: HEADER.size],
        sealed[:10],
        sealed + b"\0",
        sealed[: HEADER.size + CHUNK.size],
    ):
        with pytest.raises(SealingError):
            OWNER.unseal(damaged, key)
    # What anybody can seal to the owner's public key is not taken for a device's.
    with pytest.raises(SealingError, match="authenticate"):
        OWNER.unseal(seal(model, OWNER.public), key)


def test_a_tuned_model_runs_and_trains_on_another_device(tmp_path):
    sealed, key = exported(tmp_path)
    files = deploy(tmp_path, GRAPH, HIDDEN, OutputPolicy.parse("top1"))
    assert files.sealed is not None
    files.sealed.write_bytes(OWNER.unseal(sealed, key))
    with EmulatedBoard().open(files) as session:
        session.train(TrainOptions(RATE)).step(IMAGES, LABELS)
        assert session.infer(IMAGES).outputs.shape == (3,)


def test_without_the_owner_s_consent_nothing_is_trained(tmp_path):
    files = deploy(tmp_path, GRAPH, HIDDEN)
    with EmulatedBoard().open(files) as session:
        with pytest.raises(BoardError, match="owner does not allow"):
            session.train(TrainOptions(RATE))
        assert session.infer(IMAGES).outputs.shape == (3, 5)


@pytest.mark.parametrize(
    ("at", "value"), [(0, 0), (4, 2), (8, 2), (12, 1), (12, 257), (16, 1), (80, 1), (124, 1)], ids=str
)
def test_a_damaged_training_section_is_refused(tmp_path, at, value):
    files = deploy_trainable(tmp_path, GRAPH, HIDDEN, OWNER)
    assert files.sealed is not None
    data = bytearray(files.sealed.read_bytes())
    data[len(data) - 128 + at : len(data) - 128 + at + 4] = value.to_bytes(4, "little")
    files.sealed.write_bytes(data)
    with EmulatedBoard().open(files) as session, pytest.raises(BoardError, match="sealed model is refused"):
        session.train(TrainOptions(RATE))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TrainOptions(-1.0), "learning rate"),
        (TrainOptions(float("nan")), "learning rate"),
        (TrainOptions(float("inf")), "learning rate"),
        (TrainOptions(0.1, 1.0), "momentum"),
        (TrainOptions(0.1, 0.9, -1.0), "weight decay"),
        (TrainOptions(0.1, seed=-1), "seed"),
        (TrainOptions(0.1, dropouts=((5, 0.5),)), "dropouts"),
        (TrainOptions(0.1, dropouts=((0, 1.0),)), "probability"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, options, message):
    with (
        EmulatedBoard().open(deploy_trainable(tmp_path, GRAPH, HIDDEN, OWNER)) as session,
        pytest.raises(BoardError, match=message),
    ):
        session.train(options)


def test_wrong_batches_are_refused_and_training_goes_on(tmp_path):
    with EmulatedBoard().open(deploy_trainable(tmp_path, GRAPH, HIDDEN, OWNER)) as session:
        training = session.train(TrainOptions(RATE))
        for labels in (LABELS + 5, LABELS - 5, LABELS[:2]):
            with pytest.raises(BoardError):
                training.step(IMAGES, labels)
        training.step(IMAGES, LABELS)
        training.export()
        with pytest.raises(BoardError, match="TRAIN_BEGIN"):
            training.step(IMAGES, LABELS)
        session.train(TrainOptions(RATE)).step(IMAGES, LABELS)


def test_a_tee_too_small_to_train_still_answers(tmp_path):
    torch.manual_seed(0)
    graph = export_graph(DarknetzVgg7().eval(), INPUT_SHAPE, softmax=True)
    files = deploy_trainable(tmp_path, graph, last_layers(graph, 8), OWNER)
    images = batches_for(INPUT_SHAPE, 10)[0][0]
    with EmulatedBoard(1 << 20).open(files) as session:
        before = session.infer(images).outputs
        for _ in range(3):
            with pytest.raises(TeeOutOfMemory):
                session.train(TrainOptions(RATE))
        np.testing.assert_array_equal(session.infer(images).outputs, before)


def test_finetuning_a_deployment(tmp_path):
    deployment = Deployment(split(GRAPH, HIDDEN), OutputPolicy.parse("top1"), training=OnDeviceTraining())
    files = write_trainable(tmp_path, deployment, MODEL_ID, OWNER.public)
    rng = np.random.default_rng(2)
    data = LabelledImages(rng.standard_normal((7, 2, 6, 6)).astype(np.float32), rng.integers(0, 5, 7))
    how = FineTuning(epochs=2, batch=3, seed=1)
    runs = [finetune(EmulatedBoard(), deployment, files, data, how, show=True) for _ in range(2)]
    order = list(batches(len(data), how))
    assert [len(chosen) for chosen in order] == [3, 3, 1] * 2
    assert sorted(np.concatenate(order[:3])) == list(range(7))
    assert len(runs[0].steps) == len(order)
    first = runs[0].steps[0]
    assert first.crossed["step1.in0"].shape == first.boundary["step1.in0"].shape == (3, 108)
    assert {name: array.shape for name, array in first.public.items()} == {
        (0, 0, "weight"): (3, 2, 3, 3),
        (0, 0, "bias"): (3,),
    }
    assert (runs[0].step_ns >= runs[0].invoke_ns).all()
    assert runs[0].tee_bytes == training_bytes(deployment.segments)
    assert runs[0].files.sealed is not None
    tuned = parse(OWNER.unseal(runs[0].files.sealed, runs[0].files.device_key)).as_segments()
    assert not np.array_equal(tuned[0].graph.nodes[0].weights["weight"], GRAPH.nodes[3].weights["weight"])
    for one, other in zip(*(run.public for run in runs), strict=True):
        assert one.fingerprint() == other.fingerprint()
    assert not np.array_equal(runs[0].public[0].nodes[0].weights["weight"], GRAPH.nodes[0].weights["weight"])


def test_what_only_answers_queries_is_not_trained(tmp_path):
    deployment = Deployment(split(GRAPH, HIDDEN), OutputPolicy.parse("top1"))
    with pytest.raises(GraphError, match="OnDeviceTraining"):
        write_trainable(tmp_path, deployment, MODEL_ID, OWNER.public)


def test_what_does_not_end_in_a_softmax_is_refused(tmp_path):
    torch.manual_seed(0)
    graph = export_graph(small_cnn(), (2, 8, 8), softmax=False)
    with pytest.raises(GraphError, match="softmax"):
        Deployment(split(graph, set()), OutputPolicy.parse("probs"), training=OnDeviceTraining())
    with (
        EmulatedBoard().open(deploy(tmp_path, graph, set())) as session,
        pytest.raises(BoardError, match="cannot be trained"),
    ):
        session.train(TrainOptions(RATE))


@pytest.mark.parametrize("hidden", [set(), {"fc", "soft"}], ids=["open", "hidden"])
def test_a_model_on_int8_is_refused(tmp_path, hidden):
    images = np.random.default_rng(0).standard_normal((8, 2, 6, 6)).astype(np.float32)
    graph = quantize(GRAPH, calibrate(GRAPH, images, 100.0))
    hidden = {node.name for node in graph.nodes if node.name in hidden}
    segments = split(graph, hidden)
    with pytest.raises(GraphError, match="int8"):
        Deployment(segments, OutputPolicy.parse("probs"), training=OnDeviceTraining())
    files = deploy(tmp_path, graph, hidden)
    if files.sealed is not None:
        files.sealed.write_bytes(allow_training(files.sealed.read_bytes(), segments, OWNER.public))
    with EmulatedBoard().open(files) as session:
        with pytest.raises(BoardError, match="cannot be trained: it is not all of float32"):
            session.train(TrainOptions(RATE))
        assert session.infer(images).outputs.shape == (8, 5)


@pytest.mark.parametrize(("tensor", "p"), [("r", 1.0), ("nothing", 0.5), ("p", 0.5)])
def test_dropouts_that_cannot_be_are_refused(tensor, p):
    segments = split(GRAPH, HIDDEN)
    with pytest.raises(GraphError, match="dropout"):
        allow_training(b"", segments, OWNER.public, {tensor: p} if tensor != "r" else {"f": p, "l": p})


@pytest.mark.parametrize("hides", [name for name in HIDES if name != "nothing"])
def test_the_planner_knows_what_training_takes(tmp_path, hides):
    torch.manual_seed(0)
    for number, (module, shape) in enumerate([(small_cnn(), (2, 8, 8)), (DarknetzVgg7().eval(), INPUT_SHAPE)]):
        graph = export_graph(module, shape, softmax=True)
        hidden = HIDES[hides]([node.name for node in graph.nodes])
        folder = tmp_path / str(number)
        folder.mkdir()
        with EmulatedBoard().open(deploy_trainable(folder, graph, hidden, OWNER)) as session:
            assert session.train(TrainOptions(RATE)).tee_bytes == training_bytes(split(graph, hidden))
