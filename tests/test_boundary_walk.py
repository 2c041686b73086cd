"""The decision-based distance: against a boundary of known place, within its budget, and out of the default matrix."""

import numpy as np
import pytest
import torch

from attacks.boundary_walk import walk
from suite import LabelledImages, OutputPolicy, References, View
from suite.attack_model import ReferenceModel
from suite.metrics import auc
from suite.registry import Kind, discover
from suite.spec import default_specs, every_spec, parse
from suite.view import AdversaryView, Shown

discover()
SHAPE = (1, 6, 6)


def plane(seed=0):
    """A linear classifier of two classes: where it divides, and what it says."""
    normal = np.random.default_rng(seed).standard_normal(SHAPE)
    normal /= np.linalg.norm(normal)

    def side(images):
        return (images * normal).sum(axis=(1, 2, 3))

    return normal, side, lambda images: (side(images) > 0).astype(np.int64)


def images_for(classify, n, seed):
    images = np.random.default_rng(seed).standard_normal((n, *SHAPE)).astype(np.float32)
    return LabelledImages(images, classify(images))


def test_distances_are_those_to_the_boundary_and_shrink_with_the_budget():
    _, side, classify = plane()
    inside, others = images_for(classify, 60, 1), images_for(classify, 300, 2)
    asked = []

    def counting(images):
        asked.append(len(images))
        return classify(images)

    exact = np.abs(side(inside.images))
    before = None
    for budget in (11, 100, 400):
        asked.clear()
        found = walk(counting, inside, others, budget, np.random.default_rng(0))
        assert sum(asked) <= budget * len(inside)
        assert (found >= 0.999 * exact).all()
        if before is not None:
            assert (found <= before + 1e-9).all()
        before = found
    assert np.median(found / exact) < 1.3
    assert np.corrcoef(found, exact)[0, 1] > 0.9


def test_where_no_start_lies_beyond_the_boundary_the_distance_is_a_bound():
    inside, others = (images_for(lambda x: np.zeros(len(x), np.int64), n, n) for n in (5, 20))
    others = LabelledImages(others.images, others.labels + 1)
    found = walk(lambda x: np.zeros(len(x), np.int64), inside, others, 60, np.random.default_rng(0))
    assert np.isfinite(found).all()
    assert (found > 0).all()


class _Linear(torch.nn.Module):
    def __init__(self, normal, offset):
        super().__init__()
        self.normal, self.offset = torch.tensor(normal, dtype=torch.float32).flatten(), offset

    def forward(self, images):
        height = images.flatten(1) @ self.normal + self.offset
        return torch.stack([-height, height], 1)


class _Session:
    """What a deployment answers about labels."""

    def __init__(self, classify):
        self.classify, self.asked = classify, 0

    def infer(self, images):
        self.asked += len(images)
        return type("Answer", (), {"outputs": self.classify(images)})


def shown(candidates, truth, classify, normal, auxiliary):
    policy = OutputPolicy.parse("top1")
    outputs = classify(candidates.images)
    known = np.stack([truth, ~truth, truth, ~truth])
    return Shown(
        "alexnet", SHAPE, 2, policy, candidates, outputs, frozenset(View), (), b"", {}, auxiliary, (),
        views=outputs[None], population=classify(auxiliary.images), population_labels=auxiliary.labels,
        references=References(np.stack([outputs[None]] * 4), known, np.stack([classify(auxiliary.images)] * 4)),
        reference_models=tuple(ReferenceModel(lambda: _Linear(normal, 0.0), truth) for _ in range(4)),
    )  # fmt: skip


@pytest.mark.parametrize("candidates", [0, 60])
def test_members_that_lie_deeper_are_found_by_labels_alone(candidates):
    normal, side, classify = plane()
    people = images_for(classify, 160, 3)
    truth = np.arange(160) % 2 == 0
    deeper = people.images + (3.0 * truth * np.sign(side(people.images)))[:, None, None, None] * normal
    people = LabelledImages(deeper.astype(np.float32), people.labels)
    session = _Session(classify)
    (spec,) = parse(Kind.ATTACK, f"boundary_walk[candidates={candidates},budget=100]")
    plugin = spec.make()
    view = AdversaryView(shown(people, truth, classify, normal, images_for(classify, 200, 4)), plugin.needs, session)
    guess = plugin.infer(plugin.observe(view))
    n_walked = candidates or len(truth)
    assert session.asked == view.n_queries <= 100 * n_walked
    found = auc(guess.scores, truth).value
    if candidates:
        walked = guess.scores != np.median(guess.scores)
        assert 0.5 < found < 0.9  # the others stand in the middle
        assert abs(int(walked.sum()) - candidates) <= 1
        assert auc_of(guess.scores[walked], truth[walked]) > 0.95
    else:
        assert found > 0.99
        assert ((guess.scores >= guess.threshold) == truth).mean() > 0.9


def auc_of(scores, truth):
    return float((scores[truth][:, None] > scores[~truth]).mean())


def test_what_is_wrong_has_no_distance_and_too_small_a_budget_is_refused():
    normal, _, classify = plane()
    people = images_for(classify, 40, 5)
    wrong = LabelledImages(people.images, np.where(np.arange(40) < 10, 1 - people.labels, people.labels))
    truth = np.arange(40) % 2 == 0
    see = shown(wrong, truth, classify, normal, images_for(classify, 50, 6))
    for text, refused in (("budget=100", False), ("budget=10", True)):
        (spec,) = parse(Kind.ATTACK, f"boundary_walk[{text}]")
        plugin = spec.make()
        view = AdversaryView(see, plugin.needs, _Session(classify))
        if refused:
            with pytest.raises(ValueError, match=r"boundary_walk\[budget=10\]: a walk takes at least 11 queries"):
                plugin.observe(view)
        else:
            scores = plugin.infer(plugin.observe(view)).scores
            assert (scores[:10] == 0).all()
            assert (scores[10:] > 0).all()


def test_it_is_run_when_asked_for_and_checked_all_the_same():
    assert "boundary_walk" not in {spec.name for spec in default_specs(Kind.ATTACK)}
    assert "boundary_walk" in {spec.name for spec in every_spec(Kind.ATTACK)}
    (spec,) = parse(Kind.ATTACK, "boundary_walk")
    assert spec.make().budget == 100
