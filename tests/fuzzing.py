"""Runs the fuzz targets: ``python tests/fuzzing.py --seconds 3600 [target ...]``. See docs/fuzzing.md."""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzz_targets import TARGETS, Target, build

from device.board import BoardError
from device.cache import cache_root

SANITIZERS = {
    # A refused allocation is tried, too; the harness never needs as much.
    "ASAN_OPTIONS": "allocator_may_return_null=1:max_allocation_size_mb=64:detect_leaks=1:abort_on_error=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}
SLOWEST_S = 20
"""One input that takes longer is a finding."""
RSS_LIMIT_MB = 2048
MOST_INPUTS = 60
"""Of a target's distilled corpus, beside its seeds and regressions."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of a target. ``artifacts``: inputs that broke it; ``said``: the end of what it printed."""

    target: str
    executions: int
    seconds: float
    coverage: int
    artifacts: tuple[Path, ...]
    returncode: int
    said: str

    @property
    def is_clean(self) -> bool:
        return self.returncode == 0 and not self.artifacts


def run(
    target: Target,
    folder: Path,
    *,
    seconds: int = 0,
    runs: int = -1,
    seed: int = 1,
    watch: Callable[[str], None] | None = None,
) -> Outcome:
    """Fuzz ``target`` from its committed corpus and what earlier runs left in ``folder``.

    Args:
        folder: gets ``corpus`` (inputs of new coverage) and ``findings`` (inputs that broke it).
        seconds: at most so long; 0: no limit.
        runs: so many executions beyond the corpus; -1: no limit.
        watch: gets libFuzzer's lines as they come.
    """
    program = build(target)
    corpus, findings = folder / "corpus", folder / "findings"
    for made in (corpus, findings):
        made.mkdir(parents=True, exist_ok=True)
    before = set(findings.iterdir())
    options = {
        "seed": seed,
        "max_len": target.max_bytes,
        "timeout": SLOWEST_S,
        "rss_limit_mb": RSS_LIMIT_MB + _own_peak_mb(),
        "use_value_profile": 1,
        "print_final_stats": 1,
        "artifact_prefix": f"{findings}/",
        "max_total_time": seconds,
        "runs": runs,
    }
    command = [str(program), *(f"-{name}={value}" for name, value in options.items())]
    if target.dictionary.exists():
        command.append(f"-dict={target.dictionary}")
    command += [str(corpus), *([str(target.corpus)] if target.corpus.is_dir() else [])]
    started = time.monotonic()
    returncode, lines = _watched(command, watch)
    text = "\n".join(lines)
    found = re.findall(r"stat::number_of_executed_units: (\d+)", text)
    coverage = re.findall(r"cov: (\d+)", text)
    return Outcome(
        target.name,
        int(found[-1]) if found else 0,
        time.monotonic() - started,
        int(coverage[-1]) if coverage else 0,
        tuple(sorted(set(findings.iterdir()) - before)),
        returncode,
        "\n".join(lines[-60:]),
    )


def _own_peak_mb() -> int:
    """Most memory this process ever held: Linux counts it as the peak of a program that it starts, too."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def replay(target: Target, files: Sequence[Path]) -> Outcome:
    """Run each of ``files`` once."""
    started = time.monotonic()
    limit = f"-rss_limit_mb={RSS_LIMIT_MB + _own_peak_mb()}"
    command = [str(build(target)), f"-timeout={SLOWEST_S}", limit, *map(str, files)]
    returncode, lines = _watched(command, None) if files else (0, [])
    ran = sum(line.startswith("Executed ") for line in lines)
    said = "\n".join(lines[-60:])
    return Outcome(target.name, ran, time.monotonic() - started, 0, (), returncode, said)


def minimise(target: Target, folder: Path, at_most_bytes: int) -> int:
    """Distil what was found into the committed corpus: of the inputs that carry the coverage, some of every size."""
    program = build(target)
    with tempfile.TemporaryDirectory() as scratch:
        merged = Path(scratch) / "merged"
        merged.mkdir()
        sources = [str(path) for path in (target.corpus, folder / "corpus") if path.is_dir()]
        returncode, lines = _watched([str(program), "-merge=1", f"-max_len={target.max_bytes}", str(merged), *sources])
        if returncode:
            raise BoardError(f"{target.name}: merging the corpus failed:\n" + "\n".join(lines[-20:]))
        kept = sorted(merged.iterdir(), key=lambda file: (file.stat().st_size, file.name))
        # Regressions have names of their own and stay whatever they cover; the generated ones are hashes.
        for old in target.corpus.iterdir() if target.corpus.is_dir() else ():
            if re.fullmatch(r"[0-9a-f]{40}", old.name):
                old.unlink()
        target.corpus.mkdir(parents=True, exist_ok=True)
        room = at_most_bytes - sum(file.stat().st_size for file in target.corpus.iterdir())
        for file in kept[:: max(1, -(-len(kept) // MOST_INPUTS))]:
            if file.stat().st_size > room:
                break
            room -= file.stat().st_size
            shutil.copyfile(file, target.corpus / file.name)
    return len(list(target.corpus.iterdir()))


def _watched(command: Sequence[str], watch: Callable[[str], None] | None = None) -> tuple[int, list[str]]:
    environment = {**os.environ, **SANITIZERS}
    lines = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                lines.append(line.rstrip("\n"))
                if watch:
                    watch(lines[-1])
                del lines[:-4000]
        except KeyboardInterrupt:
            process.terminate()
            raise
    return process.returncode, lines


class _Progress:
    """Prints libFuzzer's newest figures, at most one line in ten seconds."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.last = time.monotonic()

    def __call__(self, line: str) -> None:
        if line.startswith("#") and time.monotonic() - self.last >= 10:
            self.last = time.monotonic()
            print(f"  {self.target}: {line}", flush=True)


def _fuzz(names: Sequence[str], folder: Path, seconds: int, runs: int, seed: int) -> bool:
    outcomes = []
    for name in names:
        outcome = run(TARGETS[name], folder / name, seconds=seconds, runs=runs, seed=seed, watch=_Progress(name))
        outcomes.append(outcome)
        rate = outcome.executions / max(outcome.seconds, 1e-9)
        state = "clean" if outcome.is_clean else "FINDING"
        print(
            f"{name}: {outcome.executions} executions, {rate:.0f}/s, coverage {outcome.coverage}: {state}", flush=True
        )
        if not outcome.is_clean:
            print(outcome.said)
            for artifact in outcome.artifacts:
                print(f"again: python tests/fuzzing.py --reproduce {artifact} {name}")
    print(f"{sum(outcome.executions for outcome in outcomes)} executions over {len(outcomes)} targets")
    return all(outcome.is_clean for outcome in outcomes)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz what reads the other world's bytes (docs/fuzzing.md).")
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=int, default=0, help="for each target")
    parser.add_argument("--runs", type=int, default=-1, help="executions of each target")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="default: another one each time")
    parser.add_argument("--folder", type=Path, default=None, help="of corpora and findings; default: in the cache")
    parser.add_argument("--reproduce", type=Path, metavar="FILE", help="run one input through one target")
    parser.add_argument("--minimise", action="store_true", help="distil what was found into the committed corpus")
    parser.add_argument("--corpus-bytes", type=int, default=38_000, help="of a minimised corpus, at most")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    folder = options.folder or cache_root() / "fuzz" / "work"
    if options.reproduce:
        if len(options.targets) != 1:
            parser.error("--reproduce wants exactly one target")
        outcome = replay(TARGETS[names[0]], [options.reproduce])
        print(outcome.said)
        return outcome.returncode
    if options.minimise:
        for name in names:
            print(f"{name}: {minimise(TARGETS[name], folder / name, options.corpus_bytes)} inputs")
        return 0
    if options.seconds <= 0 and options.runs < 0:
        parser.error("say how long: --seconds or --runs")
    return 0 if _fuzz(names, folder, options.seconds, options.runs, options.seed) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BoardError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
