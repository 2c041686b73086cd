"""Attacks with reference models and class thresholds: the papers' formulas, planted leaks, every output policy."""

import functools
import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from suite import Observation, OutputPolicy, References, ShadowObservation
from suite.likelihood import Compared, lira_offline, lira_online, rmia
from suite.metrics import auc, best_threshold
from suite.policy import stacked
from suite.registry import Kind, discover
from suite.signals import certainty, confidence, hit, logit, modified_certainty, right_and_rest, soft_confidence
from suite.spec import parse

discover()
POLICIES = ("probs", "top1", "rounded2", "topk1", "topk3")
ATTACKS = (
    "confidence", "prediction_entropy", "modified_entropy", "augmentation_vote", "lira[]", "lira[mode=offline]",
    "lira[variance=per_sample,views=1]", "rmia[]", "rmia[mode=offline]", "stacked",
)  # fmt: skip
CLASSES, N, VIEWS, MODELS, PEOPLE = 10, 400, 6, 8, 300


def made(text):
    (spec,) = parse(Kind.ATTACK, text)
    return spec.make()


def softmax(logits):
    wide = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (wide / wide.sum(axis=-1, keepdims=True)).astype(np.float32)


def answer(draw, labels, true_logit, noise=0.3):
    """Probabilities [..., N, CLASSES] whose true class is ``true_logit`` [..., N] above the others."""
    logits = noise * draw.standard_normal((*true_logit.shape, CLASSES))
    rows = np.broadcast_to(labels, true_logit.shape)[..., None]
    np.put_along_axis(logits, rows, true_logit[..., None], axis=-1)
    return softmax(logits)


