"""Attacks on outputs of known content: they find what was planted, under every output policy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from suite import Goal, Guess, Observation, OutputPolicy, ShadowObservation, View
from suite.attacking import calibrate, check_guess
from suite.metrics import auc
from suite.registry import Kind, PluginError, discover
from suite.spec import default_specs, parse

discover()
POLICIES = ("probs", "top1", "rounded0", "rounded3", "topk1", "topk3", "topk10")
ON_SHADOWS = {View.OUTPUT, View.AUXILIARY}
SPECS = [
    spec
    for spec in default_specs(Kind.ATTACK)
    if spec.plugin.cls.goal is Goal.MEMBERSHIP and spec.make().needs <= ON_SHADOWS
]
CLASSES = 10


def softmax(logits):
    wide = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return (wide / wide.sum(axis=1, keepdims=True)).astype(np.float32)


def answers(seed, n, gap, policy):
    """Outputs for n images, every second one a member; members' true class has ``gap`` more in its logit."""
    draw = np.random.default_rng(seed)
    labels, is_member = draw.integers(0, CLASSES, n), np.arange(n) % 2 == 0
    logits = draw.standard_normal((n, CLASSES)) * 2
    logits[np.arange(n), labels] += 1.0 + gap * is_member
    return policy.apply(softmax(logits)), labels, is_member


def observation(policy, gap, n=400, shadows=2, classes=CLASSES):
    outputs, labels, truth = answers(0, n, gap, policy)
    trained = tuple(ShadowObservation(*answers(1 + i, 400, gap, policy)) for i in range(shadows))
    return Observation(outputs, labels, classes, policy, shadows=trained), truth


def made(text):
    (spec,) = parse(Kind.ATTACK, text)
    return spec.make()


def scores(text, outputs, labels, policy="probs"):
    seen = Observation(np.asarray(outputs), np.asarray(labels), CLASSES, OutputPolicy.parse(policy))
    return made(text).infer(seen).scores


# ---- loss threshold


@settings(deadline=None)
@given(
    hnp.arrays(np.float64, (30, CLASSES), elements=st.floats(-60, 60)),
    st.integers(0, CLASSES - 1),
    st.sampled_from(POLICIES),
)
def test_loss_threshold_orders_by_loss(logits, label, text):
    """Whatever the policy: more on the true class never scores lower, and less never higher."""
    policy = OutputPolicy.parse(text)
    outputs = policy.apply(softmax(logits))
    labels = np.full(30, label)
    found = scores("loss_threshold", outputs, labels, text)
    assert np.isfinite(found).all()
    if policy.label_only:
        assert found.tolist() == (outputs == label).astype(float).tolist()
        return
    right = outputs[:, label].astype(np.float64)
    order = np.argsort(right)
    steps = np.diff(found[order])
    clear = np.diff(right[order]) > 1e-6 * right[order][1:]  # below that, float32 rounding decides
    assert (steps[clear] > 0).all()


def test_loss_threshold_tells_apart_what_a_float32_near_one_does_not():
    logits = np.zeros((3, CLASSES))
    logits[:, 4] = [18.0, 25.0, 40.0]
    outputs = softmax(logits)
    assert outputs[1, 4] == outputs[2, 4] == 1.0
    assert (np.diff(scores("loss_threshold", outputs, [4, 4, 4])) > 0).all()


@pytest.mark.parametrize("text", ["topk1", "topk3", "rounded3"])
def test_loss_threshold_reads_the_true_class_where_the_rest_was_cut_away(text):
    outputs = np.zeros((3, CLASSES), np.float32)
    outputs[:, 4] = [0.6, 0.99, 0.8]
    found = scores("loss_threshold", outputs, [4, 4, 4], text)
    np.testing.assert_allclose(found, np.log([0.6, 0.99, 0.8]), rtol=1e-6)
    lost = scores("loss_threshold", outputs, [0, 4, 4], text)
    assert np.isfinite(lost).all()
    assert lost[0] < -100


def test_loss_threshold_is_the_log_of_the_true_classs_probability():
    outputs = softmax(np.random.default_rng(0).standard_normal((50, CLASSES)))
    labels = np.arange(50) % CLASSES
    np.testing.assert_allclose(
        scores("loss_threshold", outputs, labels), np.log(outputs[np.arange(50), labels].astype(float)), atol=1e-6
    )


