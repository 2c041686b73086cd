"""Nights compared on prepared records: what must be named, what must not, and how sure that is."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from record_samples import attack_sample, extraction_sample, latency_sample

from suite import cli
from suite.nightly.comparing import compare_nights
from suite.nightly.folders import nights_before
from suite.nightly.night import FAILED, FINISHED, Night
from suite.records import write_record


def rekeyed(record, version):
    """The record as another version of the code would have made it."""
    provenance = dataclasses.replace(record.provenance, keys={**record.provenance.keys, "guess": version})
    return dataclasses.replace(record, provenance=provenance)


def night(home, date, made, state=FINISHED):
    """A night that measured ``made``: (record, scores) pairs."""
    folder = home / "emulated" / date
    for record, scores in made:
        write_record(folder, record, scores)
    cells = [record.cell.id for record, _ in made]
    Night("emulated", date, {}, f"{date}T01:00:00+00:00", state=state, cells=cells, done=cells).write(folder)
    return folder


def usual(version="v1", seed=1, ratio=1.2):
    """A night's records: the same leaks, and times that vary a little by ``seed``."""
    leaks = [attack_sample(defense, policy="probs", shift=0.4) for defense in ("darknetz_k1", "darknetz_k2")]
    rng = np.random.default_rng(seed)
    times = [latency_sample(d, ratio * rng.lognormal(0, 0.01)) for d in ("darknetz_k1", "darknetz_k2")]
    return [(rekeyed(record, version), scores) for record, scores in leaks] + times


def verdict(home, date, most=7):
    return compare_nights(home / "emulated" / date, nights_before(home, "emulated", date, most))


def named(found, kind):
    return {(change.cell, change.figure) for change in found.of(kind)}


@pytest.fixture
def three(tmp_path):
    """Three quiet nights."""
    for day in (1, 2, 3):
        night(tmp_path, f"2026-01-0{day}", usual(seed=day))
    return tmp_path


def test_quiet_nights_raise_no_alarm(three):
    found = verdict(three, "2026-01-03")
    assert found.nights == ("2026-01-02", "2026-01-01")
    assert found.tests == 2 * 2 + 2 * 4
    assert not found.changes
    assert not found.alarm


def test_the_first_night_has_nothing_to_compare_with(three):
    found = verdict(three, "2026-01-01")
    assert (found.nights, found.tests, found.changes, found.new) == ((), 0, (), ())


def test_a_leak_is_named_with_its_cell_and_nothing_else(three):
    worse = [attack_sample("darknetz_k2", policy="probs", shift=0.9)]
    night(three, "2026-01-04", [*usual("v2", seed=4)[:1], *((rekeyed(r, "v2"), s) for r, s in worse)])
    found = verdict(three, "2026-01-04")
    cell = "alexnet-cifar10-darknetz_k2-shadow-emulated"
    assert {name for name, _ in named(found, "regression")} == {cell}
    assert (cell, "auc") in named(found, "regression")
    assert found.alarm
    (change,) = [c for c in found.changes if c.figure == "auc"]
    assert change.difference > 0.1
    assert change.p < 1e-3
    assert change.nights == 3
    night(three, "2026-01-05", usual(seed=5))
    assert not verdict(three, "2026-01-05").changes, "the bad night before hides or raises something"


def test_a_leak_that_is_mended_is_an_improvement_and_no_alarm(three):
    record, scores = attack_sample("darknetz_k1", policy="probs", shift=0.0)
    night(three, "2026-01-04", [(rekeyed(record, "v2"), scores)])
    found = verdict(three, "2026-01-04")
    assert named(found, "improvement")
    assert not found.alarm
    assert "alexnet-cifar10-darknetz_k2-shadow-emulated" in found.gone


def test_a_change_within_the_candidates_noise_is_none(three):
    """Another version with a few scores nudged: a hair's breadth of AUC, far within the paired interval."""
    record, scores = attack_sample("darknetz_k1", policy="probs", shift=0.42)
    night(three, "2026-01-04", [(rekeyed(record, "v2"), scores)])
    assert not verdict(three, "2026-01-04").changes


def test_the_same_keys_with_another_result_are_named_however_small(three):
    record, scores = attack_sample("darknetz_k1", policy="probs", shift=0.405)
    night(three, "2026-01-04", [(rekeyed(record, "v1"), scores)])
    found = verdict(three, "2026-01-04")
    assert ("alexnet-cifar10-darknetz_k1-shadow-emulated", "auc") in named(found, "unrepeatable")
    assert found.alarm


