"""Splits are disjoint, pure, and keep exact duplicates on one side; the normaliser sees members only."""

import hashlib

import numpy as np
import pytest
from data_strategies import pool
from hypothesis import given, settings
from hypothesis import strategies as st

from victims.data import (
    DataError,
    Dataset,
    Normaliser,
    PoolTooSmall,
    Splits,
    SplitSizes,
    count_duplicate_groups,
    duplicate_groups,
    load,
    make_splits,
)

PARTS = ("members", "nonmembers", "auxiliary", "test")


@given(
    st.integers(0, 10**6),
    st.integers(8, 120),
    st.integers(1, 150),
    st.integers(1, 30),
    st.integers(0, 30),
    st.integers(0, 30),
)
@settings(max_examples=150, deadline=None)
def test_parts_are_disjoint_and_no_group_straddles_two(seed, size, distinct, members, auxiliary, test):
    dataset = pool(seed, size, distinct)
    sizes = SplitSizes(members, auxiliary, test)
    try:
        splits = make_splits(dataset, seed, sizes)
    except PoolTooSmall as error:
        assert "pool has" in str(error)  # noqa: PT017
        largest = np.bincount(dataset.groups).max()
        assert sizes.total + 3 * (largest - 1) > size  # at most the rest of one group is lost at each border
        return
    assert len(splits.members) == len(splits.nonmembers) == members
    assert len(splits.auxiliary) == auxiliary
    assert len(splits.test) == test
    parts = [getattr(splits, part) for part in PARTS]
    together = np.concatenate(parts)
    assert len(set(together.tolist())) == len(together)
    assert together.min() >= 0
    assert together.max() < size
    groups = [set(dataset.groups[part].tolist()) for part in parts]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert Splits.from_json(splits.to_json(), dataset).fingerprint == splits.fingerprint


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=50, deadline=None)
def test_groups_are_exactly_the_equal_images_whatever_the_labels(seed, size, distinct):
    dataset = pool(seed, size, distinct)
    flat = dataset.images.reshape(size, -1)
    equal = (flat[:, None] == flat[None]).all(-1)
    np.testing.assert_array_equal(dataset.groups[:, None] == dataset.groups[None], equal)
    assert count_duplicate_groups(dataset.groups) == sum(n > 1 for n in np.bincount(dataset.groups))


def test_splits_are_a_pure_function_of_content_seed_and_sizes():
    dataset = load("digits")
    sizes = SplitSizes(300, 400, 200)
    one, two = make_splits(dataset, 3, sizes), make_splits(load("digits"), 3, sizes)
    assert one.fingerprint == two.fingerprint
    for part in PARTS:
        np.testing.assert_array_equal(getattr(one, part), getattr(two, part))
    changed = dataset.images.copy()
    changed[0, 14, 14, 0] ^= 1
    other = Dataset.from_arrays("digits", changed, dataset.labels, 10, "made")
    fingerprints = {
        one.fingerprint,
        make_splits(dataset, 4, sizes).fingerprint,
        make_splits(dataset, 3, SplitSizes(300, 400, 201)).fingerprint,
        make_splits(other, 3, sizes).fingerprint,
    }
    assert len(fingerprints) == 4


def test_the_rule_is_frozen():
    """Records name splits by seed and sizes: a new rule needs a new scheme name, not a new result."""
    images = (np.arange(40) % 33).astype(np.uint8).reshape(40, 1, 1, 1)
    dataset = Dataset.from_arrays("frozen", images, np.arange(40) % 3, 3, "made")
    splits = make_splits(dataset, 5, SplitSizes(8, 8, 8))
    drawn = hashlib.sha256(b"".join(getattr(splits, part).tobytes() for part in PARTS)).hexdigest()
    assert drawn == "ea1a6d520ba0b53e22642409489c4647ec437704f8fa04f2f6f0dec5b67e9a4e"


def test_fewer_members_are_a_prefix():
    dataset = load("digits")
    few, many = (make_splits(dataset, 0, SplitSizes(n, 10, 10)) for n in (50, 500))
    np.testing.assert_array_equal(few.members, many.members[:50])


