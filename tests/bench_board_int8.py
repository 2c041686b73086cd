"""depthwise_quant on the real board, all layers in the TEE: ``pytest tests/bench_board_int8.py -s``. Asserts no time.

Beside it stands the float32 model unprotected, on the same core and with the same kernels' float versions. Times are
instructions, one a nanosecond: emulated milliseconds. Random weights: what a query costs does not depend on them. What
streaming costs apart is the slope of VGG-16's time over the bytes streamed in, as the TEE's budget shrinks.
"""

import numpy as np
import pytest

from device.board import DeploymentFiles
from device.qemu.board import QemuBoard
from suite.deploying import deploy, untrained_victim
from suite.graph.format import pack_public, pack_sealed, pack_slices
from suite.graph.planner import plan_memory
from suite.graph.streaming import streamed_bytes
from suite.registry import Kind, discover
from suite.spec import parse

SHAPE, CLASSES, ROUNDS = (3, 32, 32), 10, 3
BUDGETS_MIB = {"alexnet": (13,), "resnet20": (13,), "vgg16": (13, 10, 7)}


@pytest.fixture(scope="module", autouse=True)
def plugins():
    discover()


def write(folder, deployment):
    folder.mkdir()
    parts = (deployment.segments, deployment.policy, bytes(range(16)))
    made = {
        "public.lbm": pack_public(*parts),
        "sealed.lbm": pack_sealed(*parts) if deployment.hidden else b"",
        "slices.bin": b"".join(pack_slices(deployment.segments)),
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return DeploymentFiles(*(folder / name if data else None for name, data in made.items()))


def measured(board, folder, deployment, image):
    """Milliseconds of a query, of which in the TEE; counts and memory."""
    with board.open(write(folder, deployment)) as session:
        session.time(image, 1, 0)
        times = session.time(image, ROUNDS)
        stats = session.stats()
    switch = np.median(times.noop_ns) / 1e6 if deployment.hidden else 0.0
    return np.median(times.total_ns) / 1e6, switch, stats


@pytest.mark.parametrize("architecture", BUDGETS_MIB)
def test_against_the_float_model(qemu_machine_of_the_run, tmp_path, architecture):
    board = QemuBoard(folder=qemu_machine_of_the_run.folder)
    victim = untrained_victim(architecture, SHAPE, CLASSES)
    image = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    (bare,) = parse(Kind.DEFENSE, "vanilla")
    unprotected, _, _ = measured(board, tmp_path / "bare", deploy(bare, victim), image)
    print(f"\n{architecture}, float32 unprotected: {unprotected:.3f} ms")
    print(f"{'budget MiB':>10}{'ms':>10}{'ratio':>8}{'streamed KiB':>14}{'calls':>7}{'switch ms':>11}{'peak MiB':>10}")
    streamed, times = [], []
    for mib in BUDGETS_MIB[architecture]:
        (spec,) = parse(Kind.DEFENSE, f"depthwise_quant[layers=all,tee_mib={mib}]")
        deployment = deploy(spec, victim)
        total, switch, stats = measured(board, tmp_path / str(mib), deployment, image)
        streamed.append(streamed_bytes(deployment.segments))
        times.append(total)
        print(
            f"{mib:10}{total:10.3f}{total / unprotected:8.3f}{streamed[-1] / 1024:14.1f}{stats.switches_per_query:7}"
            f"{switch:11.4f}{stats.tee_peak_bytes / 2**20:10.2f}"
        )
        assert stats.tee_peak_bytes <= plan_memory(deployment.segments).peak_bytes <= mib * 2**20
    if len(times) > 1:
        slope, still = np.polyfit(streamed, times, 1)
        print(f"streaming: {slope * 1e6:.2f} ns a byte; without it {still:.3f} ms ({still / unprotected:.3f})")
        print(f"of {times[0]:.3f} ms at {BUDGETS_MIB[architecture][0]} MiB: {slope * streamed[0]:.3f} ms")