def test_a_slower_defense_is_named_and_the_other_is_not(three):
    made = usual(seed=4)
    made[3] = latency_sample("darknetz_k2", 2.4)
    night(three, "2026-01-04", made)
    found = verdict(three, "2026-01-04")
    assert named(found, "regression") == {("alexnet-cifar10-darknetz_k2-latency-emulated", "latency ratio")}
    assert not any(change.leakage for change in found.changes)


def test_more_bytes_across_the_boundary_are_named_without_a_p_value(three):
    made = usual(seed=4)
    record, samples = made[2]
    made[2] = (dataclasses.replace(record, cost=dataclasses.replace(record.cost, bytes_from_tee=40)), samples)
    night(three, "2026-01-04", made)
    (change,) = verdict(three, "2026-01-04").of("regression")
    assert (change.figure, change.difference, change.p) == ("bytes across the boundary", 36.0, None)


def test_fidelity_is_compared_by_budget(three):
    for day, shares in ((4, (0.5, 0.6)), (5, (0.5, 0.9))):
        record, answers = extraction_sample(fidelities=shares)
        night(three, f"2026-01-0{day}", [(rekeyed(record, str(day)), answers)])
    assert {figure for _, figure in named(verdict(three, "2026-01-05"), "regression")} == {"fidelity at 500 queries"}


def test_twenty_years_of_quiet_nights_keep_the_promised_rate_of_false_alarms(tmp_path):
    """Times that wander by 2 % from night to night: false alarms in well under the promised share of nights."""
    rng = np.random.default_rng(3)
    samples = {}
    alarms = 0
    for trial in range(25):
        home = tmp_path / str(trial)
        for day in range(1, 6):
            made = []
            for defense in ("darknetz_k1", "darknetz_k2", "darknetz_k3"):
                if defense not in samples:
                    samples[defense] = latency_sample(defense, 1.2)
                record, _ = samples[defense]
                factor = rng.lognormal(0, 0.02)
                ratio = record.latency.ratio
                moved = dataclasses.replace(
                    ratio, value=ratio.value * factor, low=ratio.low * factor, high=ratio.high * factor
                )
                made.append(
                    (dataclasses.replace(record, latency=dataclasses.replace(record.latency, ratio=moved)), None)
                )
            night(home, f"2026-01-0{day}", made)
        alarms += verdict(home, "2026-01-05").alarm
    assert alarms <= 1


def test_a_board_whose_clock_runs_otherwise_is_not_compared(three):
    record, samples = latency_sample("darknetz_k1", 9.0)
    other = dataclasses.replace(record.provenance, board={**record.provenance.board, "mode": "icount"})
    night(three, "2026-01-04", [(dataclasses.replace(record, provenance=other), samples)])
    assert verdict(three, "2026-01-04").tests == 0


def test_damaged_records_are_told_and_the_others_compared(three):
    path = three / "emulated" / "2026-01-02" / "quick" / "alexnet-cifar10-darknetz_k1-shadow-emulated.json"
    path.write_text(path.read_text()[:200])
    found = verdict(three, "2026-01-03")
    assert len(found.problems) == 1
    assert str(path) in found.problems[0]
    assert found.tests == 12


def test_only_the_last_nights_count(three):
    assert nights_before(three, "emulated", "2026-01-03", 1) == [three / "emulated" / "2026-01-02"]
    (three / "emulated" / "2026-01-02x").mkdir()
    (three / "emulated" / "2026-01-00").mkdir()
    assert [p.name for p in nights_before(three, "emulated", "2026-01-03", 9)] == ["2026-01-02", "2026-01-01"]


def test_compare_tells_by_its_status(three, capsys):
    def compare(date, *more):
        return cli.main(["nightly", "compare", str(three), "--board", "emulated", "--date", date, *more])

    assert compare("2026-01-03") == 0
    assert "0 regressions, 0 unrepeatable, 0 improvements" in capsys.readouterr().out
    made = usual(seed=4)
    made[3] = latency_sample("darknetz_k2", 2.4)
    night(three, "2026-01-04", made)
    assert compare("2026-01-04") == 3
    said = capsys.readouterr().out
    assert "## Regressions" in said
    assert "`alexnet-cifar10-darknetz_k2-latency-emulated` | latency ratio" in said
    night(three, "2026-01-05", usual(seed=5), FAILED)
    assert compare("2026-01-05") == 4
    capsys.readouterr()
    assert compare("2026-02-01") == 1
    assert "there: 2026-01-01" in capsys.readouterr().err
    assert compare("yesterday") == 1
    assert "write a date as 2026-01-31" in capsys.readouterr().err
    state = three / "emulated" / "2026-01-05" / "night.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"schema": 9}))
    assert compare("2026-01-05") == 1
    assert "schema 9 is not 1" in capsys.readouterr().err
