"""Energy in records: written, read back, refused where it has no place."""

import dataclasses
import json

import pytest
from record_samples import attack_sample, latency_sample

from suite.records import EnergyInfo, Estimate, RecordError, from_json, to_json

ENERGY = EnergyInfo("measured", Estimate(12.5, 11.0, 14.0), "ina219", 2100.0, 2900.0, 800, "five windows of 3 s")


def test_an_energy_is_written_and_read_back():
    record = dataclasses.replace(latency_sample()[0], energy=ENERGY)
    assert from_json(to_json(record)).energy == ENERGY


def test_only_what_was_timed_has_an_energy():
    with pytest.raises(RecordError, match="'energy' null"):
        dataclasses.replace(attack_sample()[0], energy=ENERGY)


@pytest.mark.parametrize(("field", "value"), [("source", "guessed"), ("per_query_uj", 3.0), ("n_queries", 1.5)])
def test_a_damaged_energy_is_named(field, value):
    text = json.loads(to_json(dataclasses.replace(latency_sample()[0], energy=ENERGY)))
    text["energy"][field] = value
    with pytest.raises(RecordError, match=f"energy.{field}"):
        from_json(json.dumps(text), "x.json")


def test_a_record_of_the_schema_before_is_refused_with_its_number():
    text = json.loads(to_json(latency_sample()[0])) | {"schema": 4}
    with pytest.raises(RecordError, match="schema 4 is not 5"):
        from_json(json.dumps(text), "x.json")
