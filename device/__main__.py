"""Compile everything that runs on the emulated board, warnings as errors: ``python -m device``."""

from device.board import BoardError
from device.build import build

try:
    for sanitize in (False, True):
        made = build(sanitize=sanitize)
        print(f"{made.compiler}: {' '.join(made.flags)}")
except BoardError as error:
    raise SystemExit(f"leakboard: error: {error}") from error
