"""The threat model as a type: an attack sees what it declared and its deployment shows, and nothing hidden."""

import array
import dataclasses
import weakref

import numpy as np
import pytest
import torch

from device.board import DeploymentFiles
from device.emulated import EmulatedBoard
from device.owner import OwnerKey
from device.training import TrainOptions
from suite import Defense, Deployment, LabelledImages, OutputPolicy, ShadowObservation, View, defense, split
from suite.deploying import deploy, untrained_victim
from suite.finetuning import pack_hidden
from suite.graph import packing
from suite.graph.format import pack_public, pack_sealed
from suite.graph.parse import parse_file
from suite.graph.wire import Layout
from suite.leakcheck import LeakError, assert_hidden
from suite.registry import Kind, discover
from suite.spec import default_specs, parse
from suite.view import AdversaryView, Shown, ViewError

discover()
SHAPE, CLASSES = (1, 28, 28), 10
HIDING = [spec for spec in default_specs(Kind.DEFENSE) if deploy(spec, untrained_victim("vgg7", SHAPE, CLASSES)).hidden]


def images(n, seed=0):
    draw = np.random.default_rng(seed)
    return LabelledImages(draw.standard_normal((n, *SHAPE)).astype(np.float32), draw.integers(0, CLASSES, n))


def files_of(deployment, folder):
    files = DeploymentFiles(folder / "public.lbm", folder / "sealed.lbm" if deployment.hidden else None)
    files.public.write_bytes(pack_public(deployment.segments, deployment.policy, bytes(16)))
    if files.sealed:
        if deployment.training:
            sealed = pack_hidden(deployment, bytes(16), OwnerKey.generate().public)
        else:
            sealed = pack_sealed(deployment.segments, deployment.policy, bytes(16))
        files.sealed.write_bytes(sealed)
    return files


def shown(deployment, files, **changed):
    candidates = images(20)
    outputs = np.zeros(20, np.int64) if deployment.policy.label_only else np.full((20, CLASSES), 0.1, np.float32)
    shadow = ShadowObservation(outputs, candidates.labels, np.arange(20) % 2 == 0)
    fields = {
        "architecture": "vgg7", "input_shape": SHAPE, "n_classes": CLASSES, "policy": deployment.policy,
        "candidates": candidates, "outputs": outputs, "shows": deployment.shows,
        "public_file": files.public.read_bytes(),
        "boundary": {"step1.in0": np.ones((20, 4))}, "auxiliary": images(30, 1), "shadows": (shadow, shadow), **changed,
    }  # fmt: skip
    if "public" not in fields:
        fields["public"] = tuple(segment.graph for segment in parse_file(files.public).as_segments())
    return Shown(**fields)


@pytest.fixture
def victim():
    return untrained_victim("vgg7", SHAPE, CLASSES)


def deployed(text, victim, folder):
    (spec,) = parse(Kind.DEFENSE, text)
    deployment = deploy(spec, victim)
    return deployment, files_of(deployment, folder)


# ---- what may be asked


ASKING = {
    View.OUTPUT: lambda view: view.observation(),
    View.WEIGHTS: lambda view: view.public,
    View.BOUNDARY: lambda view: view.boundary,
    View.AUXILIARY: lambda view: (view.auxiliary, view.shadows),
    View.QUERY: lambda view: view.query(images(2).images),
    View.GRADIENTS: lambda view: (view.train(TrainOptions(0.1)), view.gradients()),
}


class Recorder:
    def train(self, options):
        return self

    def infer(self, batch):
        self.batch = batch
        return self

    outputs = "answers"


