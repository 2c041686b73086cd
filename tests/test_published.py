"""The published leaderboard: every figure that is shown, computed again from the raw scores in the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.publishing import MAX_BYTES, size_bytes
from suite.readme_head import head, inside
from suite.records import read_records, read_scores
from suite.rescoring import differences

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "results" / "published"
RECORDS, PROBLEMS = read_records(PUBLISHED) if PUBLISHED.is_dir() else ([], [])

pytestmark = pytest.mark.skipif(
    not RECORDS and not PROBLEMS, reason="nothing is published yet: leakboard submit publish RESULTS"
)


def test_every_published_record_is_intact():
    assert not PROBLEMS
    there = {path.relative_to(PUBLISHED).as_posix() for path in PUBLISHED.glob("*/scores/*.npz")}
    assert there == {f"{r.cell.profile}/scores/{r.cell.id}.npz" for r in RECORDS}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record.cell.profile}/{record.cell.id}")
def test_a_published_record_is_what_its_raw_scores_give(record):
    assert differences(record, read_scores(PUBLISHED, record)) == []


def test_the_readme_shows_what_the_records_give():
    readme = ROOT / "README.md"
    assert inside(readme.read_text(encoding="utf-8"), readme) == head(PUBLISHED)


def test_the_folder_stays_small():
    assert size_bytes(PUBLISHED) <= MAX_BYTES
