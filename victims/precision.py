"""Which precision trains fastest here: measured once, then remembered."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Iterable
from pathlib import Path

import platformdirs
import torch
from filelock import FileLock

from victims.inference import one_thread
from victims.layers import InputShape
from victims.task import Precision, build_model
from victims.training import train_step

_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
_BATCH = 64
_CLASSES = 10
_STEPS = 3
_WORTH_IT = 1.1  # bf16 costs digits: less than a tenth is no reason


def choose_precision(architecture: str, input_shape: InputShape) -> Precision:
    """``bf16`` where training under autocast is measured to be faster than in ``fp32``, else ``fp32``.

    A GPU that knows bf16 uses it. A CPU without bf16 instructions never does: there autocast was measured
    10 times slower. Otherwise a few steps of each are timed once and the answer is remembered for this CPU
    model, PyTorch version, architecture and shape in the cache folder (``LEAKBOARD_CACHE`` or the user's),
    so that it stays the same from run to run: it is part of what determines a trained model.
    """
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if not cpu_flags() & _CPU_FLAGS:
        return "fp32"
    about = [cpu_model(), torch.__version__, architecture, list(input_shape)]
    name = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]
    path = cache_folder() / "precision" / f"{architecture}-{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # two workers could measure different answers
            known = _recall(path)
            if known is not None:
                return known
            seconds = {p: measure(architecture, input_shape, p) for p in ("fp32", "bf16")}
            chosen: Precision = "bf16" if seconds["bf16"] * _WORTH_IT < seconds["fp32"] else "fp32"
            _remember(path, {"precision": chosen, "seconds_per_step": seconds, "about": about})
            return chosen
    except OSError as error:
        warnings.warn(
            f"cannot remember the fastest precision in {path.parent} ({error.strerror}): training in fp32;"
            " set LEAKBOARD_CACHE to a folder that can be written",
            stacklevel=2,
        )
        return "fp32"


def cache_folder() -> Path:
    """``LEAKBOARD_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("LEAKBOARD_CACHE") or platformdirs.user_cache_dir("leakboard"))


def cpu_flags() -> frozenset[str]:
    """The instruction sets Linux lists for this CPU; empty elsewhere."""
    return frozenset(_cpuinfo("flags").split())


def cpu_model() -> str:
    """The CPU's name, as Linux gives it, or whatever Python knows."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def measure(architecture: str, input_shape: InputShape, precision: Precision) -> float:
    """Seconds for one training step of 64 random images on one thread; the fastest of three."""
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(architecture, input_shape, _CLASSES).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, fused=True)
        images, labels = torch.randn(_BATCH, *input_shape), torch.randint(_CLASSES, (_BATCH,))
        times = []
        for _ in range(1 + _STEPS):
            start = time.perf_counter()
            train_step(model, optimizer, images, labels, precision)
            times.append(time.perf_counter() - start)
    return min(times[1:])


def _cpuinfo(field: str) -> str:
    try:
        lines: Iterable[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == field:
            return value.strip()
    return ""


def _recall(path: Path) -> Precision | None:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["precision"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        known = None
    if known in ("fp32", "bf16"):
        answer: Precision = known
        return answer
    warnings.warn(f"{path} is damaged: measuring anew", stacklevel=3)
    return None


def _remember(path: Path, content: object) -> None:
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