@pytest.mark.parametrize("declared", list(View))
@pytest.mark.parametrize("asked", list(View))
def test_only_what_was_declared_can_be_asked(victim, tmp_path, asked, declared):
    deployment, files = deployed("darknetz[k=2,finetune=true]", victim, tmp_path)
    assert deployment.shows == set(View)
    view = AdversaryView(shown(deployment, files), frozenset({declared}), Recorder())
    if asked is declared:
        ASKING[asked](view)
        return
    with pytest.raises(ViewError, match=f"the attack did not declare .*add View.{asked.name} to its needs"):
        ASKING[asked](view)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("vanilla", {View.BOUNDARY}),
        ("full_tee[output=probs]", {View.BOUNDARY, View.GRADIENTS, View.WEIGHTS}),
        ("darknetz[k=1]", {View.GRADIENTS}),
        ("darknetz[k=1,finetune=true]", set()),
        ("darknetz[k=8,finetune=true]", {View.BOUNDARY, View.GRADIENTS, View.WEIGHTS}),
    ],
)
def test_what_the_deployment_does_not_show_cannot_be_asked(victim, tmp_path, text, hidden):
    deployment, files = deployed(text, victim, tmp_path)
    assert deployment.shows == set(View) - hidden
    view = AdversaryView(shown(deployment, files), frozenset(View), Recorder())
    for what in View:
        if what in hidden:
            with pytest.raises(ViewError, match=f"does not show .*{what.value}"):
                ASKING[what](view)
        elif what is not View.OUTPUT or View.BOUNDARY not in hidden:
            ASKING[what](view)


def test_an_observation_holds_what_was_declared_and_no_more(victim, tmp_path):
    deployment, files = deployed("darknetz[k=2]", victim, tmp_path)
    all_shown = shown(deployment, files)
    bare = AdversaryView(all_shown, frozenset({View.OUTPUT})).observation()
    assert (bare.boundary, bare.shadows, dict(bare.extra)) == ({}, (), {})
    full = AdversaryView(all_shown, frozenset(View)).observation()
    assert full.boundary == all_shown.boundary
    assert full.shadows == all_shown.shadows
    assert {field.name for field in dataclasses.fields(full)} == {
        "outputs", "labels", "n_classes", "policy", "boundary", "shadows", "extra",
        "views", "population", "population_labels", "references",
    }  # fmt: skip


def test_queries_need_a_session_and_give_the_outputs_alone(victim, tmp_path):
    deployment, files = deployed("darknetz[k=2]", victim, tmp_path)
    with pytest.raises(ViewError, match=r"the session is over: query inside observe\(\)"):
        AdversaryView(shown(deployment, files), frozenset({View.QUERY})).query(images(1).images)
    recorder = Recorder()
    view = AdversaryView(shown(deployment, files), frozenset({View.QUERY}), recorder)
    assert view.query(images(3).images) == "answers"
    assert len(recorder.batch) == 3
    with pytest.raises(AttributeError):
        view.anything = 1


# ---- what cannot be reached


@pytest.mark.parametrize("spec", HIDING, ids=lambda spec: spec.slug)
@pytest.mark.parametrize("live", [False, True], ids=["at_rest", "live"])
def test_no_hidden_parameter_can_be_reached(victim, tmp_path, spec, live):
    deployment = deploy(spec, victim)
    files = files_of(deployment, tmp_path)
    if not live:
        assert_hidden(AdversaryView(shown(deployment, files), frozenset(View)), deployment, files)
        return
    with EmulatedBoard(64 << 20).open(files) as session:
        answer = session.infer(images(20).images, boundary=True)
        seen = shown(deployment, files, outputs=answer.outputs, boundary=answer.boundary)
        assert_hidden(AdversaryView(seen, frozenset(View), session), deployment, files)


def stored(graph, node):
    """A layer's filter, or a batch norm's factors, as they are and as files hold them."""
    key = "weight" if "weight" in node.weights else "scale"
    weight = node.weights[key]
    return weight, packing.pack(weight, packing.layout_of(graph, node, key), node.attrs.get("groups", 1))


