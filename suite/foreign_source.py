"""A stranger's plugin, read and not run: what it registers, what it imports, and what a reviewer should look at."""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from suite.provenance import ROOTS
from suite.registry import Kind

MAY_IMPORT = frozenset(
    {"cryptography", "numpy", "pandas", "PIL", "scipy", "sklearn", "suite", "threadpoolctl", "torch", "victims"}
)
"""Besides Python's own modules: what Leakboard installs and offers to plugins."""
LOOK_AT = frozenset(
    {"ctypes", "gc", "http", "importlib", "inspect", "multiprocessing", "os", "pathlib", "pickle", "requests", "shutil",
     "signal", "socket", "subprocess", "sys", "tempfile", "urllib", "suite.material", "suite.models", "suite.owning",
     "suite.records", "suite.run", "suite.store", "victims.data"}
)  # fmt: skip
"""Modules that reach past what an attacker is shown, or out of the process."""
_CALLS = frozenset({"__import__", "compile", "eval", "exec", "globals", "open", "setattr", "vars"})
_CITES = re.compile(r"\b(19|20)\d\d\b|\boriginal\b")
_KINDS = {str(kind): kind for kind in Kind}


class SourceError(ValueError):
    """Source that cannot be a plugin; says what is wrong and, where there is one, in which line."""


@dataclass(frozen=True, slots=True)
class Registered:
    """One decorated class. ``params``: the names that its annotated attributes give to parameters."""

    kind: Kind
    name: str
    line: int
    docstring: str
    params: frozenset[str]


@dataclass(frozen=True, slots=True)
class Source:
    """What a plugin file says of itself. ``look_at``: what is unusual in it, one line each, for a reviewer."""

    file: str
    sha256: str
    registered: tuple[Registered, ...]
    problems: tuple[str, ...]
    look_at: tuple[str, ...]

    def find(self, kind: Kind, name: str) -> Registered | None:
        """The class that is registered under a name; None where there is none."""
        return next((one for one in self.registered if (one.kind, one.name) == (kind, name)), None)


def read_source(file: str, content: bytes) -> Source:
    """Read a plugin's source.

    Raises:
        SourceError: it is no Python, or registers nothing.
    """
    try:
        tree = ast.parse(content, filename=file)
        nodes = list(ast.walk(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SourceError(f"does not parse as Python: {error}") from error
    registered = tuple(_registered(tree))
    if not registered:
        raise SourceError("registers nothing; decorate a class with @defense, @attack or @victim")
    problems = [
        f"line {one.line}: the docstring of {one.name!r} must cite its source (authors and year), or say original"
        for one in registered
        if not _CITES.search(one.docstring)
    ]
    look_at = []
    for node in nodes:
        for module in _imported(node):
            top = module.partition(".")[0]
            if module.startswith("."):
                problems.append(f"line {_line(node)}: a relative import; a plugin that is handed in is one file")
            elif top in ROOTS and top not in MAY_IMPORT:
                problems.append(f"line {_line(node)}: imports {module}; plugins build on suite and never on each other")
            elif top not in MAY_IMPORT and top not in sys.stdlib_module_names:
                problems.append(f"line {_line(node)}: imports {module}, which Leakboard does not install")
            elif any(module == name or module.startswith(f"{name}.") for name in LOOK_AT):
                look_at.append(f"line {_line(node)}: imports {module}")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS:
            look_at.append(f"line {_line(node)}: calls {node.func.id}")
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            inside = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not inside:
                look_at.append(f"line {_line(node)}: reaches for {node.attr}, which is private")
    digest = hashlib.sha256(content).hexdigest()
    return Source(file, digest, registered, tuple(dict.fromkeys(problems)), tuple(dict.fromkeys(look_at)))


def _registered(tree: ast.Module) -> Iterator[Registered]:
    for node in tree.body:
        for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
            found = _decoration(decorator)
            if found is not None and isinstance(node, ast.ClassDef):
                params = [item.target.id for item in node.body if _is_parameter(item)]  # type: ignore[attr-defined]
                yield Registered(*found, node.lineno, ast.get_docstring(node) or "", frozenset(params))


def _is_parameter(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and "ClassVar" not in ast.unparse(node.annotation)
    )


def _decoration(node: ast.expr) -> tuple[Kind, str] | None:
    """``@defense("name", ...)``, also with a module in front; None for any other decorator."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    first = node.args[0]
    if called not in _KINDS or not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return None
    return _KINDS[called], first.value


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = "." * node.level + (node.module or "")
        yield base
        if not node.level:
            yield from (f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in LOOK_AT)


def _line(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 0))


def read_sources(plugins: Mapping[str, bytes]) -> tuple[list[Source], list[tuple[str, str]]]:
    """Every source that can be read, and (file, why) of those that cannot."""
    found: list[Source] = []
    bad: list[tuple[str, str]] = []
    for file, content in plugins.items():
        try:
            found.append(read_source(file, content))
        except SourceError as error:
            bad.append((file, str(error)))
    return found, bad
