"""A package for a new plugin: files that work as they are, for their author to change."""

from __future__ import annotations

import keyword
import os
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from string import Template

from suite.registry import REGISTRY, Kind, PluginError, discover

MAX_NAME = 40
_FIELDS_OF_RUN = {
    Kind.DEFENSE: 'pytest suite -k "vgg7 and {name}" --profile smoke',
    Kind.ATTACK: 'pytest suite -k "vgg7 and {name}" --profile smoke',
    Kind.VICTIM: "pytest suite --victims {name} --defenses vanilla,full_tee --attacks loss_threshold --profile smoke",
    Kind.BOARD: 'pytest suite -k "vgg7 and darknetz and loss_threshold" --profile smoke --board {name}',
}


def write_package(kind: Kind, name: str, folder: Path) -> list[Path]:
    """Write the package into a new folder; its files, relative to it.

    Raises:
        PluginError: the name cannot be taken, the folder exists or cannot be written.
    """
    _check_name(kind, name)
    if folder.exists() or folder.is_symlink():
        raise PluginError(f"{folder} exists, and nothing in it is overwritten: choose another with -o DIR")
    texts = package_texts(kind, name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for path, text in texts.items():
                (aside / path).parent.mkdir(parents=True, exist_ok=True)
                (aside / path).write_text(text, encoding="utf-8")
            aside.chmod(0o777 & ~_umask())
            os.rename(aside, folder)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    except OSError as error:
        raise PluginError(f"cannot write {folder}: {error.strerror}") from error
    return list(texts)


def package_texts(kind: Kind, name: str) -> dict[Path, str]:
    """The package's files, by their path in it."""
    module = f"leakboard_{kind}_{name}"
    fields = {
        "name": name,
        "kind": str(kind),
        "KIND": kind.name,
        "plural": kind.plural,
        "article": "An" if kind is Kind.ATTACK else "A",
        "Class": "".join(part.capitalize() for part in name.split("_")) + kind.capitalize(),
        "module": module,
        "project": module.replace("_", "-"),
        "check": f"leakboard check {name}",
        "run": _FIELDS_OF_RUN[kind].format(name=name),
    }
    sources = {
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": "README.md.txt",
        f"src/{module}.py": f"{kind}.py.txt",
        "tests/test_conformance.py": "test_conformance.py.txt",
    }
    templates = files("suite") / "templates"
    return {
        Path(path): Template((templates / source).read_text(encoding="utf-8")).substitute(fields)
        for path, source in sources.items()
    }


def _check_name(kind: Kind, name: str) -> None:
    """Before anything is written.

    Raises:
        PluginError: it is no name, is taken, or it and that of another plugin contain one another.
    """
    discover()
    label = f"{kind} {name!r}"
    REGISTRY.check_name(kind, name, label)
    if len(name) > MAX_NAME:
        raise PluginError(f"{label}: a name has at most {MAX_NAME} letters, for it stands in those of cells and files")
    if keyword.iskeyword(name):
        raise PluginError(f"{label}: a word of Python's own, which -k reads as such; choose another")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
