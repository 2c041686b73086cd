"""How far predictions are from the real board: ``pytest tests/bench_prediction.py -s``. Asserts the goal, 10 %.

None of these deployments had a part in the calibration, which knows single operators alone. Random weights: what a
query costs does not depend on them. Times are emulated ones, instructions counted as nanoseconds.
"""

import numpy as np

from device.board import DeploymentFiles
from device.qemu.board import QemuBoard
from suite.deploying import deploy, untrained_victim
from suite.graph.format import pack_public, pack_sealed, pack_slices
from suite.predicting import board_model
from suite.registry import Kind, discover
from suite.spec import parse

SHAPE, CLASSES, ROUNDS = (3, 32, 32), 10, 7
GOAL = 0.10
PAIRS = (
    ("alexnet", "vanilla"), ("alexnet", "darknetz[k=2]"), ("alexnet", "full_tee"), ("alexnet", "shadownet"),
    ("vgg7", "vanilla"), ("vgg7", "darknetz[k=3]"), ("vgg7", "full_tee"), ("vgg7", "serdab"), ("vgg7", "shadownet"),
    ("vgg7", "soter"), ("resnet20", "vanilla"), ("resnet20", "darknetz[k=4]"), ("resnet20", "full_tee"),
    ("resnet20", "serdab"), ("resnet20", "shadownet"), ("resnet20", "magnitude"), ("vgg11", "vanilla"),
    ("vgg11", "darknetz[k=2]"), ("resnet20", "depthwise_quant"), ("vgg7", "depthwise_quant"),
    ("alexnet", "depthwise_quant[layers=all,tee_mib=2,slice_kib=64]"), ("vgg16", "depthwise_quant[layers=all]"),
)  # fmt: skip


def measured(board, segments, policy, folder):
    """Medians of a query and of its TEE calls, microseconds."""
    public, sealed = folder / "public.lbm", folder / "sealed.lbm"
    public.write_bytes(pack_public(segments, policy, bytes(16)))
    hidden = any(segment.world == "tee" for segment in segments)
    if hidden:
        sealed.write_bytes(pack_sealed(segments, policy, bytes(16)))
    image = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    streamed = folder / "slices.bin" if (slices := pack_slices(segments)) else None
    if streamed:
        streamed.write_bytes(b"".join(slices))
    with board.open(DeploymentFiles(public, sealed if hidden else None, streamed)) as session:
        session.time(image, 2, noops=0)
        found = session.time(image, ROUNDS, noops=0)
    return float(np.median(found.total_ns)) / 1e3, float(np.median(found.invoke_ns)) / 1e3


def compare(board, folder, pairs=PAIRS):
    """The relative error of every pair; prints each."""
    discover()
    model, errors = board_model("qemu"), {}
    print(f"\n{'victim':10}{'defense':38}{'measured us':>13}{'predicted us':>13}{'error':>8}{'REE':>8}{'TEE':>8}")
    for victim, text in pairs:
        spec = parse(Kind.DEFENSE, text)[0]
        deployment = deploy(spec, untrained_victim(victim, SHAPE, CLASSES))
        total, invoke = measured(board, deployment.segments, deployment.policy, folder)
        found = model.predict(deployment.segments)
        errors[victim, spec.text] = found.total_us / total - 1
        ree = found.ree_us / (total - invoke) - 1
        tee = f"{100 * ((found.tee_us + found.switch_us) / invoke - 1):+8.1f}" if invoke else f"{'-':>8}"
        print(
            f"{victim:10}{spec.text:38}{total:13.1f}{found.total_us:13.1f}{100 * errors[victim, spec.text]:+8.1f}"
            f"{100 * ree:+8.1f}{tee}",
            flush=True,
        )
    mean = float(np.mean(np.abs(list(errors.values()))))
    print(f"mean absolute error over {len(errors)} pairs: {100 * mean:.1f} %")
    return mean


def test_prediction(qemu_machine_of_the_run, tmp_path):
    board = QemuBoard(folder=qemu_machine_of_the_run.folder)
    assert len(PAIRS) >= 12
    assert compare(board, tmp_path) <= GOAL
