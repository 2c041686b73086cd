"""Surrogates learn as far as answers that were held back say that it helps."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from suite import surrogates
from suite.held_out import taught
from suite.transfer_set import TransferSet
from victims.inference import logits

CLASSES, SIZE = 5, 12
VIEW = SimpleNamespace(seed=0, teach=surrogates.teach)


def plane(weight):
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIZE, CLASSES)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor(weight))
        model[1].bias.zero_()
    return model


@pytest.fixture
def world():
    """A victim's weights, images, and what it answers of them."""
    draw = np.random.default_rng(3)
    weight = draw.standard_normal((CLASSES, SIZE)).astype(np.float32)
    images = draw.standard_normal((1500, 1, 3, 4)).astype(np.float32)
    return weight, images, logits(plane(weight), images).argmax(axis=1), draw


def test_few_answers_do_not_spoil_a_fair_guess(world):
    weight, images, answers, draw = world
    start = plane(weight + 0.2 * draw.standard_normal(weight.shape).astype(np.float32))
    known = TransferSet(images[:24], answers[:24], CLASSES)
    assert known.agreement(start) > 0.8
    assert taught(VIEW, known, (start, (1.0, 3.0))) is start


@pytest.mark.parametrize("n", [400, 1500])  # in turns, and once
def test_the_rate_that_teaches_is_chosen(world, n):
    weight, images, answers, draw = world
    start = plane(draw.standard_normal(weight.shape).astype(np.float32))
    known = TransferSet(images[:n], answers[:n], CLASSES)
    ours = known.agreement(taught(VIEW, known, (start, (1e-6, 3e-2))))
    slow = known.agreement(surrogates.teach(known.lesson(start, 1e-6, seed=0)))
    assert ours > 0.9 > 0.5 > slow


def test_the_way_that_leads_further_is_taken(world):
    """One begins near and cannot get closer, the other far off and learns: which is better depends on the answers."""
    weight, images, answers, draw = world
    near = plane(weight + 0.5 * draw.standard_normal(weight.shape).astype(np.float32))
    far = plane(np.zeros_like(weight))
    ways = (near, (1e-6,)), (far, (3e-2,))

    unseen = TransferSet(images[1200:], answers[1200:], CLASSES)
    fair = unseen.agreement(near)
    few = TransferSet(images[:16], answers[:16], CLASSES)
    assert unseen.agreement(taught(VIEW, few, *ways)) == pytest.approx(fair, abs=0.02)
    assert unseen.agreement(taught(VIEW, few, ways[1])) < fair - 0.1
    many = TransferSet(images[:1200], answers[:1200], CLASSES)
    assert unseen.agreement(taught(VIEW, many, *ways)) > 0.9 > fair
    assert unseen.agreement(taught(VIEW, many, *reversed(ways))) > 0.9


def test_only_ways_that_are_near_are_tried_on_every_fold(world):
    weight, images, answers, draw = world
    start = plane(draw.standard_normal(weight.shape).astype(np.float32))
    known = TransferSet(images, answers, CLASSES)

    def trials(*rates):
        lessons = []
        view = SimpleNamespace(seed=0, teach=lambda lesson: lessons.append(lesson) or surrogates.teach(lesson))
        taught(view, known, (start, rates))
        *tried, whole = ((len(lesson.images), len(lesson.images) * lesson.epochs) for lesson in lessons)
        assert whole[0] == len(images)
        assert all(held < len(images) and shown <= whole[1] / 2 for held, shown in tried)
        return len(tried)

    assert trials(1e-6, 3e-2) == 2
    assert trials(1e-6, 3e-2, 3.01e-2) == 3 + 2 * 2
