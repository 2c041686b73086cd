"""Extraction attacks: they steal what can be stolen, count what they ask, and what they got is judged right."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from record_samples import extraction_sample
from sklearn.linear_model import LogisticRegression
from torch import nn

from suite import Deployment, ExtractionAttack, Goal, OutputPolicy, Stolen, View, attack, split, victim
from suite import records as r
from suite.adversarial import epsilon_of, fgsm, pgd
from suite.attack_model import Attack, Layout
from suite.conformance_samples import on_board
from suite.deploying import deploy, lay, untrained_victim
from suite.disguised import disguised_layers
from suite.exposed import answering_graph, exposed_layers, template_of
from suite.extracting import budgets_of, extract
from suite.extraction_metrics import extraction_points, fidelity_excess
from suite.graph.export import export_graph
from suite.graph.module import GraphModule
from suite.graph.parse import parse_file
from suite.leaderboard import leaderboard
from suite.material import prepare
from suite.model import LabelledImages
from suite.models import TrainJob
from suite.profiles import get_profile
from suite.recovery import recovered
from suite.registry import REGISTRY, Kind, PluginError, discover
from suite.render import FORMATS, extraction_csv
from suite.run import Bench, run_attack_cell
from suite.session import Options, Run
from suite.spec import parse
from suite.store import Store
from suite.surrogates import Lesson, epochs_for, kept_in, targets_of, teach
from suite.unmasking import by_likeness, differences
from suite.view import AdversaryView, Shown, ViewError
from victims.inference import logits
from victims.recipe import Recipe

discover()
SHAPE, CLASSES = (1, 28, 28), 10
SMOKE = get_profile("smoke")


@pytest.fixture(scope="module")
def digits():
    return prepare("digits", 0, SMOKE)


@pytest.fixture
def _scratch_registry(monkeypatch):
    monkeypatch.setattr(REGISTRY, "_plugins", {kind: dict(REGISTRY._plugins[kind]) for kind in Kind})


@pytest.fixture
def oneplane(_scratch_registry):
    @victim("oneplane", recipe=Recipe(learning_rate=0.02))
    class OnePlane(nn.Module):
        """One linear layer."""

        def __init__(self, input_shape, n_classes):
            super().__init__()
            self.flatten = nn.Flatten()
            self.linear = nn.Linear(int(np.prod(input_shape)), n_classes)

        def forward(self, images):
            return self.linear(self.flatten(images))

    return OnePlane


def made(kind, text):
    (spec,) = parse(kind, text)
    return spec


def view_of(deployment, files, session, plugin, material, budget, *, architecture="vgg7", pretrained=None):
    shown = Shown(
        architecture=architecture, input_shape=SHAPE, n_classes=CLASSES, policy=deployment.policy,
        candidates=LabelledImages(material.auxiliary.images[:0], material.auxiliary.labels[:0]),
        outputs=np.empty((0, CLASSES), np.float32), shows=deployment.shows,
        public=tuple(segment.graph for segment in parse_file(files.public).as_segments()),
        public_file=files.public.read_bytes(), boundary={},
        auxiliary=material.auxiliary, shadows=(), budget=budget, disguised=deployment.disguised,
        pretrained=pretrained, pretrained_on=np.arange(100),
    )  # fmt: skip
    return AdversaryView(shown, plugin.needs, session)


def steal(text, deployment, material, budget, **more):
    """What an attack builds, and the deployment's own answers for the test images."""
    plugin = made(Kind.ATTACK, text).make()
    with on_board(deployment) as (files, session):
        stolen = plugin.extract(view_of(deployment, files, session, plugin, material, budget, **more), budget)
        truth = session.infer(material.test.images).outputs
    said = logits(stolen.module, material.test.images).argmax(axis=1)
    return stolen, float((said == (truth if truth.ndim == 1 else truth.argmax(axis=1))).mean())


# ---- what can be stolen is stolen


@pytest.mark.parametrize(("policy", "least"), [("probs", 0.99), ("rounded3", 0.99), ("top1", 0.9)])
def test_a_linear_victim_is_stolen(oneplane, digits, policy, least):
    """By answers alone: knockoff against a black box."""
    members = digits.members
    fitted = LogisticRegression(C=0.001, max_iter=300).fit(members.images.reshape(len(members), -1), members.labels)
    model = oneplane(SHAPE, CLASSES).eval()
    with torch.no_grad():
        model.linear.weight.copy_(torch.tensor(fitted.coef_))
        model.linear.bias.copy_(torch.tensor(fitted.intercept_))
    graph = export_graph(model, SHAPE, softmax=True)
    hidden = Deployment(split(graph, in_tee=lambda node: True), OutputPolicy.parse(policy))
    stolen, fidelity = steal(
        "knockoff[start=scratch,epochs=100,rate=0.01]", hidden, digits, 700, architecture="oneplane"
    )
    assert stolen.queries == 700
    assert fidelity > least


