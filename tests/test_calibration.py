"""Calibration: planted costs come back, a real board's file predicts, and errors name what is wrong."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.board import BoardError
from device.emulated import EmulatedBoard
from suite import calibration, cli, published_pi
from suite.calibrating import Timed, measure
from suite.fitting import FitError, Row, fit
from suite.microbench import plan
from suite.predicting import FEATURES, PredictionError, committed, features, model_of
from suite.workload import COUNTS

NAMES = ("a", "b", "c")
COSTS = st.lists(st.floats(0, 1e3).map(lambda x: round(x, 3)), min_size=3, max_size=3).filter(any)


def rows_of(costs, counts, noise=0.0, seed=0):
    draw = np.random.default_rng(seed)
    exact = [sum(cost * n for cost, n in zip(costs, row, strict=True)) for row in counts]
    return [
        Row(f"row {i}", "all", dict(zip(NAMES, row, strict=True)), us * (1 + noise * draw.standard_normal()))
        for i, (row, us) in enumerate(zip(counts, exact, strict=True))
        if us > 0
    ]


@given(COSTS, st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_planted_costs_come_back(costs, seed):
    counts = np.random.default_rng(seed).integers(1, 1000, (12, 3)).tolist()
    found = fit(rows_of(costs, counts), NAMES, resamples=0)
    reach = sum(costs)
    for name, cost in zip(NAMES, costs, strict=True):
        assert found.rates[name].us == pytest.approx(cost, abs=1e-3 * reach)
    assert found.mean_error < 1e-6


@given(st.lists(st.floats(1, 1e6), min_size=6, max_size=6), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_no_cost_is_negative_whatever_was_measured(times, seed):
    counts = np.random.default_rng(seed).integers(1, 50, (6, 3)).tolist()
    rows = [
        Row(str(i), "g", dict(zip(NAMES, n, strict=True)), us)
        for i, (n, us) in enumerate(zip(counts, times, strict=True))
    ]
    found = fit(rows, NAMES, resamples=5)
    for rate in found.rates.values():
        assert 0 <= rate.low <= rate.us <= rate.high < np.inf


def test_intervals_hold_what_was_planted_despite_noise():
    costs, counts = (5.0, 8.0, 10.0), np.random.default_rng(1).integers(1, 100, (60, 3)).tolist()
    found = fit(rows_of(costs, counts, noise=0.05), NAMES)
    for name, cost in zip(NAMES, costs, strict=True):
        rate = found.rates[name]
        assert rate.low < rate.us < rate.high
        assert rate.us == pytest.approx(cost, rel=0.25)
        assert rate.low - 0.05 * cost <= cost <= rate.high + 0.05 * cost


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Row("x", "g", {"a": 1.0}, 0.0), "x took 0.0 us"),
        (Row("x", "g", {"a": 1.0, "d": 1.0}, 1.0), "x pays for 'd', which is not to be fitted"),
        (Row("x", "g", {"a": 1.0}, 1.0), "no measurement pays for 'b'"),
    ],
)
def test_rows_that_tell_no_costs_are_refused(row, said):
    with pytest.raises(FitError, match=said):
        fit([row], NAMES)


@pytest.mark.parametrize("tiny", [False, True])
def test_the_plan_pays_for_every_feature(tiny):
    cases = plan(tiny)
    paid = {name for case in cases for name, n in features(case.segments()).items() if n}
    assert paid == set(FEATURES)
    assert len({case.key() for case in cases}) == len({case.name for case in cases}) == len(cases)


def test_a_board_is_calibrated_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr("suite.calibrating.cache_root", lambda: tmp_path)
    told = []
    board = EmulatedBoard()
    content = calibration.calibrate(board, plan(tiny=True), told.append, rounds=3, resamples=5)
    assert len(told) == len(content["measured_us"]) > 20
    assert set(content["rates"]) == set(FEATURES)
    file = tmp_path / "costs" / "emulated.json"
    calibration.write(content, file)
    again = calibration.read(file)
    assert again == json.loads(json.dumps(content))
    model = model_of(again, str(file))
    drawn = calibration.models(again, str(file))
    assert len(drawn) == 5
    segments = plan()[0].segments()
    assert model.predict(segments).total_us > 0
    assert all(one.predict(segments).total_us > 0 for one in drawn)


def test_what_is_timed_stays_when_the_rest_is_interrupted(tmp_path, monkeypatch):
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path))
    timed, broken = [], []

    def one(board, case, rounds):
        if len(timed) == 2 and not broken:
            broken.append(case)
            raise BoardError("the board is gone")
        timed.append(case.name)
        return Timed(case.name, 2.0, 1.0, 0.5, 9.0, 100)

    class Nothing:
        name = "nothing"

        def fingerprint(self):
            return "0" * 64

    monkeypatch.setattr("suite.calibrating.time_one", one)
    cases = plan()[:4]
    with pytest.raises(BoardError):
        measure(Nothing(), cases, lambda _: None)
    found = measure(Nothing(), cases, lambda _: None)
    assert timed == [case.name for case in cases]
    assert set(found) == set(timed)
    (file,) = (tmp_path / "calibration").iterdir()
    file.write_text("{")  # damaged: measured again
    measure(Nothing(), cases, lambda _: None)
    assert len(timed) == 8


def test_the_costs_that_come_with_the_suite_fit_the_operators_they_were_fitted_to():
    content = committed("qemu")
    assert all(error < 0.05 for error in content["mean_abs_error"].values())
    assert content["source"].startswith("fitted: ")
    assert content["rates"]["ree.conv2d.fma"]["us"] > 0
    assert content["rates"]["switches"]["us"] == pytest.approx(60, rel=0.2)
    assert set(content["measured_us"]) >= {case.name for case in plan()}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "is no calibration that this version reads: 'rates'"),
        ({"rates": {"x": {"us": 1}}, "board": "b", "source": "s"}, "must give one cost for each feature"),
        ({"rates": {"x": 3}, "board": "b", "source": "s"}, "is no calibration that this version reads"),
    ],
)
def test_files_that_are_no_calibration_are_refused(content, said):
    with pytest.raises(PredictionError, match=said):
        model_of(content, "costs.json")


def test_a_pi_is_predicted_from_published_figures_alone():
    one, four = (published_pi.latency_s(10**9, 0, 0, threads) for threads in (1, 4))
    assert one.low < one.value < one.high
    assert four.value < one.value
    assert published_pi.latency_s(0, 10**9, 0, 4) == one  # a TA runs on one core
    assert published_pi.latency_s(10**9, 0, 10**9).value < one.value  # int8
    assert published_pi.latency_s(0, 0, 0).value == 0
    with pytest.raises(ValueError, match="nothing is published of a Raspberry Pi 3B"):
        published_pi.seconds_a_mac("bf16", 1)


def test_predict_tags_every_figure(capsys):
    assert cli.main(["predict", "vgg7", "darknetz[k=2]", "--board", "pi3bplus"]) == 0
    said = capsys.readouterr().out
    rows = [line for line in said.splitlines() if " ms " in line or " mJ " in line]
    assert len(rows) == 7
    assert all("published" in row for row in rows)
    assert "Left out: world switches" in said
    assert "planned" in said


def test_predict_on_qemu(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path))
    assert cli.main(["predict", "vgg7", "--input", "1x28x28"]) == 0
    said = capsys.readouterr().out
    assert "latency" in said
    assert "fitted: " in said
    assert "energy" in said
    assert "not known" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["vgg7", "--board", "qemi"], "unknown board 'qemi'; did you mean qemu?"),
        (["vgg7", "--board", "emulated"], "leakboard board calibrate makes one"),
        (["vgg7", "--calibration", "absent.json"], "no calibration absent.json"),
        (["vgg7", "--board", "pi3bplus", "--calibration", "x.json"], "stands for published figures"),
        (["vgg7", "--input", "32"], "--input '32': write channels x height x width"),
        (["vgg77"], "vgg77"),
        (["vgg7", "darknets"], "darknets"),
    ],
)
def test_predict_refuses_in_one_line(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path))
    assert cli.main(["predict", *arguments]) == 1
    found = capsys.readouterr().err
    assert said in found
    assert len(found.splitlines()) == 1


def test_a_calibration_of_another_board_is_refused(tmp_path, capsys):
    file = tmp_path / "costs.json"
    calibration.write(committed("qemu"), file)
    assert cli.main(["predict", "vgg7", "--board", "emulated", "--calibration", str(file)]) == 1
    assert "is the calibration of 'qemu', not of 'emulated'" in capsys.readouterr().err
    file.write_text("[]")
    assert cli.main(["predict", "vgg7", "--calibration", str(file)]) == 1
    assert "is no calibration of schema 2" in capsys.readouterr().err


def test_counts_have_names_of_their_own():
    assert len(set(COUNTS)) == len(COUNTS)
