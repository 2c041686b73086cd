"""Bundles damaged at random: never a traceback, and never accepted with other content than was packed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from submission_samples import OWN_SOURCE

from suite.foreign_arrays import ArraysError, read_arrays
from suite.foreign_source import SourceError, read_source
from suite.record import AttackScores
from suite.submission import Division, Refused, read_item, read_loose
from suite.submission_bundle import open_bundle, pack
from suite.submission_checks import check_always
from suite.submitting import judge

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
RECOMPUTED = ("attack", "latency", "extraction", "task", "victim.recipe", "victim.epochs", "victim.parameters", "cell")
"""Where a changed number is found out without running anything."""
NOT_RECOMPUTED = ("attack.n_queries", "attack.threshold", "extraction.epsilon_pixels")
"""And where within these only another run tells; the threshold, as far as it does not move the balanced accuracy."""


@pytest.fixture(scope="module")
def store(submitted_store):
    return submitted_store


@pytest.fixture(scope="module")
def submission(submitted):
    found, problems = read_loose(sorted((submitted / "honest").glob("*/*.json")), (), Division.CLOSED, "")
    assert not problems
    return found


@pytest.fixture(scope="module")
def bundle(submission):
    return pack(submission)


def content(submission):
    return {item.file.partition("/records/")[2]: (item.text, item.packed) for item in submission.items}


def leaves(value, place=()):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*place, index))
    else:
        yield place, value


@settings(QUIET, max_examples=30)
@given(data=st.data())
def test_damaged_bytes(bundle, store, data):
    damaged = bytearray(bundle)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        kind = data.draw(st.sampled_from(("set", "cut", "double")))
        if kind == "set":
            damaged[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del damaged[at : at + data.draw(st.integers(1, 200))]
        else:
            damaged[at:at] = damaged[at : at + 50]
        if not damaged:
            break
    try:
        found, problems = open_bundle("x.zip", bytes(damaged))
    except Refused:
        return
    if not problems and not list(check_always(found)):
        honest_one, _ = open_bundle("x.zip", bundle)
        assert content(found) == content(honest_one)


@settings(QUIET, max_examples=30)
@given(data=st.data())
def test_numbers_changed_with_hashes_put_right(submission, store, data):
    """A forger who repairs every hash: figures and settings that can be computed here are still found out."""
    item = data.draw(st.sampled_from(submission.items))
    record = json.loads(item.text)
    numbers = [
        (place, value)
        for place, value in leaves(record)
        if isinstance(value, int | float) and not isinstance(value, bool)
        if any(
            ".".join(map(str, place)).startswith(f"{name}.") or ".".join(map(str, place)) == name for name in RECOMPUTED
        )
        if ".".join(map(str, place)) not in NOT_RECOMPUTED
    ]
    place, value = data.draw(st.sampled_from(numbers))
    if isinstance(value, int):
        new = data.draw(st.one_of(st.integers(-3, 10**6), st.integers()).filter(lambda n: n != value))
    else:
        near = st.sampled_from([float(np.nextafter(value, 9e9)), float(np.nextafter(value, -9e9)), value * 1.01 + 0.01])
        anywhere = st.floats(allow_nan=False, allow_infinity=False)
        new = data.draw(st.one_of(near, anywhere).filter(lambda x: x != value))
    target = record
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = new
    text = (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()
    try:
        forged = read_item(item.file, text, lambda name: item.packed)
    except Refused:
        return
    others = tuple(forged if one is item else one for one in submission.items)
    changed = type(submission)(submission.name, others, beside=submission.beside)
    verdict = judge(changed, (), store)
    assert not verdict.accepted, f"{place}: {value} became {new}"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.just("../../x")
    | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(QUIET, max_examples=50)
@given(data=st.data())
def test_anything_anywhere_in_a_record(submission, store, data):
    item = data.draw(st.sampled_from(submission.items))
    record = json.loads(item.text)
    places = [place for place, _ in leaves(record)]
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places))
        target = record
        for step in way:
            target = target[step] if isinstance(target, dict | list) else None
        if isinstance(target, dict) or (isinstance(target, list) and isinstance(last, int) and last < len(target)):
            target[last] = data.draw(JSON)
    text = (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()
    try:
        forged = read_item(item.file, text, lambda name: item.packed)
        said = [str(problem) for problem in judge(type(submission)("x", (forged,)), (), store).problems]
    except Refused as error:
        said = [str(error)]
    assert all(line.isprintable() for line in said)


@settings(QUIET, max_examples=100)
@given(data=st.data())
def test_damaged_arrays(submission, data):
    item = next(item for item in submission.items if isinstance(item.scores, AttackScores))
    damaged = bytearray(item.packed)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_arrays(bytes(damaged), AttackScores)
    except ArraysError:
        return
    for name in ("scores", "is_member", "candidates"):  # zip has a checksum of each
        assert np.array_equal(getattr(found, name), getattr(item.scores, name))


@settings(QUIET, max_examples=50)
@given(st.integers(0, len(OWN_SOURCE) - 1), st.binary(max_size=8))
def test_damaged_source(at, inserted):
    source = OWN_SOURCE.encode()
    try:
        read_source("x.py", source[:at] + inserted + source[at + 3 :])
    except SourceError:
        return