def spread_victim():
    """An untrained VGG-7 whose answers differ from image to image, as a trained one's do."""
    bare = untrained_victim("vgg7", SHAPE, CLASSES)
    module, images = copy.deepcopy(bare.module), prepare("digits", 0, SMOKE).test.images
    with torch.no_grad():
        module.classifier[2].bias -= torch.tensor(logits(module, images).mean(axis=0))
    assert len(set(logits(module, images).argmax(axis=1))) > 5
    return dataclasses.replace(bare, module=module, graph=export_graph(module, SHAPE, softmax=True))


def stranger():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return REGISTRY.get(Kind.VICTIM, "vgg7").cls(SHAPE, CLASSES).eval()


def test_what_lies_open_is_taken_as_it_is(digits):
    open_one = deploy(made(Kind.DEFENSE, "vanilla[]"), spread_victim())
    for text, queries in (("direct_use", 0), ("hybrid", 30)):
        stolen, fidelity = steal(text, open_one, digits, queries, pretrained=stranger)
        assert (stolen.queries, fidelity) == (queries, 1.0)


def test_the_disguise_of_shadownet_comes_off(digits):
    """All filters, from what crosses for a hundred images; a stranger's weights are no help and not needed."""
    hidden = deploy(made(Kind.DEFENSE, "shadownet[]"), spread_victim())
    stolen, fidelity = steal("weight_recovery[]", hidden, digits, 128, pretrained=stranger)
    assert fidelity > 0.99
    assert stolen.queries == 128


def test_what_is_behind_soters_scalars_is_found(digits):
    """Scaled layers between tensors that cross; order and signs are the victim's own."""
    owner = spread_victim()
    hidden = deploy(made(Kind.DEFENSE, "soter[]"), owner)
    plugin, images = made(Kind.ATTACK, "weight_recovery[]").make(), digits.auxiliary.images[:128]
    template = template_of(stranger(), SHAPE)
    with on_board(hidden) as (files, session):
        view = view_of(hidden, files, session, plugin, digits, 128)
        looked = view.query_boundary(images)
        layers = disguised_layers(view.public, template, images, looked.boundary)
        found = recovered(layers, template, looked.outputs, view.policy)
    truth = {node.name: node.weights["weight"] for node in owner.graph.nodes if node.name in found}
    last = template.parameter_nodes()[-1].name
    assert len(found) >= 3
    for name, weights in found.items():
        theirs = truth[name] - (truth[name].mean(axis=0) if name == last else 0)  # logits less their mean say the same
        seen = np.abs(weights["weight"]).reshape(len(theirs), -1).max(axis=1) > 0
        assert seen.mean() > 0.5
        np.testing.assert_allclose(weights["weight"][seen], theirs[seen], atol=2e-3 * np.abs(theirs).max())


def test_attacks_say_what_does_not_suit_them():
    alone, disguised = Layout(True, False), Layout(False, True)
    direct, recovery = (made(Kind.ATTACK, text).make() for text in ("direct_use", "weight_recovery[]"))
    assert not direct.unsuited(alone)
    assert "no answer without the TEE" in direct.unsuited(disguised)
    assert not recovery.unsuited(disguised)
    assert "disguised" in recovery.unsuited(alone)


@pytest.mark.parametrize("text", ["knockoff[choice=best]", "knockoff[epochs=-1]", "weight_recovery[match=luck]"])
def test_parameters_that_do_not_exist_are_named(text):
    with pytest.raises(ValueError, match=text.partition("[")[0]):
        made(Kind.ATTACK, text).make()


def test_cells_without_anything_to_do_are_left_out_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path))
    run = Run(
        Options(profile="smoke", victims="vgg7", defenses="vanilla,shadownet", attacks="direct_use,weight_recovery[]")
    )
    kept = {(cell.defense.name, cell.attack.name) for cell in run.screen(run.cells) if cell.attack}
    assert kept == {("vanilla", "direct_use"), ("shadownet", "weight_recovery")}
    reasons = {one.cell.attack.name: one.reason for one in run.excluded}
    assert "gives no answer without the TEE" in reasons["direct_use"]
    assert "boundary" in reasons["weight_recovery"]


