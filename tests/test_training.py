"""Training: deterministic, resumable, and as fast as it is equal to plain PyTorch."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from suite.registry import REGISTRY, Kind, Plugin
from victims.optimizer import DenseSGD
from victims.recipe import Recipe
from victims.small_maps import SmallMapConv, accelerate
from victims.task import TrainTask, build_model, load_model
from victims.training import TrainingDiverged, logits, train


class Tiny(nn.Module):
    """Batch norm, whose state must be resumed, and dropout, which draws random numbers."""

    def __init__(self, input_shape, n_classes):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(input_shape[0], 4, 3, stride=2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
        )
        self.head = nn.Linear(36, n_classes)

    def forward(self, images):
        return self.head(self.body(images))


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(REGISTRY._plugins[Kind.VICTIM], "tiny", Plugin(Kind.VICTIM, "tiny", Tiny, __file__, 1))


RECIPE = Recipe(0.05, batch_size=16)
TASK = TrainTask("tiny", (1, 8, 8), 5, RECIPE, epochs=5, seed=7)


def data(n=50, shape=(1, 8, 8), classes=5, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    images = rng.standard_normal((n, *shape)) + labels[:, None, None, None] / 2
    return images.astype(np.float32), labels


def same_bits(first, second):
    a, b = first.state_dict, second.state_dict
    return list(a) == list(b) and all(torch.equal(a[n], b[n]) for n in a) and first.history == second.history


@pytest.mark.parametrize(
    ("architecture", "shape", "n"),
    [("tiny", (1, 8, 8), 50), ("resnet20", (1, 8, 8), 20), ("alexnet", (3, 32, 32), 8)],
)
def test_same_bits_whatever_the_threads_and_the_global_state(architecture, shape, n):
    task = TrainTask(architecture, shape, 5, Recipe(0.05, batch_size=4, channels_last=True), epochs=2, seed=1)
    images, labels = data(n, shape)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        torch.manual_seed(1)
        first = train(task, images, labels)
        torch.set_num_threads(2)
        torch.manual_seed(2)
        before = torch.get_rng_state()
        second = train(task, images, labels)
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), before)
    finally:
        torch.set_num_threads(threads)
    assert same_bits(first, second)
    assert not same_bits(first, train(dataclasses.replace(task, seed=2), images, labels))


def test_learns_and_reports_what_the_model_really_reaches():
    images, labels = data(100)
    task = dataclasses.replace(TASK, epochs=40)
    seen = []
    trained = train(task, images, labels, on_progress=seen.append)
    answers = logits(load_model(task, trained.state_dict), images).argmax(1)
    assert trained.train_accuracy == (answers == labels).mean() > 0.8
    assert trained.history[-1].loss < trained.history[0].loss
    assert [p.epoch for p in seen] == list(range(1, 41))
    assert seen[-1].seconds_left == 0
    assert seen[0].seconds_left > 0
    assert [p.loss for p in seen] == [result.loss for result in trained.history]


def test_result_is_float32_contiguous_and_loads_into_the_plain_model():
    task = TrainTask("alexnet", (3, 32, 32), 5, Recipe(0.01, batch_size=4, channels_last=True), epochs=1, seed=0)
    trained = train(task, *data(6, (3, 32, 32)))
    for name, value in trained.state_dict.items():
        assert value.dtype == torch.float32, name
        assert value.is_contiguous(), name
        assert not value.requires_grad, name
    assert list(trained.state_dict) == list(build_model("alexnet", (3, 32, 32), 5).state_dict())


def test_inputs_may_be_read_only_and_stay_as_they_were():
    images, labels = data()
    kept = images.copy()
    images.setflags(write=False)
    labels.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(TASK, images, labels)
    np.testing.assert_array_equal(images, kept)


class Killed(BaseException):
    pass


def stop_after(epoch):
    def stop(progress):
        if progress.epoch == epoch:
            raise Killed

    return stop


@pytest.mark.parametrize(
    ("architecture", "shape", "n"),
    [("tiny", (1, 8, 8), 50), ("resnet20", (1, 8, 8), 20), ("alexnet", (3, 32, 32), 8)],
)
def test_resumed_training_ends_with_the_same_bits(tmp_path, architecture, shape, n):
    task = TrainTask(architecture, shape, 5, Recipe(0.05, batch_size=8, channels_last=True), epochs=4, seed=1)
    images, labels = data(n, shape)
    path = tmp_path / "new" / "state.ckpt"
    with pytest.raises(Killed):
        train(task, images, labels, checkpoint=path, checkpoint_every_s=0, on_progress=stop_after(2))
    assert [file.name for file in path.parent.iterdir()] == ["state.ckpt"]
    seen = []
    resumed = train(task, images, labels, checkpoint=path, on_progress=seen.append)
    assert [p.epoch for p in seen] == [3, 4]
    assert same_bits(resumed, train(task, images, labels))


def _killed_for_good(path):
    def kill(progress):
        if progress.epoch == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    task = dataclasses.replace(TASK, architecture="vgg7")
    train(task, *data(), checkpoint=path, checkpoint_every_s=0, on_progress=kill)


def test_resumes_after_kill_9(tmp_path):
    path = tmp_path / "state.ckpt"
    process = multiprocessing.get_context("spawn").Process(target=_killed_for_good, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    task, seen = dataclasses.replace(TASK, architecture="vgg7"), []
    resumed = train(task, *data(), checkpoint=path, on_progress=seen.append)
    assert [p.epoch for p in seen] == [4, 5]
    assert same_bits(resumed, train(task, *data()))


def test_no_checkpoint_before_its_time(tmp_path):
    path = tmp_path / "state.ckpt"
    train(TASK, *data(), checkpoint=path)
    assert not path.exists()


def _truncated(content):
    return content[: len(content) // 2]


def _flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [_truncated, _flipped, lambda content: b"", lambda content: b"{}"])
def test_a_damaged_checkpoint_is_named_and_not_used(tmp_path, damage):
    path = tmp_path / "state.ckpt"
    with pytest.raises(Killed):
        train(TASK, *data(), checkpoint=path, checkpoint_every_s=0, on_progress=stop_after(3))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"state\.ckpt is damaged or not a checkpoint: training starts anew"):
        trained = train(TASK, *data(), checkpoint=path)
    assert same_bits(trained, train(TASK, *data()))


def test_a_checkpoint_of_another_training_is_named_and_not_used(tmp_path):
    path = tmp_path / "state.ckpt"
    with pytest.raises(Killed):
        train(TASK, *data(), checkpoint=path, checkpoint_every_s=0, on_progress=stop_after(3))
    others = [
        (dataclasses.replace(TASK, seed=8), data()),
        (dataclasses.replace(TASK, recipe=Recipe(0.06, batch_size=16)), data()),
        (TASK, data(seed=1)),
    ]
    for task, (images, labels) in others:
        with pytest.warns(UserWarning, match=r"state\.ckpt belongs to another training"):
            trained = train(task, images, labels, checkpoint=path)
        assert same_bits(trained, train(task, images, labels))


def test_divergence_names_the_task_and_the_way_out():
    task = dataclasses.replace(TASK, recipe=Recipe(1e30, batch_size=16))
    with pytest.raises(
        TrainingDiverged, match=r"tiny \(1x8x8, 5 classes, seed 7\) diverged in epoch.*lower .*learning_rate"
    ):
        train(task, *data())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x.astype(np.float64), y), "takes float32 images"),
        (lambda x, y: (x[:, :, :7], y), r"takes float32 images \[N, 1, 8, 8\], not float32 \[50, 1, 7, 8\]"),
        (lambda x, y: (x, y[:-1]), r"takes int64 labels \[50\], not int64 \[49\]"),
        (lambda x, y: (x, y + 1), "labels go from 1 to 5, not 0 to 4"),
        (lambda x, y: (x[:1], y[:1]), "needs at least 2 images"),
    ],
)
def test_data_that_does_not_fit_is_named(change, message):
    with pytest.raises(ValueError, match=r"tiny \(1x8x8, 5 classes, seed 7\).*" + message):
        train(TASK, *change(*data()))


def test_a_last_batch_of_one_image_does_not_stop_batch_norm():
    task = TrainTask("vgg11", (1, 8, 8), 5, Recipe(0.01, batch_size=2), epochs=1, seed=0)
    train(task, *data(5))


def test_a_task_is_a_value():
    assert hash(TASK) == hash(dataclasses.replace(TASK))
    assert json.loads(json.dumps(dataclasses.asdict(TASK)))["recipe"]["batch_size"] == 16
    for change in ({"epochs": 0}, {"precision": "fp8"}, {"seed": -1}):
        with pytest.raises(ValueError, match=r"tiny.*" + next(iter(change))):
            dataclasses.replace(TASK, **change)


@settings(deadline=None)
@given(st.data())
def test_small_map_convolution_is_a_convolution(draw):
    n, channels, out = (draw.draw(st.integers(1, 4)) for _ in range(3))
    height, width = (draw.draw(st.integers(1, 5)) for _ in range(2))
    kernel = tuple(draw.draw(st.integers(1, 5)) for _ in range(2))
    pad = tuple(draw.draw(st.integers(0, k - 1)) for k in kernel)
    if height + 2 * pad[0] < kernel[0] or width + 2 * pad[1] < kernel[1]:
        return
    torch.manual_seed(draw.draw(st.integers(0, 1000)))
    layout = draw.draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    x = torch.randn(n, channels, height, width, dtype=torch.float64).contiguous(memory_format=layout)
    weight = torch.randn(out, channels, *kernel, dtype=torch.float64).contiguous(memory_format=layout)
    bias = torch.randn(out, dtype=torch.float64) if draw.draw(st.booleans()) else None
    inputs = [t.requires_grad_() for t in (x, weight, bias) if t is not None]
    expected = F.conv2d(x, weight, bias, padding=pad)
    found = SmallMapConv.apply(x, weight, bias, pad)
    torch.testing.assert_close(found, expected)
    grad = torch.randn_like(expected)
    torch.testing.assert_close(torch.autograd.grad(found, inputs, grad), torch.autograd.grad(expected, inputs, grad))


def test_accelerated_model_learns_as_the_plain_one():
    torch.manual_seed(0)
    plain = build_model("alexnet", (3, 32, 32), 10)
    fast = build_model("alexnet", (3, 32, 32), 10)
    fast.load_state_dict(plain.state_dict())
    accelerate(fast)
    assert sum("forward" in vars(module) for module in fast.modules()) == 4
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    optimizers = [
        torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4),
        DenseSGD(fast.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4),
    ]
    for _ in range(3):
        for model, optimizer in zip((plain, fast), optimizers, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
    for (name, value), other in zip(plain.named_parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-5, msg=name)


def test_bf16_training_keeps_float32_parameters():
    task = dataclasses.replace(TASK, precision="bf16", epochs=20)
    trained = train(task, *data())
    assert trained.state_dict["head.weight"].dtype == torch.float32
    assert trained.train_accuracy > 0.4
    assert same_bits(trained, train(task, *data()))