@pytest.mark.parametrize("spec", HIDING, ids=lambda spec: spec.slug)
def test_the_public_file_holds_no_row_of_a_hidden_parameter(victim, tmp_path, spec):
    """The same by the plainest means: a search for bytes."""
    deployment = deploy(spec, victim)
    files = files_of(deployment, tmp_path)
    public, sealed = files.public.read_bytes(), files.sealed.read_bytes()
    for graph in deployment.hidden:
        for node in graph.parameter_nodes():
            weight, packed = stored(graph, node)
            plain = weight.reshape(len(weight), -1) if weight.ndim > 1 else weight[None]
            for row in [*plain[:32], *packed.reshape(-1)[: packed.size // 8 * 8].reshape(-1, 8)[:32]]:
                # Rows of one value are no secret: where a part is hidden, the rest is zeros.
                assert (row == row[0]).all() or row.tobytes() not in public
            assert packed.tobytes() in sealed
    for graph in deployment.public:
        for node in graph.parameter_nodes():
            _, packed = stored(graph, node)
            assert packed.tobytes() in public
            assert packed.tobytes() not in sealed


class Box:
    def __init__(self, content):
        self.content = content


def closure_over(content):
    return lambda: content


def generator_over(content):
    yield 0
    yield content


def started(generator):
    next(generator)
    return generator


KEPT = []


def weakly(content):
    box = Box(content)
    KEPT.append(box)
    return weakref.ref(box)


def transposed_and_packed(weight):
    return packing.pack(weight, Layout.PACKED8, 1)


HIDEOUTS = {
    "itself": lambda w: w,
    "copy": lambda w: w.copy(),
    "view into it": lambda w: w.reshape(-1)[:1],
    "one row": lambda w: w[3].copy(),
    "column-major": lambda w: np.asfortranarray(w.reshape(len(w), -1)),
    "transposed": lambda w: np.ascontiguousarray(w.reshape(len(w), -1).T),
    "packed": transposed_and_packed,
    "double": lambda w: w.astype(np.float64),
    "bytes": lambda w: w.tobytes(),
    "odd place in bytes": lambda w: b"abc" + w.tobytes(),
    "bytearray": lambda w: bytearray(w.tobytes()),
    "memoryview": lambda w: memoryview(w.tobytes())[:1],
    "array": lambda w: array.array("f", w.reshape(-1).tolist()),
    "list": lambda w: w.reshape(-1)[:40].tolist(),
    "tensor": lambda w: torch.tensor(w),
    "slice of a tensor": lambda w: torch.tensor(w).reshape(-1)[:1],
    "gradient": lambda w: with_gradient(w),
    "parameter of a module": lambda w: module_with(w),
    "attribute": lambda w: Box({"deep": [Box(w)]}),
    "closure": closure_over,
    "default": lambda w: lambda x=w: x,
    "generator": lambda w: started(generator_over(w)),
    "bound method": lambda w: Box(w).__init__,
    "weak reference": weakly,
    "array of objects": lambda w: np.array([None, Box(w)], dtype=object),
}


def with_gradient(weight):
    tensor = torch.zeros(weight.shape, requires_grad=True)
    tensor.grad = torch.tensor(weight)
    return tensor


def module_with(weight):
    layer = torch.nn.Linear(2, 2)
    layer.register_buffer("extra", torch.tensor(weight))
    return layer


@pytest.mark.parametrize("hideout", HIDEOUTS)
def test_a_hidden_parameter_is_found_wherever_it_is_put(victim, tmp_path, hideout):
    deployment, files = deployed("darknetz[k=2]", victim, tmp_path)
    node = deployment.hidden[0].parameter_nodes()[0]
    planted = HIDEOUTS[hideout](node.weights["weight"].copy())
    view = AdversaryView(shown(deployment, files, boundary={"x": planted}), frozenset(View))
    with pytest.raises(LeakError, match=rf"hidden parameter {node.name}.weight of layer .* can be read from the view"):
        assert_hidden(view, deployment, files)


@pytest.mark.parametrize("key", ["weight", "bias"])
@pytest.mark.parametrize("classes", [2, 3, 5, 9])
def test_small_parameters_are_found_too(key, classes, tmp_path):
    victim = untrained_victim("vgg7", SHAPE, classes)
    *others, last = victim.graph.parameter_nodes()
    bias = np.random.default_rng(7).standard_normal(classes).astype(np.float32)  # an untrained model's is all zeros
    trained = dataclasses.replace(last, weights={**last.weights, "bias": bias})
    nodes = tuple(trained if node is last else node for node in victim.graph.nodes)
    victim = dataclasses.replace(victim, graph=dataclasses.replace(victim.graph, nodes=nodes))
    deployment, files = deployed("darknetz[k=1]", victim, tmp_path)
    (node,) = deployment.hidden[0].parameter_nodes()
    for form in (node.weights[key].copy(), packing.pack(node.weights[key], Layout.PACKED8, 1)):
        view = AdversaryView(shown(deployment, files, boundary={"x": form}), frozenset(View))
        if key == "bias" and classes < 4:
            assert_hidden(view, deployment, files)  # said so: too short to be told from chance
        else:
            with pytest.raises(LeakError, match=key):
                assert_hidden(view, deployment, files)


def test_numbers_that_are_no_hidden_parameter_raise_no_alarm(victim, tmp_path):
    deployment, files = deployed("darknetz[k=2]", victim, tmp_path)
    weight = deployment.hidden[0].parameter_nodes()[0].weights["weight"]
    harmless = [np.zeros_like(weight), np.ones(10_000, np.float32), np.arange(100_000, dtype=np.float32), weight * 1.5]
    view = AdversaryView(shown(deployment, files, boundary=dict(enumerate(harmless))), frozenset(View))
    assert_hidden(view, deployment, files)


def test_the_victim_the_deployment_and_the_sealed_file_are_found(victim, tmp_path):
    deployment, files = deployed("darknetz[k=2]", victim, tmp_path)
    hidden = next(s for s in deployment.segments if s.world.value == "tee")
    for planted, message in [
        (victim, "a Victim can be reached"),
        (deployment, "a Deployment can be reached"),
        (files, "a DeploymentFiles can be reached"),
        (hidden, "a Segment can be reached"),
        (files.sealed, "the sealed file's place can be read"),
        (str(files.sealed), "the sealed file's place can be read"),
        (str(files.sealed).encode(), "the sealed file's place can be read"),
        (str(files.public), "the sealed file's place can be read"),  # its neighbour
        (tmp_path, "the sealed file's place can be read"),
    ]:
        view = AdversaryView(shown(deployment, files, boundary={"x": planted}), frozenset(View))
        with pytest.raises(LeakError, match=message):
            assert_hidden(view, deployment, files)
    with files.sealed.open("rb", buffering=0) as stream:
        view = AdversaryView(shown(deployment, files, boundary={"x": stream}), frozenset(View))
        with pytest.raises(LeakError):
            assert_hidden(view, deployment, files)


def test_a_public_file_that_holds_what_is_hidden_is_found(victim, tmp_path):
    deployment, files = deployed("darknetz[k=2]", victim, tmp_path)
    files.public.write_bytes(files.public.read_bytes() + files.sealed.read_bytes()[1:])
    view = AdversaryView(shown(deployment, files, public=(), public_file=b""), frozenset(View))
    with pytest.raises(LeakError, match="can be read from the public file public.lbm"):
        assert_hidden(view, deployment, files)


@pytest.mark.usefixtures("scratch_registry")
def test_a_defense_that_hides_a_parameter_in_name_only_is_found(victim, tmp_path):
    @defense("pretender")
    class Pretender(Defense):
        """The last layer hidden, and a copy of it (scaled by nothing) kept in the layer before."""

        def deploy(self, victim):
            layers = victim.graph.parameter_nodes()
            last = layers[-1].weights["weight"]
            wide = layers[-2].weights["weight"].copy()
            wide.reshape(-1)[: last.size] = last.reshape(-1)
            before = dataclasses.replace(layers[-2], weights={**layers[-2].weights, "weight": wide})
            nodes = tuple(before if node is layers[-2] else node for node in victim.graph.nodes)
            graph = dataclasses.replace(victim.graph, nodes=nodes)
            return Deployment(split(graph, in_tee={layers[-1].name, nodes[-1].name}), OutputPolicy.parse("top1"))

    deployment, files = deployed("pretender", victim, tmp_path)
    with pytest.raises(LeakError, match="hidden parameter"):
        assert_hidden(AdversaryView(shown(deployment, files), frozenset(View)), deployment, files)
    with pytest.raises(LeakError, match="public file"):
        assert_hidden(AdversaryView(shown(deployment, files, public=()), frozenset(View)), deployment, files)
