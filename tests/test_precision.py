"""The choice of a training precision: measured once, remembered, never flipping."""

from __future__ import annotations

import json

import pytest
import torch

from victims import precision


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def bf16_machine(tmp_path, monkeypatch):
    """A CPU with bf16 instructions where bf16 takes ``seconds["bf16"]`` a step; records what was measured."""
    seconds, measured = {"fp32": 2.0, "bf16": 1.0}, []

    def measure(architecture, input_shape, kind):
        measured.append((architecture, kind))
        return seconds[kind]

    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path))
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"avx2", "avx512_bf16"}))
    monkeypatch.setattr(precision, "cpu_model", lambda: "test CPU")
    monkeypatch.setattr(precision, "measure", measure)
    return seconds, measured


def test_precision_is_measured_once_and_never_flips(bf16_machine):
    seconds, measured = bf16_machine
    assert precision.choose_precision("vgg7", (3, 32, 32)) == "bf16"
    seconds["bf16"] = 9.0
    assert precision.choose_precision("vgg7", (3, 32, 32)) == "bf16"
    assert len(measured) == 2
    assert precision.choose_precision("vgg7", (1, 28, 28)) == "fp32"
    assert precision.choose_precision("alexnet", (3, 32, 32)) == "fp32"


def test_precision_is_measured_anew_for_another_cpu_or_torch(bf16_machine, monkeypatch):
    _, measured = bf16_machine
    precision.choose_precision("vgg7", (3, 32, 32))
    monkeypatch.setattr(precision, "cpu_model", lambda: "another CPU")
    precision.choose_precision("vgg7", (3, 32, 32))
    monkeypatch.setattr(torch, "__version__", "99.0")
    precision.choose_precision("vgg7", (3, 32, 32))
    assert len(measured) == 6


def test_precision_without_bf16_instructions_is_fp32_unmeasured(bf16_machine, monkeypatch):
    _, measured = bf16_machine
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"avx2"}))
    assert precision.choose_precision("vgg7", (3, 32, 32)) == "fp32"
    assert not measured


def test_a_damaged_precision_note_is_named_and_replaced(bf16_machine, tmp_path):
    precision.choose_precision("vgg7", (3, 32, 32))
    (note,) = (tmp_path / "precision").glob("*.json")
    note.write_text('{"precision": "fp')
    with pytest.warns(UserWarning, match="is damaged: measuring anew"):
        assert precision.choose_precision("vgg7", (3, 32, 32)) == "bf16"
    assert json.loads(note.read_text())["precision"] == "bf16"


def test_precision_that_cannot_be_remembered_is_fp32(bf16_machine, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="set LEAKBOARD_CACHE"):
        assert precision.choose_precision("vgg7", (3, 32, 32)) == "fp32"


def test_a_step_can_be_measured_in_both_precisions_without_a_trace():
    before = torch.get_rng_state()
    assert precision.measure("vgg7", (1, 8, 8), "fp32") > 0
    assert precision.measure("vgg7", (1, 8, 8), "bf16") > 0
    assert torch.equal(torch.get_rng_state(), before)
