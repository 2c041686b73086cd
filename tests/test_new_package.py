"""``leakboard new``: what it writes is installed and passes its own tests as it is, and nothing is overwritten."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from suite_runs import ROOT, environment

from suite.cli import main
from suite.registry import Kind, PluginError
from suite.scaffold import package_texts, write_package

pytestmark = pytest.mark.usefixtures("scratch_registry")
NAMES = {kind: f"mine_{kind.value[0]}" for kind in Kind}


def installed_at(folder: Path) -> Path:
    """As an editable installation leaves it: the sources, and the metadata with the entry point beside them."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    about = folder / "src" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n{name} = {value}\n"
        for group, one in project["entry-points"].items()
        for name, value in one.items()
    ]
    (about / "entry_points.txt").write_text("".join(lines))
    return folder / "src"


def test_every_kind_passes_its_own_tests_as_written(tmp_path):
    for kind, name in NAMES.items():
        write_package(kind, name, tmp_path / kind)
    paths = [str(installed_at(tmp_path / kind)) for kind in Kind]
    tests = [str(tmp_path / kind / "tests") for kind in Kind]
    command = [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", *tests]
    env = environment(
        os.environ.get("LEAKBOARD_CACHE", tmp_path / "cache"), PYTHONPATH=os.pathsep.join([*paths, str(ROOT)])
    )
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "28 passed" in done.stdout


def test_defense_and_attack_are_under_20_lines():
    for kind in (Kind.DEFENSE, Kind.ATTACK):
        (source,) = [text for path, text in package_texts(kind, "mine").items() if path.parts[0] == "src"]
        assert len([line for line in source.splitlines() if line.strip()]) <= 20


def test_the_command_writes_a_package_and_never_over_another(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "attack", "fresh_one"]) == 0
    said = capsys.readouterr().out
    assert "pip install -e fresh_one && leakboard check fresh_one && pytest fresh_one" in said
    written = {str(path.relative_to("fresh_one")) for path in Path("fresh_one").rglob("*") if path.is_file()}
    module = "src/leakboard_attack_fresh_one.py"
    assert written == {"pyproject.toml", "README.md", module, "tests/test_conformance.py"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    before = Path("fresh_one", module).read_bytes()
    assert main(["new", "attack", "fresh_one"]) == 1
    assert "fresh_one exists, and nothing in it is overwritten: choose another with -o DIR" in capsys.readouterr().err
    assert Path("fresh_one", module).read_bytes() == before
    assert main(["new", "attack", "fresh_one", "-o", "fresh_one/README.md/below"]) == 1
    assert "cannot write fresh_one/README.md/below" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (Kind.DEFENSE, "My-Defense", "a name is made of a-z, 0-9 and _"),
        (Kind.DEFENSE, "../up", "a name is made of a-z, 0-9 and _"),
        (Kind.DEFENSE, "vanilla", r"the name is taken by .*defenses/vanilla.py:\d+"),
        (Kind.ATTACK, "shadow_two", r"'shadow' \(.*shadow.py:\d+\) contain one another"),
        (Kind.VICTIM, "vgg", r"contain one another"),
        (Kind.BOARD, "qemu", r"the name is taken by device/qemu/board.py"),
        (Kind.BOARD, "my_emulated", r"'emulated' \(device/emulated.py\) contain one another"),
        (Kind.ATTACK, "lambda", "a word of Python's own"),
        (Kind.ATTACK, "x" * 41, "at most 40"),
    ],
)
def test_a_name_that_cannot_be_taken_is_refused_before_anything_is_written(tmp_path, kind, name, message):
    with pytest.raises(PluginError, match=message):
        write_package(kind, name, tmp_path / "new")
    assert not list(tmp_path.iterdir())