# ---- reading public parts


@pytest.mark.parametrize(
    ("defense", "open_layers"),
    [
        ("darknetz[k=2]", [0, 1, 2, 3, 4, 5]), ("darknetz[start=3,end=4,output=probs]", [0, 1, 4, 5, 6, 7]),
        ("serdab[k=3]", [3, 4, 5, 6, 7]), ("vanilla[]", list(range(8))), ("shadownet[]", []),
        ("depthwise_quant[layers=7-8]", [0, 1, 2, 3, 4, 5]),
    ],
)  # fmt: skip
def test_exposed_layers_are_put_where_they_belong(defense, open_layers):
    owner = untrained_victim("vgg7", SHAPE, CLASSES)
    deployment = deploy(made(Kind.DEFENSE, defense), owner)
    template = template_of(stranger(), SHAPE)
    with on_board(deployment) as (files, _):
        public = tuple(segment.graph for segment in parse_file(files.public).as_segments())
    found = exposed_layers(public, template, SHAPE)
    layers, truth = template.parameter_nodes(), owner.graph.parameter_nodes()
    assert list(found) == [layers[i].name for i in open_layers]
    exact = not defense.startswith("depthwise")
    for i in open_layers:
        ours, theirs = found[layers[i].name]["weight"], truth[i].weights["weight"]
        np.testing.assert_allclose(ours, theirs, atol=0 if exact else 0.02 * np.abs(theirs).max())


def test_a_public_answer_is_found_and_given_in_logits():
    owner = untrained_victim("vgg7", SHAPE, CLASSES)
    images = np.random.default_rng(0).standard_normal((4, *SHAPE)).astype(np.float32)
    graph = answering_graph((owner.graph,), SHAPE, CLASSES)
    np.testing.assert_allclose(logits(GraphModule(graph), images), logits(owner.module, images), rtol=1e-3, atol=1e-4)
    half = deploy(made(Kind.DEFENSE, "darknetz[k=2]"), owner)
    with pytest.raises(ValueError, match="no answer without the TEE"):
        answering_graph(half.public, SHAPE, CLASSES)


def test_masks_come_off_and_likeness_finds_the_order():
    draw = np.random.default_rng(0)
    filters = draw.standard_normal((10, 200))
    masks = draw.standard_normal((2, 200))
    scalars = draw.choice((-1.0, 1.0), 10) * draw.uniform(0.5, 2, 10)
    public = np.concatenate([filters * scalars[:, None] + masks[np.arange(10) % 2], masks])[draw.permutation(12)]
    rows = differences(public.astype(np.float32), 10)
    unit = rows @ public
    cosine = np.abs(unit @ filters.T) / np.outer(np.linalg.norm(unit, axis=1), np.linalg.norm(filters, axis=1))
    np.testing.assert_allclose(np.sort(cosine.max(axis=0)), 1.0, atol=1e-5)
    public_like = filters + 0.3 * draw.standard_normal(filters.shape)
    found = by_likeness(rows, public.astype(np.float32), public_like) @ public
    cosines = (found * filters).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(filters, axis=1)
    np.testing.assert_allclose(cosines, 1.0, atol=1e-5)


# ---- asking and learning


def test_a_budget_is_a_limit(digits):
    deployment = deploy(made(Kind.DEFENSE, "darknetz[k=2]"), untrained_victim("vgg7", SHAPE, CLASSES))
    plugin = made(Kind.ATTACK, "weight_recovery[]").make()
    with on_board(deployment) as (files, session):
        view = view_of(deployment, files, session, plugin, digits, 10)
        assert view.query(digits.auxiliary.images[:6]).shape == (6,)
        crossed = view.query_boundary(digits.auxiliary.images[6:9])
        assert all(len(array) == 3 for array in crossed.boundary.values())
        assert view.n_queries == 9
        with pytest.raises(ViewError, match="9 of 10 queries are spent, 2 more"):
            view.query(digits.auxiliary.images[:2])
        with pytest.raises(ViewError, match="no pre-trained model"):
            _ = view.pretrained


