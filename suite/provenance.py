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
import re
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

ROOTS = ("suite", "victims", "defenses", "attacks", "device")
"""Packages whose sources count as the suite's own code."""
_CODE = (".py", ".so", ".pyd")
_FILE_NAME = re.compile(r"[\w.-][\w./-]{0,99}")


def hash_json(value: Any) -> str:
    """SHA-256, hex, of a JSON-able value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def hash_arrays(arrays: Iterable[NDArray[Any]]) -> str:
    """SHA-256, hex, over shapes, dtypes and contents."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256, hex, of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@functools.cache
def _digest_of(path: Path) -> str:
    """As ``hash_file``, the content at first sight: an edit during a run is not what the run has loaded."""
    return hash_file(path)


@functools.cache
def _source_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(_CODE) else None


def _file_of(module: str) -> Path | None:
    """The file that a module's code is in; None for built-in modules, and for names that are no modules."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file and file.endswith(_CODE) else _source_of(module)


@functools.cache
def _is_users_own(top: str) -> bool:
    """Whether a top-level module is neither the suite's nor Python's nor installed: those have versions."""
    path = None if top in ROOTS else _file_of(top)
    if path is None or not {"site-packages", "dist-packages"}.isdisjoint(path.parts):
        return False
    return not path.is_relative_to(sysconfig.get_paths()["stdlib"])


@functools.cache
def _uses(path: Path, package: str) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """Modules that a source file imports anywhere in it, but for type checking only, and files it names beside it."""
    modules: set[str] = set()
    files: set[Path] = set()

    def visit(node: ast.AST) -> None:
        children = ast.iter_child_nodes(node)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            children = iter(node.orelse)
        elif isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, *([node.module] if node.module else [])])
            modules.add(base)
            modules.update(f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _FILE_NAME.fullmatch(node.value):
            named = path.parent / node.value
            files.update({named} if named.is_file() and named != path else ())
        for child in children:
            visit(child)

    if path.suffix == ".py":
        visit(ast.parse(path.read_bytes()))
    return tuple(sorted(modules)), tuple(sorted(files))


def files_beside(path: Path) -> list[str]:
    """Names, relative to its folder, of the data files that a source file names."""
    return [str(file.relative_to(path.parent)) for file in _uses(path, "")[1]]


def code_hash(*modules: str, roots: tuple[str, ...] = ROOTS) -> str:
    """SHA-256, hex, over the sources of ``modules`` and of all they import from ``roots``, transitively.

    A step's key holds this hash, so that a change anywhere in the code the step can reach makes a new key. A module
    outside ``roots`` (a plugin of another package, or a loose file) counts with its own package as a further root, and
    so does whatever lies in a folder of the user's own and not among installed packages. A data file counts when a
    source names it, relative to its own folder. Imports by a computed name (``importlib.import_module``) are not seen.
    """
    return _code_hash(modules, roots, tuple(map(_file_of, modules)), len(sys.modules))


@functools.cache
def _code_hash(modules: tuple[str, ...], roots: tuple[str, ...], files: tuple[Path | None, ...], loaded: int) -> str:
    """As ``code_hash``, which asks thousands of times; once for each state of what is imported."""
    allowed = {*roots, *(module.split(".")[0] for module in modules)}
    pending, looked_at, digests = list(modules), set[str](), dict[str, str]()
    while pending:
        module = pending.pop()
        if not module or module in looked_at:
            continue
        looked_at.add(module)
        if (top := module.split(".")[0]) not in allowed and not _is_users_own(top):
            continue
        parent = module.rpartition(".")[0]
        pending.append(parent)  # the __init__ of every package above runs before a module does
        path = _file_of(module)
        if path is None:
            continue
        package = module if path.name == "__init__.py" else parent
        imported, beside = _uses(path, package)
        pending.extend(imported)
        digests[module] = _digest_of(path)
        digests.update({f"{module}:{file.name}": _digest_of(file) for file in beside})
    return hash_json(digests)


def plugin_hash(module: str, file: str, *besides: str) -> str:
    """SHA-256, hex, of a plugin's own source, so that a reader of its records can tell whether he has that source.

    Of a plugin of one file that of the file, as ``sha256sum`` prints it, wherever it lies. Of one of the tree that
    reaches more in its own folder (and of ``besides``, further modules there), over all of it.
    """
    top, own = module.partition(".")[0], _digest_of(Path(file))
    if top not in ROOTS:
        return own
    package = _file_of(top)
    alone = {module: own} if package is None else {top: _digest_of(package), module: own}
    reached = code_hash(module, *besides, roots=(top,))
    return own if reached == hash_json(alone) else reached


@functools.cache
def versions() -> Mapping[str, str]:
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
