"""Which precision models are trained in: asked for, never timed, since a clock must not decide what a model becomes."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from victims.task import Precision

PRECISION_ENV = "LEAKBOARD_PRECISION"
_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}


def choose_precision() -> Precision:
    """``fp32`` on a CPU, ``bf16`` on a GPU that knows it; ``LEAKBOARD_PRECISION`` overrides either.

    bf16 (autocast; parameters stay float32) is up to three times as fast where there are instructions for it, and
    gives other models: how well they generalise, and so what they leak, differs. Records and the keys of trained
    models carry it.

    Raises:
        ValueError: the variable names no precision, or one that this CPU has no instructions for.
    """
    asked = os.environ.get(PRECISION_ENV)
    gpu = torch.cuda.is_available()
    if not asked:
        return "bf16" if gpu and torch.cuda.is_bf16_supported() else "fp32"
    if asked not in ("fp32", "bf16"):
        raise ValueError(f"{PRECISION_ENV}={asked}: use fp32 or bf16")
    if asked == "bf16" and not gpu and not cpu_flags() & _CPU_FLAGS:
        raise ValueError(
            f"{PRECISION_ENV}=bf16: this CPU has no bf16 instructions, and training takes ten times as long without"
        )
    return "fp32" if asked == "fp32" else "bf16"


def cpu_flags() -> frozenset[str]:
    """The instruction sets Linux lists for this CPU; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