def test_adaptive_choice_spends_the_budget_once_per_image(digits):
    deployment = deploy(made(Kind.DEFENSE, "full_tee[output=probs]"), spread_victim())
    plugin = made(Kind.ATTACK, "knockoff[choice=adaptive,epochs=1]").make()
    asked = []

    class Recorder:
        def __init__(self, session):
            self.session = session

        def infer(self, images):
            asked.append(images.copy())
            return self.session.infer(images)

    with on_board(deployment) as (files, session):
        view = view_of(deployment, files, Recorder(session), plugin, digits, 60, pretrained=stranger)
        plugin.extract(view, 60)
        assert view.n_queries == 60
    assert len(asked) == 10  # rounds, each chosen by what the last ones brought
    every = np.concatenate(asked).reshape(60, -1)
    own = digits.auxiliary.images.reshape(len(digits.auxiliary), -1)
    assert len(np.unique(every, axis=0)) >= len(np.unique(own, axis=0)) * 60 // len(own) // 2
    assert (np.abs(own[None] - every[:5, None]).max(axis=2).min(axis=1) == 0).all()


def test_targets_sum_to_one_under_every_policy():
    answers = np.array([[0.7, 0.3, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(targets_of(answers, 3).sum(axis=1), 1.0)
    np.testing.assert_allclose(targets_of(answers, 3)[1], [1, 0, 0])
    np.testing.assert_allclose(targets_of(np.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])


def lesson(n=40, epochs=4):
    draw = np.random.default_rng(0)
    targets = np.eye(CLASSES, dtype=np.float32)[draw.integers(0, CLASSES, n)]
    return Lesson(stranger(), draw.standard_normal((n, *SHAPE)).astype(np.float32), targets, epochs, 1e-3)


def test_an_interrupted_lesson_ends_the_same(tmp_path, monkeypatch):
    from suite import surrogates

    whole = teach(lesson())
    monkeypatch.setattr(surrogates, "CHECKPOINT_EVERY_S", 0.0)
    epoch = surrogates._Run.epoch

    def stops(self):
        if self.done == 2:
            raise KeyboardInterrupt
        epoch(self)

    monkeypatch.setattr(surrogates._Run, "epoch", stops)
    with pytest.raises(KeyboardInterrupt):
        teach(lesson(), tmp_path / "lesson.pt")
    monkeypatch.setattr(surrogates._Run, "epoch", epoch)
    again = teach(lesson(), tmp_path / "lesson.pt")
    for ours, theirs in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(next(whole.parameters()), next(stranger().parameters()))


def test_the_same_answers_are_learned_from_once(tmp_path, monkeypatch):
    from suite import surrogates

    teacher = kept_in(Store(tmp_path))
    first = teacher(lesson())
    monkeypatch.setattr(surrogates, "teach", lambda *_: pytest.fail("trained again"))
    again = teacher(lesson())
    for ours, theirs in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    changed = lesson()
    changed.targets[0] = changed.targets[0, ::-1]
    with pytest.raises(pytest.fail.Exception):
        teacher(changed)


def test_only_what_is_trained_changes_and_fixed_layers_stay_to_the_bit():
    graph = template_of(stranger(), SHAPE)
    last = graph.parameter_nodes()[-1].name
    start = GraphModule(graph, [last]).eval()
    given = lesson()
    after = teach(dataclasses.replace(given, module=start))
    for (name, ours), theirs in zip(after.named_parameters(), start.parameters(), strict=True):
        assert torch.equal(ours, theirs) is not name.startswith(start._places[last]), name


@pytest.mark.parametrize("trained", [[-1], [3, -2], [0]])
def test_what_layers_that_stay_make_is_made_once_and_the_lesson_is_the_same(trained, monkeypatch):
    torch.manual_seed(5)
    graph = untrained_victim("resnet20", SHAPE, CLASSES).graph  # with branches past what is trained
    layers = graph.parameter_nodes()
    start = GraphModule(graph, [layers[i].name for i in trained]).eval()
    made, prepare_ = [], GraphModule.prepare
    monkeypatch.setattr(GraphModule, "prepare", lambda self, x: made.append(len(x)) or prepare_(self, x))
    given = dataclasses.replace(lesson(), module=start, epochs=3)
    once = teach(given)
    assert sum(made) == len(given.images)
    monkeypatch.setattr("suite.surrogates._MOST_BYTES", 0)
    anew = teach(given)
    assert sum(made) == 4 * len(given.images)
    for ours, theirs in zip(once.parameters(), anew.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-4)


def test_few_answers_are_shown_more_often_than_many():
    assert [epochs_for(n) for n in (0, 50, 500, 4000, 20000)] == [30, 30, 24, 3, 3]


# ---- adversarial examples


def test_adversarial_examples_stay_near_and_are_pixels(digits):
    images = LabelledImages(digits.test.images[:20], digits.test.labels[:20])
    std, mean = digits.normaliser.std[0], digits.normaliser.mean[0]
    for craft in (fgsm, pgd):
        moved = craft(stranger(), images, digits.normaliser, 20.0)
        pixels, before = ((x * std + mean) * 255 for x in (moved, images.images))
        assert np.abs(pixels - before).max() <= 20.0 + 1e-3
        assert pixels.min() >= -1e-3
        assert pixels.max() <= 255 + 1e-3
        assert np.abs(pixels - before).max() > 19.0
    assert epsilon_of((3, 32, 32)) == 8.0


def test_a_step_against_the_sign_is_what_it_should_be_on_a_plane(oneplane, digits):
    model = oneplane(SHAPE, CLASSES).eval()
    images = LabelledImages(digits.test.images[:5], digits.test.labels[:5])
    moved = torch.tensor(fgsm(model, images, digits.normaliser, 5.0))
    given = torch.tensor(images.images, requires_grad=True)
    nn.functional.cross_entropy(model(given), torch.tensor(images.labels), reduction="sum").backward()
    inside = (moved - given).detach() != 0
    assert torch.equal((moved - given).detach().sign()[inside], given.grad.sign()[inside])


# ---- metrics, records, tables


def test_points_are_shares_of_what_they_say():
    answers = r.StolenAnswers(
        budgets=np.array([10]), queries=np.array([9]), labels=np.array([0, 1, 2, 3]), deployed=np.array([0, 1, 2, 0]),
        stolen=np.array([[0, 1, 0, 0]]), images=np.arange(4), changed=np.array([0, 1]), fgsm=np.array([[0, 1]]),
        pgd=np.array([[5, 1]]),
    )  # fmt: skip
    (point,) = extraction_points(answers)
    assert (point.budget, point.n_queries) == (10, 9)
    assert (point.accuracy.value, point.fidelity.value) == (0.5, 0.75)
    assert (point.transfer_fgsm.value, point.transfer_pgd.value) == (0.0, 0.5)
    assert point.fidelity.low < 0.75 < point.fidelity.high
    none = dataclasses.replace(answers, changed=answers.changed[:0], fgsm=answers.fgsm[:, :0], pgd=answers.pgd[:, :0])
    assert extraction_points(none)[0].transfer_pgd is None


def test_excess_is_paired():
    _, better = extraction_sample(fidelities=(0.6, 0.9))
    _, worse = extraction_sample(fidelities=(0.6, 0.7))
    excess = fidelity_excess(better, worse)
    assert excess.value == pytest.approx(0.2)
    assert 0 < excess.low < 0.2 < excess.high
    assert fidelity_excess(better, better).value == 0.0


def test_records_of_extractions_round_trip(tmp_path):
    record, answers = extraction_sample()
    written = r.write_record(tmp_path, record, answers)
    assert r.read_record(r.record_path(tmp_path, "quick", record.cell.id)) == written
    again = r.read_scores(tmp_path, written)
    assert extraction_points(again) == written.extraction.points  # metrics follow from what was stored
    with pytest.raises(r.RecordError, match="needs 'extraction' set"):
        dataclasses.replace(record, extraction=None)
    with pytest.raises(r.RecordError, match="rising budgets"):
        dataclasses.replace(record.extraction, points=record.extraction.points[::-1])
    with pytest.raises(r.RecordError, match="stolen must be"):
        dataclasses.replace(answers, stolen=answers.stolen[:, :3])


def test_the_table_shows_extraction_against_the_budget():
    samples = [
        extraction_sample("full_tee", "knockoff", (0.5, 0.6)), extraction_sample("darknetz_k2", "hybrid", (0.6, 0.8)),
        extraction_sample("vanilla", "direct_use", (1.0,), budgets=(0,), policy="probs"),
    ]  # fmt: skip
    scores = {record.cell.id: answers for record, answers in samples}
    board = leaderboard([record for record, _ in samples], lambda record: scores[record.cell.id])
    frame = board.tables[0].extraction.set_index(["defense", "attack", "budget"])
    assert frame.loc[("darknetz_k2", "hybrid", 500), "excess_fidelity"] == pytest.approx(0.2)
    assert frame.loc[("darknetz_k2", "hybrid", 500), "excess_over"] == "full_tee/knockoff"
    assert frame.fidelity.isna().sum() == 0
    for name, render in FORMATS.items():
        text = render(board)
        assert name == "csv" or "0.8" in text, name
    assert ",hybrid,top1,1,500,500,0.8," in extraction_csv(board)
    shown = FORMATS["terminal"](board)
    assert "Extraction" in shown
    assert "+0.200" in shown
    line = next(line for line in shown.splitlines() if line.startswith("vanilla, direct_use"))
    assert line.count("1.000") >= 2  # what asks for nothing is the same at every budget


# ---- the harness


@pytest.fixture
def counting(_scratch_registry):
    calls = []

    @attack("counting", goal=Goal.EXTRACTION, needs={View.QUERY, View.AUXILIARY})
    class Counting(ExtractionAttack):
        """Asks and learns nothing (original)."""

        fail_at: int = 0
        lie: bool = False

        def wants_pretrained(self):
            return False

        def extract(self, view, budget):
            calls.append(budget)
            if budget == self.fail_at and calls.count(budget) == 1:
                raise KeyboardInterrupt
            view.query(view.auxiliary.images[:budget])
            return Stolen(stranger(), budget + self.lie)

    return calls


@pytest.fixture
def small(oneplane, tmp_path):
    from suite.boards import make_board

    return Store(tmp_path / "store"), make_board("emulated", None), TrainJob("oneplane", "digits", SMOKE, 0)


def test_an_interruption_loses_one_budget_at_most(counting, small):
    store, board, job = small
    spec, defense = made(Kind.ATTACK, "counting[fail_at=200]"), made(Kind.DEFENSE, "full_tee[output=probs]")
    laid = lay(store, defense, job)
    with pytest.raises(KeyboardInterrupt):
        extract(store, spec, laid, defense, job, board)
    _, thefts = extract(store, spec, laid, defense, job, board)
    assert counting == [50, 200, 200]
    assert [theft.about["queries"] for theft in thefts] == [50, 200]
    assert all(theft.stolen.shape == (300,) for theft in thefts)
    with pytest.raises(PluginError, match=r"counting.*says that it asked for 51 images, it was 50"):
        extract(store, made(Kind.ATTACK, "counting[lie=true]"), laid, defense, job, board)


@pytest.mark.usefixtures("counting")
def test_a_cell_leaves_a_record_that_a_second_run_keeps(small, tmp_path):
    store, board, job = small
    from suite.matrix import build

    cells = build(
        victims=[made(Kind.VICTIM, "oneplane")], datasets=["digits"], defenses=[made(Kind.DEFENSE, "vanilla[]")],
        attacks=[made(Kind.ATTACK, "counting[]"), made(Kind.ATTACK, "direct_use")], board="emulated", profile=SMOKE,
        seeds=[0],
    )  # fmt: skip
    bench = Bench(store, board, tmp_path / "results", workers=1)
    asking, direct = (run_attack_cell(cell, bench) for cell in cells if cell.attack)
    assert [point.n_queries for point in asking.extraction.points] == [50, 200]
    (point,) = direct.extraction.points
    assert (point.budget, point.n_queries, point.fidelity.value) == (0, 0, 1.0)
    assert direct.extraction.epsilon_pixels == 76.5
    assert point.transfer_pgd.value > 0.9  # made on the victim itself
    assert run_attack_cell(cells[0], bench) == asking
    scores = r.read_scores(tmp_path / "results", direct)
    np.testing.assert_array_equal(scores.labels, job.material().test.labels)


@pytest.mark.usefixtures("counting")
def test_budgets_follow_what_a_board_can_take():
    spec = made(Kind.ATTACK, "counting[]")
    assert budgets_of(spec, SMOKE) == (50, 200)
    assert budgets_of(spec, dataclasses.replace(SMOKE, queries=100)) == (50,)
    assert budgets_of(made(Kind.ATTACK, "direct_use"), SMOKE) == (0,)


@pytest.mark.usefixtures("_scratch_registry")
@pytest.mark.parametrize(
    ("goal", "base", "needs", "message"),
    [
        (Goal.EXTRACTION, Attack, {View.QUERY}, "goal membership derives from Attack"),
        (Goal.MEMBERSHIP, ExtractionAttack, {View.QUERY}, "goal membership derives from Attack"),
        (Goal.EXTRACTION, ExtractionAttack, {View.OUTPUT}, "no candidates"),
    ],
)
def test_goal_base_class_and_needs_belong_together(goal, base, needs, message):
    body = {"infer": lambda self, o: None, "extract": lambda self, v, b: None}
    with pytest.raises(PluginError, match=f"attack 'odd'.*{message}"):
        attack("odd", goal=goal, needs=needs)(type("Odd", (base,), body))
