from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from suite import metrics as m
from suite.estimate import Estimate, over_seeds, wilson
from suite.record import LatencySamples

few = settings(max_examples=40, deadline=None)


def truth(n: int) -> np.ndarray:
    return np.repeat([True, False], n)


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many, few or no ties, in any order, and as many members as non-members."""
    n = draw(st.integers(2, 150))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = rng.normal(size=2 * n) + draw(st.sampled_from([0.0, 0.5, 3.0, -1.0])) * truth(n)
    decimals = draw(st.sampled_from([None, 1, 0, -1]))
    if decimals is not None:
        scores = np.round(scores, decimals)
    order = rng.permutation(2 * n)
    return scores[order], truth(n)[order]


def best_tpr_by_hand(scores: np.ndarray, is_member: np.ndarray, rate: float) -> float:
    """The definition, word by word: try every threshold."""
    found = [0.0]
    for threshold in np.unique(scores):
        said = scores >= threshold
        if said[~is_member].mean() <= rate + 1e-12:
            found.append(said[is_member].mean())
    return max(found)


@few
@given(scored())
def test_auc_is_that_of_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, is_member = case
    found = m.auc(scores, is_member)
    assert found.value == pytest.approx(roc_auc_score(is_member, scores), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


@few
@given(scored(), st.sampled_from([0.5, 0.1, 0.01, 0.03, 0.3]))
def test_tpr_at_fpr_is_the_best_of_all_thresholds(case: tuple[np.ndarray, np.ndarray], rate: float) -> None:
    scores, is_member = case
    found = m.tpr_at_fpr(scores, is_member, rate)
    n = int((~is_member).sum())
    if n < 1 / rate:
        assert found is None
        return
    assert found is not None
    assert found.value == pytest.approx(best_tpr_by_hand(scores, is_member, rate), abs=1e-12)
    fpr, tpr, _ = roc_curve(is_member, scores, drop_intermediate=False)
    assert found.value == pytest.approx(tpr[fpr <= rate + 1e-12].max(), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_label_only_scores_are_not_interpolated() -> None:
    scores = np.concatenate([np.repeat([1.0, 0.0], [90, 10]), np.repeat([1.0, 0.0], [60, 40])])
    found = m.tpr_at_fpr(scores, truth(100), 0.1)
    assert found is not None
    assert found.value == 0.0  # the only thresholds accuse 0 %, 60 % or 100 % of the non-members
    assert 0 < found.high < 0.1
    assert m.auc(scores, truth(100)).value == pytest.approx(0.65)
    assert m.balanced_accuracy(scores, truth(100), 1.0).value == pytest.approx(0.65)


@few
@given(scored())
def test_roc_is_that_of_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, is_member = case
    curve = m.roc(scores, is_member)
    fpr, tpr, thresholds = roc_curve(is_member, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.fpr, fpr, atol=1e-12)
    np.testing.assert_allclose(curve.tpr, tpr, atol=1e-12)
    np.testing.assert_array_equal(curve.thresholds, thresholds)


@few
@given(scored())
def test_best_threshold_cannot_be_beaten(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, is_member = case
    threshold = m.best_threshold(scores, is_member)
    reached = m.balanced_accuracy(scores, is_member, threshold).value
    assert np.isfinite(threshold)
    assert reached == pytest.approx(balanced_accuracy_score(is_member, scores >= threshold), abs=1e-12)
    for other in np.unique(scores):
        said = scores >= other
        assert reached >= (said[is_member].mean() + (~said[~is_member]).mean()) / 2 - 1e-12


def test_best_threshold_lies_between_the_scores_it_parts() -> None:
    assert m.best_threshold(np.array([5.0, 4.0, 1.0]), np.array([True, True, False])) == 2.5
    lowest = np.nextafter(1.0, 2.0)
    assert m.best_threshold(np.array([lowest, 1.0]), np.array([True, False])) == lowest
    assert m.best_threshold(np.zeros(4), truth(2)) == 0.0


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 2), st.floats(0, 1))
def test_paired_excess_is_a_paired_bootstrap(seed: int, shift: float, mixed: float) -> None:
    rng = np.random.default_rng(seed)
    n = 200
    is_member = truth(n)
    shared = rng.normal(size=2 * n)
    a = shared + mixed * rng.normal(size=2 * n) + shift * is_member
    b = shared + mixed * rng.normal(size=2 * n)
    found = m.paired_excess(a, b, is_member)
    assert found.value == pytest.approx(m.auc(a, is_member).value - m.auc(b, is_member).value, abs=1e-12)

    def drawn() -> float:
        at = np.concatenate([rng.integers(0, n, n), rng.integers(n, 2 * n, n)])
        return float(roc_auc_score(is_member, a[at]) - roc_auc_score(is_member, b[at]))

    spread = np.std([drawn() for _ in range(50)])
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(spread, rel=0.5, abs=0.004)


def test_an_attack_has_no_excess_over_itself() -> None:
    scores = np.random.default_rng(0).normal(size=400) + truth(200)
    assert m.paired_excess(scores, 2 * scores + 1, truth(200)) == Estimate(0.0, 0.0, 0.0)


def test_intervals_cover_the_truth() -> None:
    """Scores that tell nothing: each interval holds the true value about 95 times of 100, and not always."""
    rng = np.random.default_rng(7)
    n, runs = 1000, 300
    hits = dict.fromkeys(("auc", "balanced_accuracy", "tpr_at_fpr_1e2", "tpr_at_fpr_1e3"), 0)
    exact = {"auc": 0.5, "balanced_accuracy": 0.5, "tpr_at_fpr_1e2": 1e-2, "tpr_at_fpr_1e3": 1e-3}
    for run in range(runs):
        found = m.membership_metrics(rng.normal(size=2 * n), truth(n), 0.3, seed=run)
        for name in hits:
            estimate = getattr(found, name)
            hits[name] += estimate.low <= exact[name] <= estimate.high
    assert 0.91 * runs <= hits["auc"] <= 0.985 * runs
    assert 0.91 * runs <= hits["balanced_accuracy"] <= 0.985 * runs
    assert hits["tpr_at_fpr_1e2"] >= 0.92 * runs
    assert hits["tpr_at_fpr_1e3"] >= 0.92 * runs


def test_a_leaky_model_is_far_from_guessing() -> None:
    scores = np.random.default_rng(1).normal(size=4000) + 3 * truth(2000)
    found = m.membership_metrics(scores, truth(2000), 1.5)
    assert found.auc is not None
    assert found.auc.low > 0.97
    assert found.tpr_at_fpr_1e3 is not None
    assert found.tpr_at_fpr_1e3.value > 0.2
    assert found.tpr_at_fpr_1e3.low > 0.01
    assert not found.withheld


@pytest.mark.parametrize(("n", "withheld"), [(99, 2), (100, 1), (999, 1), (1000, 0)])
def test_a_rate_beyond_the_data_is_withheld_with_its_reason(n: int, withheld: int) -> None:
    found = m.membership_metrics(np.arange(2.0 * n), truth(n), 0.0)
    assert len(found.withheld) == withheld
    if withheld:
        assert found.tpr_at_fpr_1e3 is None
        assert f"{n} non-members" in found.withheld["tpr_at_fpr_1e3"]
        assert "it takes 1000" in found.withheld["tpr_at_fpr_1e3"]


def test_metrics_are_the_same_every_time_and_fast() -> None:
    scores = np.random.default_rng(2).normal(size=5000) + truth(2500)
    begun = time.perf_counter()
    first = m.membership_metrics(scores, truth(2500), 0.5)
    assert time.perf_counter() - begun < 1
    assert first == m.membership_metrics(scores.copy(), truth(2500), 0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_named(bad: float) -> None:
    scores = np.zeros(10)
    scores[3] = bad
    with pytest.raises(m.MetricError, match="1 of 10 scores are not finite, the first at 3"):
        m.membership_metrics(scores, truth(5), 0.0)


def test_unequal_sides_are_refused() -> None:
    with pytest.raises(m.MetricError, match="3 members and 2 non-members"):
        m.auc(np.zeros(5), np.array([True, True, True, False, False]))
    with pytest.raises(m.MetricError, match=r"\(4,\) and bool \(6,\)"):
        m.auc(np.zeros(4), truth(3))
    with pytest.raises(m.MetricError, match="at least one of each"):
        m.best_threshold(np.zeros(3), np.ones(3, dtype=bool))
    with pytest.raises(m.MetricError, match="threshold"):
        m.balanced_accuracy(np.zeros(4), truth(2), float("nan"))


@few
@given(st.integers(1, 5000), st.data())
def test_wilson_holds_its_value_and_its_width(n: int, data: st.DataObject) -> None:
    found = wilson(data.draw(st.integers(0, n)), n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high > found.low


def test_wilson_is_the_textbook_one() -> None:
    found = wilson(15, 148)  # Newcombe 1998, table II: 0.0624 to 0.1605
    assert (found.low, found.high) == (pytest.approx(0.0624, abs=5e-5), pytest.approx(0.1605, abs=5e-5))


def test_one_seed_stays_as_it_is_and_spread_widens() -> None:
    one = Estimate(0.7, 0.68, 0.72)
    assert over_seeds([one]) == one
    calm = over_seeds([one, one, one])
    assert (calm.value, calm.high) == (pytest.approx(0.7), pytest.approx(0.7 + 0.02 / 3**0.5))
    spread = over_seeds([one, Estimate(0.8, 0.78, 0.82), Estimate(0.6, 0.58, 0.62)])
    assert spread.value == pytest.approx(0.7)
    assert spread.low < 0.6
    assert spread.high > 0.8


def test_seeds_cover_their_mean() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        values = 0.7 + rng.normal(0, 0.02, 3) + rng.normal(0, 0.01, 3)
        found = over_seeds([Estimate(v, v - 0.0196, v + 0.0196) for v in values])
        hits += found.low <= 0.7 <= found.high
    assert hits >= 0.92 * 400


def samples(**changes: np.ndarray) -> LatencySamples:
    rng = np.random.default_rng(0)
    drift = np.linspace(1, 2, 80)  # the machine slows down while it is measured
    vanilla = (1_000_000 * drift * rng.lognormal(0, 0.01, 80)).astype(np.int64)
    protected = (1_500_000 * drift * rng.lognormal(0, 0.01, 80)).astype(np.int64)
    plain = LatencySamples(vanilla, protected, np.full(80, 400_000), np.full(50, 10_000), np.repeat(np.arange(8), 10))
    return dataclasses.replace(plain, **changes)


def test_drift_of_the_machine_cancels_in_the_ratio() -> None:
    found = m.latency_metrics(samples(), switches_per_query=2)
    assert found.ratio.low < 1.5 < found.ratio.high
    assert found.ratio.high - found.ratio.low < 0.08
    assert found.vanilla_us.high - found.vanilla_us.low > 80  # microseconds: the drift itself is no secret
    assert (found.rounds, found.switch_us, found.tee_us) == (80, 20.0, 380.0)
    assert found.ree_us == pytest.approx(found.protected_us.median - 400)


def test_a_start_that_came_out_slow_widens_the_interval() -> None:
    steady = samples()
    slow = np.where(steady.session % 2 == 0, 1.3, 1.0)
    found = m.latency_metrics(samples(protected_ns=(steady.protected_ns * slow).astype(np.int64)), 2)
    plain = m.latency_metrics(steady, 2)
    assert found.ratio.low < 1.55
    assert found.ratio.high > 1.9
    assert plain.ratio.high - plain.ratio.low < 0.5 * (found.ratio.high - found.ratio.low)
    assert found.sessions == 8


def test_nothing_hidden_has_no_tee_time() -> None:
    nothing = samples(invoke_ns=np.zeros(80, dtype=np.int64), noop_ns=np.zeros(0, dtype=np.int64))
    found = m.latency_metrics(nothing, switches_per_query=0)
    assert (found.tee_us, found.switch_us) == (0.0, 0.0)
    assert found.ree_us == pytest.approx(found.protected_us.median)


def test_rounds_that_do_not_match_are_refused() -> None:
    with pytest.raises(m.MetricError, match="80 vanilla, 79 protected"):
        m.latency_metrics(samples(protected_ns=np.ones(79, dtype=np.int64)), 1)
    with pytest.raises(m.MetricError, match="took no time"):
        m.latency_metrics(samples(vanilla_ns=np.zeros(80, dtype=np.int64)), 1)
