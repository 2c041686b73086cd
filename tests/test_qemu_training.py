"""Training inside a real OP-TEE: PyTorch's steps, and the tuned model opened by its owner."""

import numpy as np
from c_build import deploy_trainable
from test_training_on_board import (
    DECAY,
    MOMENTUM,
    OWNER,
    RATE,
    agree,
    batches_for,
    reference_steps,
    small_cnn,
    tuned_parameters,
)

from device.emulated import EmulatedBoard
from device.qemu.board import QemuBoard
from device.training import TrainOptions
from suite.graph.export import export_graph


def test_a_step_in_optee_is_pytorch_s_and_comes_back_sealed(qemu_machine_of_the_run, tmp_path):
    graph = export_graph(small_cnn(), (2, 8, 8), softmax=True)
    hidden = {node.name for node in graph.nodes[4:]}
    batches = batches_for((2, 8, 8), 5)
    board = QemuBoard(folder=qemu_machine_of_the_run.folder)
    key = board.device_key()
    files = deploy_trainable(tmp_path, graph, hidden, OWNER)
    shown = []
    for place in (board, EmulatedBoard()):
        with place.open(files) as session:
            training = session.train(TrainOptions(RATE))
            shown.append(training.step(*batches[0], update=False, crossings=True, boundary=True, gradients=True))
    ours, theirs = shown
    assert ours.crossed.keys() == theirs.crossed.keys() == ours.boundary.keys()
    for name in ours.crossed:
        np.testing.assert_allclose(ours.crossed[name], theirs.crossed[name], atol=1e-5)
        np.testing.assert_allclose(ours.boundary[name], theirs.boundary[name], atol=1e-5)
    np.testing.assert_allclose(ours.gradients, theirs.gradients, atol=1e-5)
    with board.open(files) as session:
        training = session.train(TrainOptions(RATE, MOMENTUM, DECAY))
        for images, labels in batches:
            step = training.step(images, labels)
            assert 0 < step.invoke_ns < step.total_ns
        tuned = training.export()
    assert tuned.device_key == key
    agree(tuned_parameters(graph, hidden, tuned.public, tuned.sealed, key), reference_steps(graph, batches))
