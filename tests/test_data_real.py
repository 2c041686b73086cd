"""The real data sets, where they are cached or in a local folder; nothing is fetched."""

import time

import numpy as np
import pytest

from victims.data import SplitSizes, cache, count_duplicate_groups, load, make_splits
from victims.data.catalogue import CATALOGUE
from victims.data.sources import local_candidates

EXPECTED = {  # images, shape, images of the rarest class, groups of exact duplicates
    "mnist": (70_000, (1, 28, 28), 6_313, 0),
    "fashion_mnist": (70_000, (1, 28, 28), 7_000, 0),
    "cifar10": (60_000, (3, 32, 32), 6_000, 0),
    "cifar100": (60_000, (3, 32, 32), 600, 26),
}


def real(name: str):
    if not cache.has(cache.folder(), name) and not local_candidates(CATALOGUE[name]):
        pytest.skip(f"{name} is neither in the cache {cache.folder()} nor in a local folder")
    return load(name)


@pytest.mark.parametrize("name", EXPECTED)
def test_real_data_set(name):
    dataset = real(name)
    count, shape, rarest, duplicates = EXPECTED[name]
    assert len(dataset) == count
    assert dataset.input_shape == shape
    assert np.bincount(dataset.labels).min() == rarest
    assert count_duplicate_groups(dataset.groups) == duplicates
    assert dataset.fingerprint == CATALOGUE[name].content
    splits = make_splits(dataset, 0, SplitSizes(10_000, 20_000, 10_000))
    groups = [dataset.groups[p] for p in (splits.members, splits.nonmembers, splits.auxiliary, splits.test)]
    assert sum(len(np.unique(part)) for part in groups) == len(np.unique(np.concatenate(groups)))


def test_cifar10_is_the_cifar10_of_the_papers():
    dataset = real("cifar10")
    mean = dataset.images[:50_000].mean((0, 1, 2)) / 255
    np.testing.assert_allclose(mean, (0.4914, 0.4822, 0.4465), atol=5e-5)
    assert dataset.labels[:4].tolist() == [6, 9, 9, 4]
    assert dataset.labels[50_000:50_004].tolist() == [3, 8, 8, 0]


def test_warm_cifar10_loads_in_a_second():
    real("cifar10")
    took = []
    for _ in range(3):
        began = time.perf_counter()
        load("cifar10")
        took.append(time.perf_counter() - began)
    assert min(took) < 1.0


def test_tiny_imagenet():
    dataset = real("tiny_imagenet")
    assert dataset.input_shape == (3, 64, 64)
    assert len(np.unique(dataset.labels)) == 200
    assert len(dataset) in (25_000, 110_000)