def observation(policy_text, of_member, of_other, victim_leaks=True, n=N, seed=0):
    """A deployment and reference and shadow models; ``of_member(draw, shape)`` gives logits of the true class.

    A victim that does not leak answers about members and others alike, as untrained models do.
    """
    draw, policy = np.random.default_rng(seed), OutputPolicy.parse(policy_text)
    labels, truth = draw.integers(0, CLASSES, n), draw.permutation(np.arange(n) % 2 == 0)
    others, nobody = draw.integers(0, CLASSES, PEOPLE), np.zeros(PEOPLE, bool)

    def ask(known, classes, views):
        """Views of one image differ little: what a model knows of it does not change."""
        height = np.where(known, of_member(draw, len(known)), of_other(draw, len(known)))
        each = height + 0.05 * draw.standard_normal((views, len(known)))
        return stacked([policy.apply(one) for one in answer(draw, classes, each)])

    halves = [draw.permutation(np.arange(n) % 2 == 0) for _ in range(MODELS // 2)]
    known = np.stack([side for half in halves for side in (half, ~half)])
    views = ask(truth if victim_leaks else np.zeros(n, bool), labels, VIEWS)
    seen = Observation(
        views[0],
        labels,
        CLASSES,
        policy,
        shadows=tuple(ShadowObservation(ask(half, labels, 1)[0], labels, half) for half in halves),
        views=views,
        population=ask(nobody, others, 1)[0],
        population_labels=others,
        references=References(
            stacked([ask(half, labels, VIEWS) for half in known]),
            known,
            stacked([ask(nobody, others, 1)[0] for _ in known]),
        ),
    )
    return seen, truth


def around(mean, spread=1.0):
    return lambda draw, n: mean + spread * draw.standard_normal(n)


@functools.cache
def memoriser(policy):
    """Certain of what it was trained on, next to uniform over the classes for everything else."""
    return observation(policy, around(14.0), around(0.0, 0.3))


@functools.cache
def untrained(policy):
    return observation(policy, around(3.0), around(1.0), victim_leaks=False, n=1000, seed=3)


# ---- planted cases


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("text", ATTACKS)
def test_a_memoriser_is_found_out(text, policy):
    seen, truth = memoriser(policy)
    guess = made(text).infer(seen)
    found = auc(guess.scores, truth).value
    assert found > (0.9 if policy == "top1" else 0.99)  # labels alone are right by chance in one case of ten
    if guess.threshold is not None:
        assert ((guess.scores >= guess.threshold) == truth).mean() > 0.9


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("text", ATTACKS)
def test_an_untrained_model_gives_nothing_away(text, policy):
    seen, truth = untrained(policy)
    found = auc(made(text).infer(seen).scores, truth)
    slack = 0.5 * (found.high - found.low)  # fifty intervals: one that misses by half its width is no surprise
    assert found.low - slack < 0.5 < found.high + slack, found


def test_stacked_sees_what_no_single_signal_orders():
    """Members lie between non-members: no threshold, and no ratio of two bells, tells them apart."""
    levels_in, levels_out = np.array([2.0, 6.0]), np.array([0.0, 4.0, 8.0])

    def on(levels):
        return lambda draw, n: draw.choice(levels, n) + 0.3 * draw.standard_normal(n)

    seen, truth = observation("probs", on(levels_in), on(levels_out), n=800)
    found = {text: auc(made(text).infer(seen).scores, truth).value for text in (*ATTACKS, "shadow[]")}
    best = found.pop("stacked")
    found.pop("shadow[]")  # trees over one answer: as good here, where nothing depends on the candidate
    assert best > 0.9
    assert best > max(found.values()) + 0.2, found


def test_stacked_beats_the_likelihood_ratio_and_the_shadow_model_where_candidates_differ():
    """How hard a candidate is hides whether it is a member from who does not compare; bells miss that levels repeat."""
    hardness = np.random.default_rng(5).uniform(0.0, 12.0, N)

    def harder(levels):
        return lambda draw, n: draw.choice(levels, n) + 0.2 * draw.standard_normal(n) - (hardness if n == N else 0)

    seen, truth = observation("probs", harder([14.0, 16.0]), harder([13.0, 15.0, 17.0]))
    found = {text: auc(made(text).infer(seen).scores, truth).value for text in ("stacked", "lira[]", "rmia[]")}
    found["shadow"] = auc(made("shadow[]").infer(seen).scores, truth).value
    best = found.pop("stacked")
    assert best > max(found.values()) + 0.1, (best, found)


# ---- the papers' formulas, literally


def small(seed=0, models=6, views=2, n=9, people=7):
    draw = np.random.default_rng(seed)
    halves = [draw.permutation(np.arange(n) % 2 == 0) for _ in range(models // 2)]
    known = np.stack([side for half in halves for side in (half, ~half)])
    return Compared(
        draw.normal(1, 2, (views, n)), draw.normal(1, 2, (models, views, n)) + known[:, None],
        known, draw.normal(0, 1, people), draw.normal(0, 1, (models, people)),
    )  # fmt: skip


def as_probabilities(odds):
    return Compared(
        *(
            array if array.dtype == bool else 1 / (1 + np.exp(-array))
            for array in (odds.own, odds.others, odds.is_member, odds.own_population, odds.others_population)
        )
    )


def mean(values):
    return sum(values) / len(values)


@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("per_sample", [False, True])
def test_lira_is_algorithm_1_of_the_paper(per_sample, views):
    seen = small(views=views)
    online, offline = lira_online(seen, per_sample), lira_offline(seen, per_sample)
    n = seen.others.shape[2]

    def confidences(view, x, inside):
        return [
            answers[view, x] for answers, known in zip(seen.others, seen.is_member, strict=True) if known[x] == inside
        ]

    def products(view, other, x, inside):
        a, b = (confidences(v, x, inside) for v in (view, other))
        return sum((p - mean(a)) * (q - mean(b)) for p, q in zip(a, b, strict=True))

    def bell(x, inside):
        """Mean and covariance over views; the correlation of views is that of all candidates together."""
        degrees = [len(confidences(0, other, inside)) - 1 for other in range(n)]
        pooled = np.array(
            [[sum(products(v, w, other, inside) for other in range(n)) for w in range(views)] for v in range(views)]
        )
        size = np.sqrt(np.diag(pooled))
        correlation = 0.999 * pooled / np.outer(size, size) + 0.001 * np.eye(views)
        own = [products(v, v, x, inside) / degrees[x] for v in range(views)]
        spread = np.sqrt(own if per_sample else np.diag(pooled) / sum(degrees))
        return np.array([mean(confidences(v, x, inside)) for v in range(views)]), spread, correlation

    for x in range(n):
        known, unknown = (
            multivariate_normal(centre, np.outer(spread, spread) * correlation).pdf(seen.own[:, x])
            for centre, spread, correlation in (bell(x, True), bell(x, False))
        )
        assert online[x] == pytest.approx(np.log(known / unknown))
        centre, spread, correlation = bell(x, False)
        z = (seen.own[:, x] - centre) / spread
        weights = np.linalg.inv(correlation).sum(axis=1)
        above = norm.sf(weights @ z / np.sqrt(weights @ correlation @ weights))
        assert 1 - np.exp(-offline[x]) == pytest.approx(1 - above)


@pytest.mark.parametrize("a", [None, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_rmia_is_algorithm_1_of_the_paper(gamma, a):
    seen = as_probabilities(small(models=8))
    found = rmia(seen, gamma, a)
    models, views, n = seen.others.shape
    people = len(seen.own_population)
    for view in range(views):
        for x in range(n):
            known = [seen.others[m, view, x] for m in range(models) if seen.is_member[m, x]]
            unknown = [seen.others[m, view, x] for m in range(models) if not seen.is_member[m, x]]
            pr_out = sum(unknown) / len(unknown)
            pr_x = (sum(known) / len(known) + pr_out) / 2 if a is None else ((1 + a) * pr_out + (1 - a)) / 2
            beaten = 0
            for z in range(people):
                pr_z = sum(seen.others_population[m, z] for m in range(models)) / models
                beaten += (seen.own[view, x] / pr_x) / (seen.own_population[z] / pr_z) >= gamma
            assert beaten <= found[view, x] * (people + 0.5) < beaten + 0.5


def test_the_soft_confidence_is_the_softmax_of_rmia():
    draw = np.random.default_rng(0).normal(0, 4, (30, CLASSES))
    draw -= draw.mean(axis=1, keepdims=True)
    labels, probs = np.arange(30) % CLASSES, OutputPolicy.parse("probs")

    def taylor(x):
        return sum(x**k / math.factorial(k) for k in range(5))

    for row, label, found in zip(draw, labels, soft_confidence(softmax(draw), labels, probs), strict=True):
        right = taylor(row[label] / 2 - 0.6)
        assert found == pytest.approx(
            right / (right + sum(taylor(x / 2) for i, x in enumerate(row) if i != label)), rel=1e-4
        )
    rounded = OutputPolicy.parse("rounded2")
    cut = rounded.apply(softmax(draw))
    np.testing.assert_array_equal(soft_confidence(cut, labels, rounded), confidence(cut, labels, rounded))


def test_entropies_are_those_of_song_and_mittal():
    p = softmax(np.random.default_rng(0).normal(0, 2, (40, CLASSES)))
    labels, probs = np.arange(40) % CLASSES, OutputPolicy.parse("probs")
    plain, modified = certainty(p, labels, probs), modified_certainty(p, labels, probs)
    for row, label, one, other in zip(p.astype(float), labels, plain, modified, strict=True):
        assert one == pytest.approx(-np.log(-sum(f * np.log(f) for f in row)), rel=1e-5)
        wrong = sum(f * np.log(1 - f) for i, f in enumerate(row) if i != label)
        assert other == pytest.approx(-np.log(-(1 - row[label]) * np.log(row[label]) - wrong), rel=1e-5)


# ---- facts


def test_signals_rise_with_the_true_class_also_where_a_float32_stands_still():
    labels = np.zeros(6, int)
    logits = np.zeros((6, CLASSES))
    logits[:, 0] = [-30, 0, 3, 18, 25, 40]
    p, probs = softmax(logits), OutputPolicy.parse("probs")
    assert p[-1, 0] == p[-2, 0] == 1.0
    for signal in (logit, modified_certainty):
        assert (np.diff(signal(p, labels, probs)) > 0).all()
    np.testing.assert_allclose(logit(p, labels, probs), logits[:, 0] - np.log(CLASSES - 1), rtol=1e-5)


@pytest.mark.parametrize("text", ["top1", "rounded0", "rounded2", "topk1", "topk3"])
def test_what_a_policy_holds_back_is_filled_in_between_what_is_left(text):
    policy, labels = OutputPolicy.parse(text), np.arange(500) % CLASSES
    p = softmax(np.random.default_rng(1).normal(0, 3, (500, CLASSES)))
    right, rest = right_and_rest(policy.apply(p), labels, policy)
    assert (right > 0).all()
    assert (rest > 0).all()
    assert (right <= 1).all()
    true = p[np.arange(500), labels].astype(float)
    if text == "topk3":
        lowest_kept = -np.sort(-p, axis=1)[:, 2]
        cut = true < lowest_kept
        np.testing.assert_allclose(right[~cut], true[~cut], rtol=1e-6)
        assert (right[cut] <= lowest_kept[cut]).all()
    if text == "rounded2":
        assert np.abs(right - true).max() <= 0.005 + 1e-6
    seen = logit(policy.apply(p), labels, policy)
    assert np.corrcoef(seen, logit(p, labels, OutputPolicy.parse("probs")))[0, 1] > 0.5


def test_a_surer_answer_is_never_less_of_a_member_where_members_are_surer():
    seen = small(n=20, models=8)
    shared = seen.spread(True, per_sample=False)
    assert shared.shape == (2, 1)
    surer = Compared(seen.own + 0.5, seen.others, seen.is_member, seen.own_population, seen.others_population)
    assert (lira_offline(surer, True) > lira_offline(seen, True)).all()
    assert (rmia(as_probabilities(surer), 2.0, 0.3) >= rmia(as_probabilities(seen), 2.0, 0.3)).all()
    for extreme in (-1e4, 1e4):
        far = Compared(seen.own * 0 + extreme, seen.others, seen.is_member, seen.own_population, seen.others_population)
        for ratio in (lira_online, lira_offline):
            assert np.isfinite(ratio(far, True)).all()


def test_few_models_still_have_a_spread():
    """Four reference models leave two to compare a stand-in with, one of each kind."""
    two = small(models=2)
    for inside in (True, False):
        assert (two.spread(inside, per_sample=True) > 0).all()
    assert np.isfinite(lira_online(two, True)).all()


def test_a_reference_in_the_deployments_place_gives_the_signals_of_its_answers():
    seen, _ = untrained("probs")
    for model in (0, 3):
        mine, theirs = Compared.of(seen, logit).as_reference(model), Compared.of(seen.as_reference(model), logit)
        for field in ("own", "others", "is_member", "own_population", "others_population"):
            np.testing.assert_array_equal(getattr(mine, field), getattr(theirs, field))
        assert (theirs.is_member.sum(axis=0) == (MODELS - 2) // 2).all()


def test_class_thresholds_are_the_shadows_best():
    seen, _ = untrained("probs")
    guess = made("confidence").infer(seen)
    own = logit(seen.outputs, seen.labels, seen.policy)
    known = np.concatenate([logit(s.outputs, s.labels, seen.policy) for s in seen.shadows])
    labels = np.concatenate([s.labels for s in seen.shadows])
    truth = np.concatenate([s.is_member for s in seen.shadows])
    for label in range(CLASSES):
        level = best_threshold(known[labels == label], truth[labels == label])
        np.testing.assert_allclose(guess.scores[seen.labels == label], (own - level)[seen.labels == label])
    one = made("confidence[thresholds=one]").infer(seen)
    assert one.threshold is None
    np.testing.assert_array_equal(one.scores, own)


def test_label_only_votes_look_at_nothing_but_what_is_right():
    seen, truth = untrained("probs")
    labels, _ = untrained("top1")
    vote = made("augmentation_vote")
    np.testing.assert_array_equal(vote.infer(seen).scores, vote.infer(labels).scores)
    bits = hit(seen.views, seen.labels, seen.policy)
    same = (bits == bits[:, :1]).all(axis=0)
    assert len(np.unique(vote.infer(seen).scores[same])) == 1


def test_the_confidence_is_that_of_the_true_class():
    seen, _ = untrained("probs")
    found = confidence(seen.outputs, seen.labels, seen.policy)
    np.testing.assert_allclose(found, seen.outputs[np.arange(len(found)), seen.labels], rtol=1e-5)


def test_rmia_takes_the_scale_that_suits_the_references():
    seen, _ = memoriser("probs")
    chosen = made("rmia[mode=offline]").infer(seen).scores
    tried = [made(f"rmia[mode=offline,a={a}]").infer(seen).scores for a in (0.0, 0.5, 1.0)]
    assert chosen.shape == tried[0].shape
    assert not np.array_equal(tried[0], tried[2])


@pytest.mark.parametrize("a", [None, 0.3, 1.0])
def test_models_that_give_a_class_no_probability_leave_the_ratio_a_number(a):
    own = np.array([[0.0, 0.5, 1.0, 0.0]])
    nothing = np.zeros((4, 1, 4))
    known = np.array([[True, False, True, False], [False, True, False, True]] * 2)
    compared = Compared(own, nothing, known, np.array([0.0, 0.2]), np.zeros((4, 2)))
    found = rmia(compared, 2.0, a)
    assert np.isfinite(found).all()
    assert found[0, 2] >= found[0, 1] > found[0, 0] == found[0, 3]
