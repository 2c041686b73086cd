"""Every defense on the real OP-TEE: PyTorch's answers, and memory within what was planned."""

import numpy as np
import pytest

from device.board import DeploymentFiles
from device.qemu.board import QemuBoard
from suite.conformance_defenses import deployed
from suite.conformance_samples import SHAPE
from suite.graph.format import pack_public, pack_sealed, pack_slices
from suite.graph.planner import plan_memory
from suite.graph.reference import run_segments
from suite.registry import Kind, discover
from suite.spec import default_specs

discover()
ONE_EACH = list({spec.name: spec for spec in default_specs(Kind.DEFENSE)}.values())
"""A variant of each: they differ in what is hidden, not in how a board is spoken to."""


def written(deployment, folder):
    parts = (deployment.segments, deployment.policy, bytes(16))
    contents = {
        "public": pack_public(*parts),
        "sealed": pack_sealed(*parts) if deployment.hidden else b"",
        "slices": b"".join(pack_slices(deployment.segments)),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return DeploymentFiles(*(folder / name if content else None for name, content in contents.items()))


@pytest.mark.parametrize("spec", ONE_EACH, ids=lambda spec: spec.text)
def test_the_board_answers_what_pytorch_answers(spec, qemu_machine_of_the_run, tmp_path):
    deployment = deployed(spec)
    images = np.random.default_rng(5).standard_normal((4, *SHAPE)).astype(np.float32)
    first, last = deployment.segments[0].graph.inputs[0], deployment.segments[-1].graph.outputs[0]
    expected = deployment.policy.apply(run_segments(deployment.segments, {first: images})[last])
    with QemuBoard(folder=qemu_machine_of_the_run.folder, wait_s=300).open(written(deployment, tmp_path)) as session:
        outputs, stats = session.infer(images).outputs, session.stats()
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-4)
    assert stats.tee_peak_bytes <= plan_memory(deployment.segments).peak_bytes
    assert bool(deployment.hidden) == (stats.tee_peak_bytes > 0) == (stats.unseal_us > 0)
