"""The images of one run: who is a member, who is not, what the attacker owns, what accuracy is measured on."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suite.model import LabelledImages
from suite.profiles import Profile
from suite.provenance import hash_arrays
from victims.data import Dataset, Normaliser, Splits, load, make_splits

_CANDIDATES, _SHADOW, _REFERENCE = 0xCA, 0x5A, 0x4E  # so that no two random orders of one seed are the same


@dataclass(frozen=True, slots=True)
class Material:
    """Splits of a data set as a victim takes them: normalised by the members' mean and deviation.

    ``candidates`` are members and non-members in random order, what attacks are scored on; ``is_member`` bool [N] is
    the truth about them and ``candidate_ids`` int64 [N] their place in the data set. ``queried_test`` are the test
    images that a board is asked for: the first ones, where the profile limits queries.

    ``pool`` are all images whose membership may be asked about, in an order of their own that says nothing about it;
    reference models are trained on halves of it. Where queries are not limited, it holds the candidates.
    ``candidates_in_pool`` int64 [N] are their positions in it. ``population`` are the attacker's own images that the
    deployment is asked for, as many as members, ``queried_population`` those that a board is asked for.

    ``fingerprint`` covers what a board is asked, ``training_fingerprint`` what models are trained and tested on.
    """

    dataset: Dataset
    splits: Splits
    normaliser: Normaliser
    members: LabelledImages
    auxiliary: LabelledImages
    test: LabelledImages
    queried_test: LabelledImages
    candidates: LabelledImages
    candidate_ids: NDArray[np.int64]
    is_member: NDArray[np.bool_]
    pool: LabelledImages
    candidates_in_pool: NDArray[np.int64]
    population: LabelledImages
    queried_population: LabelledImages
    fingerprint: str
    training_fingerprint: str

    def shadow_split(self, seed: int, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which auxiliary images shadow ``index`` is trained on, and as many that it never sees.

        Positions in ``auxiliary``, int64 [n] each, disjoint; n is the victim's number of members, as the attacker
        is taken to know it (Shokri et al. 2017, section V).
        """
        order = np.random.default_rng((_SHADOW, seed, index)).permutation(len(self.auxiliary))
        size = min(len(self.members), len(order) // 2)
        return order[:size].astype(np.int64), order[size : 2 * size].astype(np.int64)

    def reference_split(self, seed: int, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which images of the pool reference model ``index`` is, and is not, trained on.

        Positions in ``pool``, int64 [n] each; models 2i and 2i + 1 have each other's.
        """
        order = np.random.default_rng((_REFERENCE, seed, index // 2)).permutation(len(self.pool))
        halves = order[: len(self.members)].astype(np.int64), order[len(self.members) :].astype(np.int64)
        return halves if index % 2 == 0 else halves[::-1]

    def pool_at(self, positions: NDArray[np.int64]) -> LabelledImages:
        """Some of the images of the pool."""
        return LabelledImages(self.pool.images[positions], self.pool.labels[positions])

    def auxiliary_at(self, positions: NDArray[np.int64]) -> LabelledImages:
        """Some of the attacker's images."""
        return LabelledImages(self.auxiliary.images[positions], self.auxiliary.labels[positions])


@functools.lru_cache(maxsize=3)
def prepare(dataset_name: str, seed: int, profile: Profile) -> Material:
    """Load, split and normalise. A pure function of the data set's content, the seed and the profile.

    Raises:
        DataError: the data set cannot be had, or is too small for the profile.
    """
    dataset = load(dataset_name)
    splits = make_splits(dataset, seed, profile.sizes)
    normaliser = Normaliser.fit(dataset.images[splits.members])

    def take(ids: NDArray[np.int64]) -> LabelledImages:
        return LabelledImages(normaliser.apply(dataset.images[ids]), np.asarray(dataset.labels[ids]))

    most = len(splits.members) if profile.queries is None else min(len(splits.members), profile.queries // 2)
    ids = np.concatenate([splits.members[:most], splits.nonmembers[:most]])
    truth = np.arange(len(ids)) < most
    order = np.random.default_rng((_CANDIDATES, seed)).permutation(len(ids))
    all_ids = np.sort(np.concatenate([splits.members, splits.nonmembers]))  # by their place in the data set
    members, auxiliary, test, candidates, pool = (
        take(part) for part in (splits.members, splits.auxiliary, splits.test, ids[order], all_ids)
    )
    pieces = (members, auxiliary, test, candidates, pool)
    for array in (array for piece in pieces for array in (piece.images, piece.labels)):
        array.setflags(write=False)  # kept for the next cell: a plugin that writes into them must hear of it
    asked = LabelledImages(test.images[:most], test.labels[:most]) if profile.queries is not None else test
    people = LabelledImages(auxiliary.images[: len(members)], auxiliary.labels[: len(members)])
    return Material(
        dataset=dataset,
        splits=splits,
        normaliser=normaliser,
        members=members,
        auxiliary=auxiliary,
        test=test,
        queried_test=asked,
        candidates=candidates,
        candidate_ids=ids[order].astype(np.int64),
        is_member=truth[order],
        pool=pool,
        candidates_in_pool=np.searchsorted(all_ids, ids[order]).astype(np.int64),
        population=people,
        queried_population=LabelledImages(people.images[:most], people.labels[:most]),
        fingerprint=_fingerprint(candidates, asked),
        training_fingerprint=_fingerprint(members, auxiliary, test),
    )


def _fingerprint(*pieces: LabelledImages) -> str:
    return hash_arrays(array for piece in pieces for array in (piece.images, piece.labels))
