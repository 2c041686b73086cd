"""A short run of every fuzz target: the committed corpus, then some thousand inputs that grow from it."""

import pytest
from fuzz_seeds import SEEDS
from fuzz_targets import CORPUS, FOLDER, TARGETS, find_clang
from fuzzing import replay, run

RUNS = {"model": 25_000, "graph": 2_000, "sealed": 25_000, "ta": 5_000, "agent": 3_000}

clang = pytest.mark.skipif(
    find_clang() is None, reason="no clang with libFuzzer: apt-get install clang libclang-rt-14-dev"
)


def test_every_target_has_a_run_and_seeds():
    assert set(RUNS) == set(TARGETS)
    assert {file.stem.removeprefix("fuzz_") for file in FOLDER.glob("fuzz_*.c")} >= set(TARGETS)
    for name in SEEDS:
        assert any(TARGETS[name].corpus.iterdir())


def test_the_corpus_is_small():
    files = [file for file in CORPUS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 200_000
    assert {file.parent.name for file in files} <= set(TARGETS)


@clang
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_nothing_breaks(name, tmp_path):
    target = TARGETS[name]
    files = sorted(target.corpus.iterdir())
    replayed = replay(target, files)
    assert replayed.is_clean, replayed.said
    assert replayed.executions == len(files)
    outcome = run(target, tmp_path, runs=RUNS[name], seed=1)
    assert outcome.is_clean, outcome.said
    assert outcome.executions >= RUNS[name]
