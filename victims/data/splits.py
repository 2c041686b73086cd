"""Who is a member: disjoint splits of a data set, a pure function of its content, a seed and the sizes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from victims.data.dataset import Dataset
from victims.data.errors import DataError, PoolTooSmall

PARTS = ("members", "nonmembers", "test", "auxiliary")
_SCHEME = "groups-v1"  # part of every fingerprint; changes when the rule below does


@dataclass(frozen=True, slots=True)
class SplitSizes:
    """How many images each part gets; there are as many non-members as ``members``."""

    members: int
    auxiliary: int
    test: int

    def __post_init__(self) -> None:
        if self.members < 1 or self.auxiliary < 0 or self.test < 0:
            raise DataError(f"split sizes must be at least 1 member and nothing negative: {self}")

    @property
    def total(self) -> int:
        """Images needed in all."""
        return 2 * self.members + self.auxiliary + self.test


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Indices int64 into a data set, disjoint, in random order, so that a prefix of a part is a sample of it.

    No group of exact duplicates has images in two parts.

    Attributes:
        members: What the victim is trained on, [sizes.members].
        nonmembers: What it never sees, scored against the members, as many.
        auxiliary: The attacker's own data, [sizes.auxiliary].
        test: For the utility, [sizes.test].
        fingerprint: SHA-256, hex, over data set, seed, sizes and all indices.
    """

    seed: int
    sizes: SplitSizes
    members: NDArray[np.int64]
    nonmembers: NDArray[np.int64]
    auxiliary: NDArray[np.int64]
    test: NDArray[np.int64]
    fingerprint: str

    def to_json(self) -> str:
        """Seed, sizes and fingerprint: the indices follow from them and the data set."""
        return json.dumps({"seed": self.seed, "sizes": asdict(self.sizes), "fingerprint": self.fingerprint})

    @classmethod
    def from_json(cls, text: str, dataset: Dataset) -> Splits:
        """Recompute the splits that :meth:`to_json` recorded.

        Raises:
            DataError: ``text`` is no such record, or other splits than recorded follow from it.
        """
        try:
            record = json.loads(text)
            seed, sizes, fingerprint = record["seed"], SplitSizes(**record["sizes"]), record["fingerprint"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"not a record of splits ({error!r}): {text[:80]!r}") from error
        splits = make_splits(dataset, seed, sizes)
        if splits.fingerprint != fingerprint:
            raise DataError(
                f"the splits of {dataset.name} with seed {seed} are {splits.fingerprint[:16]}, recorded were "
                f"{fingerprint[:16]}: another data set content or another version made the record"
            )
        return splits


def make_splits(dataset: Dataset, seed: int, profile_sizes: SplitSizes) -> Splits:
    """Draw members, non-members, test and auxiliary images uniformly at random.

    Groups of exact duplicates are put in a random order and dealt out, whole, to one part after the other; of
    a group that overfills its part the rest goes to nobody. Every part begins with a fresh group, so members
    and non-members have one distribution. Classes are not balanced, for the same reason.

    ``seed`` is at least 0. Other sizes with the same seed give other splits, but the same members up to the
    smaller of both numbers.

    Raises:
        PoolTooSmall: The data set has too few images (or so many duplicates that too few are left).
        DataError: The seed is negative.
    """
    if seed < 0:
        raise DataError(f"the seed of splits must be at least 0, not {seed}")
    if profile_sizes.total > len(dataset):
        raise _too_small(dataset, profile_sizes, "")
    order = _order(dataset, seed)
    starts = _group_starts(dataset.groups[order])
    wanted = dict(zip(PARTS, _sizes_of_parts(profile_sizes), strict=True))
    parts: dict[str, NDArray[np.int64]] = {}
    at = 0
    for part, size in wanted.items():
        if at + size > len(order):
            raise _too_small(dataset, profile_sizes, ", and groups of exact duplicates stay on one side")
        parts[part] = order[at : at + size]
        # The next group that begins at or after the end: the rest of a cut group goes to nobody.
        following = np.searchsorted(starts, at + size)
        at = int(starts[following]) if following < len(starts) else len(order)
    digest = hashlib.sha256(f"{_SCHEME} {dataset.fingerprint} {seed} {profile_sizes}".encode())
    for part, indices in parts.items():
        digest.update(part.encode() + np.ascontiguousarray(indices, "<i8").tobytes())
        indices.flags.writeable = False
    return Splits(seed=seed, sizes=profile_sizes, fingerprint=digest.hexdigest(), **parts)


def _order(dataset: Dataset, seed: int) -> NDArray[np.int64]:
    """All indices, groups in random order, the images of a group side by side.

    Sorts by raw 64-bit words: NumPy promises that those never change, which it does not for ``permutation``.
    """
    entropy = [seed, *bytes.fromhex(dataset.fingerprint)]
    keys = np.random.PCG64(np.random.SeedSequence(entropy)).random_raw(int(dataset.groups.max()) + 1)
    rank = np.empty(len(keys), np.int64)
    rank[np.argsort(keys, kind="stable")] = np.arange(len(keys))
    return np.argsort(rank[dataset.groups], kind="stable").astype(np.int64)


def _group_starts(groups_in_order: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.flatnonzero(np.r_[True, groups_in_order[1:] != groups_in_order[:-1]]).astype(np.int64)


def _sizes_of_parts(sizes: SplitSizes) -> tuple[int, int, int, int]:
    return sizes.members, sizes.members, sizes.test, sizes.auxiliary


def _too_small(dataset: Dataset, sizes: SplitSizes, why: str) -> PoolTooSmall:
    return PoolTooSmall(
        f"{dataset.name} has {len(dataset):,} images, but {sizes.members:,} members, as many non-members, "
        f"{sizes.test:,} test and {sizes.auxiliary:,} auxiliary images need {sizes.total:,}{why}; "
        "choose a smaller profile or a larger data set"
    )