# ---- all attacks


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.slug)
@pytest.mark.parametrize("text", POLICIES)
def test_a_planted_difference_is_found_under_every_policy(spec, text):
    seen, truth = observation(OutputPolicy.parse(text), gap=4.0)
    guess = check_guess(spec.make().infer(seen), len(truth), spec)
    found = auc(guess.scores, truth)
    assert found.low > 0.55, found
    if text == "probs":
        assert found.value > (0.7 if spec.name == "prediction_entropy" else 0.85)  # which looks at no true class
    threshold = calibrate(spec.make(), spec, seen, seen.shadows) if guess.threshold is None else guess.threshold
    assert ((guess.scores >= threshold) == truth).mean() > 0.6


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.slug)
@pytest.mark.parametrize("text", POLICIES)
def test_where_nothing_was_planted_nothing_is_found(spec, text):
    seen, truth = observation(OutputPolicy.parse(text), gap=0.0, n=1000)
    found = auc(spec.make().infer(seen).scores, truth)
    assert abs(found.value - 0.5) < 0.06


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.slug)
@pytest.mark.parametrize("text", POLICIES)
def test_deterministic_and_without_side_effects(spec, text):
    seen, _ = observation(OutputPolicy.parse(text), gap=1.0)
    arrays = [seen.outputs, seen.labels, *(a for s in seen.shadows for a in (s.outputs, s.labels, s.is_member))]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.setflags(write=False)
    state = np.random.get_state()[1].copy()  # noqa: NPY002  (the global generator must stay as it is)
    first, second = spec.make().infer(seen), spec.make().infer(seen)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert first.threshold == second.threshold
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.slug)
@pytest.mark.parametrize("text", POLICIES)
def test_saturated_and_degenerate_outputs_give_finite_scores(spec, text):
    policy = OutputPolicy.parse(text)
    n = 120
    labels = np.arange(n) % CLASSES
    wide = np.zeros((n, CLASSES), np.float32)
    wide[np.arange(n), labels] = 1.0  # certain and right
    wide[::3] = np.roll(wide[::3], 1, axis=1)  # certain and wrong
    wide[::7] = 0.1  # nothing known
    outputs = policy.apply(wide)
    shadow = ShadowObservation(outputs, labels, np.arange(n) % 2 == 0)
    seen = Observation(outputs, labels, CLASSES, policy, shadows=(shadow, shadow))
    check_guess(spec.make().infer(seen), n, spec)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.slug)
def test_two_classes_and_two_hundred(spec):
    for classes in (2, 200):
        draw = np.random.default_rng(0)
        outputs = softmax(draw.standard_normal((200, classes)))
        labels = draw.integers(0, classes, 200)
        shadow = ShadowObservation(outputs, labels, np.arange(200) % 2 == 0)
        seen = Observation(outputs, labels, classes, OutputPolicy.parse("probs"), shadows=(shadow,))
        check_guess(spec.make().infer(seen), 200, spec)


def test_shadow_architectures():
    assert made("shadow[]").shadow_architecture("alexnet") == "alexnet"
    assert made("shadow[model=other]").shadow_architecture("alexnet") == "vgg7"
    assert made("shadow[model=other]").shadow_architecture("vgg7") == "alexnet"
    assert made("shadow[model=vgg11]").shadow_architecture("vgg7") == "vgg11"
    assert made("loss_threshold").shadow_architecture("vgg7") == "vgg7"


# ---- what the harness asks of a guess


@pytest.mark.parametrize(
    ("guess", "message"),
    [
        (np.zeros(4), r"infer\(\) returned ndarray, not a Guess"),
        ({"scores": np.zeros(3)}, r"scores have shape \(3,\), there are 4 candidates"),
        ({"scores": np.zeros((4, 1))}, r"scores have shape \(4, 1\)"),
        ({"scores": np.array([0, np.nan, np.inf, 1])}, "2 of 4 scores are not finite"),
        ({"scores": np.zeros(4), "threshold": float("nan")}, "threshold nan is not a finite number"),
    ],
)
def test_what_is_no_guess_is_refused_by_name(guess, message):
    (spec,) = parse(Kind.ATTACK, "loss_threshold")
    with pytest.raises(PluginError, match=rf"attack loss_threshold \(.*loss_threshold.py:\d+\): .*{message}"):
        check_guess(Guess(**guess) if isinstance(guess, dict) else guess, 4, spec)


def test_the_threshold_comes_from_the_shadows_and_not_from_the_candidates():
    policy = OutputPolicy.parse("probs")
    seen, _ = observation(policy, gap=3.0)
    (spec,) = parse(Kind.ATTACK, "loss_threshold")
    threshold = calibrate(spec.make(), spec, seen, seen.shadows)
    other, _ = observation(policy, gap=0.0)
    assert calibrate(spec.make(), spec, other, seen.shadows) == threshold
    assert calibrate(spec.make(), spec, seen, other.shadows) != threshold
