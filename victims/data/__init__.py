"""Data sets: real images with checksums, from the first source that answers, and how they are split."""

from victims.data.catalogue import NAMES
from victims.data.dataset import Dataset, count_duplicate_groups, duplicate_groups
from victims.data.errors import (
    CorruptFile,
    DataError,
    DataUnavailable,
    PoolTooSmall,
    UnknownDataset,
)
from victims.data.load import availability, load
from victims.data.normalise import Normaliser
from victims.data.progress import show_on
from victims.data.splits import Splits, SplitSizes, make_splits

__all__ = [
    "NAMES",
    "CorruptFile",
    "DataError",
    "DataUnavailable",
    "Dataset",
    "Normaliser",
    "PoolTooSmall",
    "SplitSizes",
    "Splits",
    "UnknownDataset",
    "availability",
    "count_duplicate_groups",
    "duplicate_groups",
    "load",
    "make_splits",
    "show_on",
]
