"""What a result depends on: hashes of code and data, versions, the machine."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOTS = ("suite", "victims", "defenses", "attacks", "device")
"""Packages whose sources count as the suite's own code."""


def hash_json(value: Any) -> str:
    """SHA-256, hex, of a JSON-able value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def hash_arrays(arrays: Iterable[NDArray[Any]]) -> str:
    """SHA-256, hex, over shapes, dtypes and contents."""
    digest = hashlib.sha256()
    for array in arrays:
        contiguous = np.ascontiguousarray(array)
        digest.update(f"{contiguous.dtype.str}{contiguous.shape}".encode())
        digest.update(contiguous.tobytes())
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256, hex, of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@functools.cache
def _source_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@functools.cache
def _imports(path: Path, package: str) -> tuple[str, ...]:
    """Modules a source file imports anywhere in it, relative ones resolved, type-checking blocks left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, *([node.module] if node.module else [])])
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return tuple(sorted(found))


def code_hash(*modules: str, roots: tuple[str, ...] = ROOTS) -> str:
    """SHA-256, hex, over the sources of ``modules`` and of all they import from ``roots``, transitively.

    A step's key holds this hash, so that a change anywhere in the code the step can reach makes a new key. A module
    outside ``roots`` (a plugin of another package, or a loose file) counts with its own package as a further root.
    """
    own = {m.split(".")[0] for m in modules}
    allowed = set(roots) | own
    pending, seen = list(modules), dict[str, Path]()
    while pending:
        module = pending.pop()
        if module in seen or module.split(".")[0] not in allowed:
            continue
        loaded = sys.modules.get(module)
        file = getattr(loaded, "__file__", None)
        path = Path(file) if file and file.endswith(".py") else _source_of(module)
        if path is None:
            continue
        seen[module] = path
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        # A package's own __init__ runs before any of its modules.
        pending.extend(m for m in (package, *_imports(path, package)) if m)
    return hash_json({module: hash_file(path) for module, path in seen.items()})


def versions() -> dict[str, str]:
    """Versions of what a number can depend on."""
    names = ("torch", "numpy", "scikit-learn")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def suite_version() -> str:
    """The installed version of this distribution."""
    try:
        return importlib.metadata.version("leakboard")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"


@functools.cache
def machine() -> Mapping[str, str | int]:
    """CPU, cores and operating system of this machine; no name, no address."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "os": f"{platform.system()} {platform.machine()}"}
