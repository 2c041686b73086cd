"""The matrix as tests: one a cell. ``pytest suite -k alexnet``."""

from typing import Any

from suite import errors
from suite.matrix import Cell
from suite.run import Bench, run_attack_cell, run_latency_cell, run_turns
from suite.timing import BURST, LatencyMeter


def test_attack(cell: Cell, bench: Bench) -> None:
    """Measure how much one deployment leaks to one attack. Passes when measured, and true to PyTorch."""
    with errors.one_line():
        run_attack_cell(cell, bench)


def test_latency(latency_cell: Cell, bench: Bench, benchmark: Any) -> None:
    """Measure what one deployment costs in time, in turns with vanilla. Passes when measured."""
    timed = False

    def turns(meter: LatencyMeter, rounds: int) -> None:
        nonlocal timed
        if timed:  # the board was lost, and pytest-benchmark measures once
            run_turns(meter, rounds)
            return
        timed, done = True, 0

        def protected() -> None:
            nonlocal done
            meter.protected()
            done += 1

        place = f"{latency_cell.victim.slug} on {latency_cell.dataset}, board {latency_cell.board}"
        benchmark.group = f"{place}: a round is {BURST} queries and the way there and back"
        benchmark.pedantic(protected, setup=meter.vanilla, rounds=rounds)
        while done < rounds:  # pytest-benchmark is disabled (as under xdist) and ran one round
            meter.vanilla()
            protected()

    with errors.one_line():
        record = run_latency_cell(latency_cell, bench, turns)
    assert record.latency is not None
    benchmark.extra_info["cell"] = latency_cell.id
    benchmark.extra_info["ratio_to_vanilla"] = record.latency.ratio.value
