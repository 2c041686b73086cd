"""Layer exposure: equation 4, the measurement behind it, what lies open, the cells and the command."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys

import numpy as np
import pytest

import attacks.exposure
from suite import cli, pool, render
from suite.deploying import deploy
from suite.exposure import FIELDS, exposure_jobs, exposures, layer_exposure, mean_exposure, over_models, unseen_images
from suite.exposure_model import LayerLosses
from suite.exposure_table import best_hiding
from suite.leaderboard_cli import of_folder
from suite.likeness import is_open, likeness
from suite.matrix import Cell
from suite.models import TrainJob
from suite.owning import trained_victim, untrained_victim
from suite.profiles import Profile
from suite.record import RecordError
from suite.records import ExposureSamples, read_record, read_scores, record_path
from suite.registry import Kind, PluginError, discover
from suite.run import Bench, run_attack_cell, training_jobs
from suite.spec import parse
from victims.data.splits import SplitSizes

SMALL = Profile("small", ("digits",), SplitSizes(members=120, auxiliary=0, test=100), 25, 2, 4)
ALL_LAYERS = 8


def losses(private_gap=1.0, reference_gap=0.4, n=400, noise=0.1, seed=0):
    draw = np.random.default_rng(seed)
    seen, unseen = draw.normal(0.2, noise, n), draw.normal(0.2, noise, n)
    arrays = (seen, unseen + private_gap, seen, unseen + reference_gap)
    return LayerLosses(*(array.astype(np.float32) for array in arrays))


# ---- equation 4


def test_exposure_is_the_share_of_the_gap_that_the_reference_closes():
    found = layer_exposure(1, "a", 10, losses(1.0, 0.4))
    assert found.exposure is not None
    assert found.exposure.value == pytest.approx((found.private_gap - found.reference_gap) / found.private_gap)
    assert found.exposure.value == pytest.approx(0.6, abs=0.02)
    assert found.exposure.low < found.exposure.value < found.exposure.high
    assert found.exposure.high - found.exposure.low < 0.05  # both models are shown the same images


def test_the_interval_grows_with_noise_and_shrinks_with_images():
    def width(**how):
        estimate = layer_exposure(1, "a", 10, losses(**how)).exposure
        return estimate.high - estimate.low

    assert width(noise=0.5) > 2 * width(noise=0.1)
    assert width(n=100) > 1.5 * width(n=1600)


def test_a_model_that_is_not_overfitted_has_no_exposure():
    found = layer_exposure(1, "a", 10, losses(private_gap=0.005, reference_gap=0.0, n=50))
    assert found.exposure is None
    assert "nothing to divide by" in found.withheld
    assert mean_exposure([losses(), losses(0.005, 0.0, n=400, noise=1.0)]) is None


def test_the_mean_over_layers_is_the_mean_of_their_values():
    three = [losses(1.0, gap, seed=i) for i, gap in enumerate((0.9, 0.5, 0.1))]
    singles = [layer_exposure(i, "a", 1, one).exposure.value for i, one in enumerate(three)]
    assert mean_exposure(three).value == pytest.approx(np.mean(singles))


def test_over_seeds_a_layer_withheld_once_is_withheld():
    good, bad = (layer_exposure(1, "a", 1, one) for one in (losses(), losses(0.0, 0.0)))
    assert over_models([[good], [good]])[0].exposure.value == good.exposure.value
    joined = over_models([[good], [bad]])[0]
    assert joined.exposure is None
    assert joined.withheld == bad.withheld


def test_losses_that_are_no_losses_are_refused():
    good = losses()
    with pytest.raises(ValueError, match="private_seen must be finite float32"):
        dataclasses.replace(good, private_seen=good.private_seen.astype(np.float64))
    with pytest.raises(ValueError, match="same images"):
        dataclasses.replace(good, reference_seen=good.reference_seen[1:])


# ---- the measurement


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """VGG-7 on 120 digits and its first, last convolutional and last layer: some seconds, once."""
    from suite.store import Store

    discover()
    store, job = Store(tmp_path_factory.mktemp("store")), TrainJob("vgg7", "digits", SMALL, 0)
    (spec,) = parse(Kind.ATTACK, "exposure[epochs=5,learning_rate=0.02]")
    jobs = exposure_jobs(store, spec, job)
    assert [one.number for one in jobs] == list(range(1, ALL_LAYERS + 1))
    chosen = [jobs[0], jobs[5], jobs[7]]
    pool.ensure(store, [job, *chosen], workers=1)
    return store, job, chosen


def test_the_first_layer_is_less_exposed_than_the_last_convolution(measured):
    store, _, jobs = measured
    found, raw = exposures(store, jobs)
    first, last_conv, _ = (one.exposure for one in found)
    assert first.high < last_conv.low
    assert found[1].layer == "features.12"
    assert found[1].parameters == 32 * 32 * 9 + 32
    assert {len(getattr(one, name)) for one in raw for name in FIELDS} == {120}
    # The model was trained on S already, so fine-tuning a layer on S alone leaves the gap about where it was.
    assert found[0].private_gap == pytest.approx(found[1].private_gap, rel=0.3)


def test_what_is_measured_is_kept(measured, monkeypatch):
    store, job, jobs = measured
    monkeypatch.setattr(attacks.exposure.Exposure, "measure", None)  # nothing is measured again
    before = {path.stat().st_mtime_ns for path in store.entries()}
    pool.ensure(store, [job, *jobs], workers=1)
    exposures(store, jobs)
    assert {path.stat().st_mtime_ns for path in store.entries()} == before
    other = exposure_jobs(store, parse(Kind.ATTACK, "exposure[epochs=9]")[0], job)[0]
    assert other.key().digest != jobs[0].key().digest


@pytest.mark.parametrize("stop_after", [1, 3])
def test_an_interrupted_measurement_ends_with_the_same_losses(measured, tmp_path, monkeypatch, stop_after):
    store, job, jobs = measured
    victim, unseen = trained_victim(store, job), unseen_images(job.material())
    plugin, layer = parse(Kind.ATTACK, "exposure[epochs=2]")[0].make(), jobs[2].layer
    whole = plugin.measure(victim, unseen, layer, 0, tmp_path / "whole")
    monkeypatch.setattr(attacks.exposure, "CHECKPOINT_EVERY_S", 0.0)
    epochs = []

    def stop(progress):
        epochs.append(progress.epoch)
        if len(epochs) == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plugin.measure(victim, unseen, layer, 0, tmp_path / "cut", stop)
    left = []
    again = plugin.measure(victim, unseen, layer, 0, tmp_path / "cut", left.append)
    assert len(left) == 4 - stop_after
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))


def test_what_lies_before_a_layer_may_be_run_anew_for_every_batch(measured, tmp_path, monkeypatch):
    store, job, jobs = measured
    victim, unseen = trained_victim(store, job), unseen_images(job.material())
    plugin = parse(Kind.ATTACK, "exposure[epochs=1]")[0].make()
    kept = plugin.measure(victim, unseen, jobs[1].layer, 0, tmp_path / "a")
    monkeypatch.setattr(attacks.exposure, "KEPT_BYTES", 0)
    anew = plugin.measure(victim, unseen, jobs[1].layer, 0, tmp_path / "b")
    for name in FIELDS:
        np.testing.assert_allclose(getattr(anew, name), getattr(kept, name), rtol=1e-3, atol=1e-4)


def test_bad_parameters_are_refused(measured, tmp_path):
    store, job, _ = measured
    for text in ("exposure[epochs=0]", "exposure[learning_rate=0]", "exposure[learning_rate=1e38]"):
        spec = parse(Kind.ATTACK, text)[0]
        with pytest.raises(PluginError, match="learning_rate|epochs"):
            pool.ensure(store, exposure_jobs(store, spec, job)[7:], workers=1)


# ---- what lies open


def test_a_layer_is_open_as_far_as_its_filters_are_public():
    discover()
    victim = untrained_victim("vgg7", (1, 8, 8), 10)
    names = [node.name for node in victim.graph.parameter_nodes()]

    def share(defense):
        spec = parse(Kind.DEFENSE, defense)[0]
        return likeness(victim.graph, deploy(spec, victim).public)

    assert share("vanilla") == pytest.approx(dict.fromkeys(names, 1.0))
    assert share("full_tee") == dict.fromkeys(names, 0.0)
    partly = share("darknetz[k=2]")
    assert [is_open(partly[name]) for name in names] == [True] * 6 + [False] * 2
    rounded = share("depthwise_quant[layers=7-8]")
    assert all(0.999 < rounded[name] < 1.0 for name in names[:6])
    assert not any(map(is_open, share("shadownet").values()))


def test_the_advice_hides_the_most_exposed_layers_that_fit():
    discover()
    victim = untrained_victim("vgg7", (1, 8, 8), 10)
    flat = layer_exposure(1, "a", 1, losses()).exposure
    value = (0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 0.8, 0.6)
    joined = [
        dataclasses.replace(
            layer_exposure(i, f"l{i}", 1, losses()), number=i, exposure=dataclasses.replace(flat, value=v)
        )
        for i, v in enumerate(value, 1)
    ]
    everything = best_hiding(joined, victim, 1 << 30)
    assert (everything.first, everything.last, everything.most) == (1, 8, None)
    some = best_hiding(joined, victim, 220_000)
    assert (some.first, some.last, some.most) == (6, 7, 0.6)
    assert some.peak_bytes <= 220_000
    assert best_hiding(joined, victim, 100) is None


# ---- cells and tables


@pytest.fixture(scope="module")
def cells(measured, tmp_path_factory):
    from device.emulated import EmulatedBoard

    store, _, _ = measured
    bench = Bench(store, EmulatedBoard(), tmp_path_factory.mktemp("results"), workers=1)
    (victim,), (spec,) = parse(Kind.VICTIM, "vgg7"), parse(Kind.ATTACK, "exposure[epochs=1]")
    made = {}
    for text in ("vanilla", "darknetz[k=2]", "full_tee"):
        for defense in parse(Kind.DEFENSE, text)[:1]:
            cell = Cell(victim, "digits", defense, spec, "emulated", SMALL, 0)
            made[text] = run_attack_cell(cell, bench)
    assert len(training_jobs([cell], store)) == 1 + ALL_LAYERS  # the victim, and nothing of an attacker's
    return bench, made


def test_a_cell_says_how_exposed_the_open_layers_are(cells):
    bench, made = cells
    layers = made["vanilla"].exposure.layers
    top = max(layers, key=lambda layer: layer.exposure.value)
    assert made["vanilla"].exposure.most == top.exposure
    assert made["vanilla"].exposure.mean.value == pytest.approx(np.mean([one.exposure.value for one in layers]))
    open_ones = [one for one in made["darknetz[k=2]"].exposure.layers if one.is_open]
    assert [one.number for one in open_ones] == [1, 2, 3, 4, 5, 6]
    assert made["darknetz[k=2]"].exposure.most.value == max(one.exposure.value for one in open_ones)
    assert made["full_tee"].exposure.most.value == made["full_tee"].exposure.mean.value == 0.0
    assert [one.exposure for one in made["full_tee"].exposure.layers] == [one.exposure for one in layers]
    for record in made.values():
        path = record_path(bench.results, "small", record.cell.id)
        assert read_record(path) == record
        samples = read_scores(bench.results, record)
        assert isinstance(samples, ExposureSamples)
        assert samples.private_seen.shape == (ALL_LAYERS, 120)
        assert not set(samples.seen) & set(samples.unseen)


def test_a_record_of_exposure_needs_its_exposure(cells):
    _, made = cells
    with pytest.raises(RecordError, match="'exposure' set"):
        dataclasses.replace(made["vanilla"], exposure=None)


def test_tables_show_exposure_in_every_format(cells, tmp_path):
    bench, made = cells
    board = of_folder(bench.results)
    (table,) = board.tables
    row = table.exposure.set_index("defense").loc["darknetz_k2"]
    assert (row.n_open, row.n_layers) == (6, 8)
    assert row.most_exposure == made["darknetz[k=2]"].exposure.most.value
    for text in (render.terminal(board), render.markdown(board), render.latex(board)):
        assert "Layer exposure by layer" in text
        assert "6 of 8" in text
    assert "equation 4" in render.terminal(board)
    whole = json.loads(render.as_json(board))["tables"][0]
    assert len(whole["layers"]) == 3 * ALL_LAYERS
    names = {path.name for path in render.write_tables(board, tmp_path)}
    assert "leaderboard_layers.csv" in names
    lines = list(csv.DictReader((tmp_path / "leaderboard_layers.csv").open()))
    assert {line["is_open"] for line in lines if line["defense"] == "full_tee"} == {"False"}


# ---- the command


@pytest.fixture
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path / "cache"))


COMMAND = ("exposure", "vgg7", "--dataset", "digits", "--profile", "smoke", "--members", "40", "--epochs", "4")


@pytest.mark.usefixtures("_own_cache")
def test_the_command_prints_a_table_and_writes_csv_and_figure(tmp_path, capsys):
    options = ("--measure", "exposure[epochs=1]", "--seeds", "0,1", "--workers", "1", "--tee-mib", "0.1")
    places = ("-o", str(tmp_path / "out"), "--plot", str(tmp_path / "out" / "layers.svg"))
    assert cli.main((*COMMAND, *options, *places)) == 0
    shown = capsys.readouterr().out
    assert "40 members and as many unseen images, seeds 0, 1" in shown
    assert "features.12" in shown
    assert "Within 0.1 MiB" in shown
    lines = list(csv.DictReader((tmp_path / "out" / "exposure.csv").open()))
    assert [(line["seed"], line["number"]) for line in lines] == [
        (str(s), str(n)) for s in (0, 1) for n in range(1, ALL_LAYERS + 1)
    ]
    assert (tmp_path / "out" / "layers.svg").read_text().startswith("<?xml")


@pytest.mark.usefixtures("_own_cache")
def test_bad_options_end_in_one_line(capsys, monkeypatch):
    for arguments, word in (
        (("exposure", "vgg7", "--measure", "shadow[model=vgg7]"), "measures exposure"),
        (("exposure", "resnet50"), "no training recipe"),
        (("exposure", "vgg7", "--members", "1"), "--members takes 2"),
        (("exposure", "vgg7", "--dataset", "nist"), "nist"),
    ):
        assert cli.main(arguments) == 1
        error = capsys.readouterr().err
        assert word in error
        assert error.count("\n") == 1
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    from suite.plotting import PlotError, new_figure

    with pytest.raises(PlotError, match=r"leakboard\[plot\]"):
        new_figure()