def test_members_and_nonmembers_are_uniform_over_a_sorted_pool():
    dataset = pool(0, 4000, 1 << 16)
    splits = [make_splits(dataset, seed, SplitSizes(1000, 500, 500)) for seed in range(20)]
    for part in PARTS:
        positions = np.concatenate([getattr(s, part) for s in splits]) / 4000
        assert abs(positions.mean() - 0.5) < 4 * 12**-0.5 / len(positions) ** 0.5
    overlap = np.mean([len(np.intersect1d(a.members, b.members)) for a, b in zip(splits, splits[1:], strict=False)])
    assert 200 < overlap < 300  # 250 of 1,000 by chance: seeds are independent


def test_too_small_a_pool_and_bad_sizes_are_one_clear_line():
    with pytest.raises(PoolTooSmall, match=r"digits has 1,797 images, but 1,000 members.* need 2,100"):
        make_splits(load("digits"), 0, SplitSizes(1000, 50, 50))
    with pytest.raises(DataError, match="at least 1 member"):
        SplitSizes(0, 1, 1)
    with pytest.raises(DataError, match="at least 0, not -1"):
        make_splits(load("digits"), -1, SplitSizes(1, 1, 1))
    one_group = Dataset.from_arrays("same", np.zeros((9, 1, 1, 1), np.uint8), np.zeros(9, int), 1, "made")
    with pytest.raises(PoolTooSmall, match="duplicates stay on one side"):
        make_splits(one_group, 0, SplitSizes(1, 0, 0))


def test_a_record_of_other_data_is_refused():
    text = make_splits(pool(0, 50, 50), 1, SplitSizes(5, 5, 5)).to_json()
    with pytest.raises(DataError, match="another data set content"):
        Splits.from_json(text, pool(1, 50, 50))
    with pytest.raises(DataError, match="not a record of splits"):
        Splits.from_json("{}", pool(0, 50, 50))


def test_indices_cannot_be_changed():
    splits = make_splits(pool(0, 50, 50), 1, SplitSizes(5, 5, 5))
    with pytest.raises(ValueError, match="read-only"):
        splits.members[0] = 0


def test_dataset_refuses_what_does_not_fit_together():
    images = np.zeros((3, 2, 2, 1), np.uint8)
    for bad in (
        (images.astype(np.float32), [0, 0, 0]),
        (images, [0, 0]),
        (images, [0, 0, 2]),
        (images, [0, -1, 0]),
    ):
        with pytest.raises(DataError, match=r"^bad: "):
            Dataset.from_arrays("bad", bad[0], np.array(bad[1]), 2, "made")


@given(st.integers(0, 2**32), st.integers(1, 20), st.sampled_from([1, 3]))
@settings(max_examples=30, deadline=None)
def test_normaliser_equals_the_textbook(seed, count, channels):
    images = np.random.default_rng(seed).integers(0, 256, (count, 3, 5, channels), np.uint8)
    normaliser = Normaliser.fit(images)
    scaled = images.astype(np.float64) / 255
    expected = (scaled - scaled.mean((0, 1, 2))) / scaled.std((0, 1, 2))
    got = normaliser.apply(images)
    assert got.dtype == np.float32
    assert got.shape == (count, channels, 3, 5)
    assert got.flags.c_contiguous
    np.testing.assert_allclose(got, expected.transpose(0, 3, 1, 2), rtol=1e-4, atol=1e-5)


def test_normaliser_does_not_depend_on_order_and_takes_a_constant_channel():
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)
    images[..., 1] = 7
    normaliser = Normaliser.fit(images)
    assert Normaliser.fit(images[::-1]) == normaliser
    assert not normaliser.apply(images)[:, 1].any()
    with pytest.raises(DataError, match="3 channels"):
        normaliser.apply(images[..., :1])


def test_duplicate_groups_count_up_from_first_appearance():
    images = np.array([5, 3, 5, 9, 3], np.uint8).reshape(5, 1, 1, 1)
    assert duplicate_groups(images).tolist() == [0, 1, 0, 2, 1]
