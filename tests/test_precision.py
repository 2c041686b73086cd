"""The choice of a training precision: the same in every run, unless somebody asks for another."""

from __future__ import annotations

import pytest
import torch

from victims import precision
from victims.precision import PRECISION_ENV, choose_precision


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv(PRECISION_ENV, raising=False)


@pytest.mark.parametrize("flags", [{"avx2"}, {"avx2", "avx512_bf16", "amx_bf16"}])
def test_a_cpu_trains_in_fp32_whatever_it_could(monkeypatch, flags):
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(flags))
    assert choose_precision() == "fp32"


def test_bf16_is_there_for_the_asking_where_the_cpu_has_it(monkeypatch):
    monkeypatch.setenv(PRECISION_ENV, "bf16")
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    assert choose_precision() == "bf16"
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"avx2"}))
    with pytest.raises(ValueError, match="no bf16 instructions"):
        choose_precision()


def test_an_unknown_precision_is_refused(monkeypatch):
    monkeypatch.setenv(PRECISION_ENV, "fp8")
    with pytest.raises(ValueError, match="use fp32 or bf16"):
        choose_precision()


def test_a_gpu_uses_bf16_if_it_knows_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for knows, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda knows=knows: knows)
        assert choose_precision() == expected
    monkeypatch.setenv(PRECISION_ENV, "fp32")
    assert choose_precision() == "fp32"
