"""What the README promises: its defense in 20 lines works word for word."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The README's plugin as a file."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    name = re.match(r"# (\w+\.py)\n", code)[1]
    path = tmp_path_factory.mktemp("readme") / name
    path.write_text(code, encoding="utf-8")
    return path


def run(*command, cache, **more):
    env = {**os.environ, "LEAKBOARD_CACHE": str(cache)}
    return subprocess.run([sys.executable, "-m", *map(str, command)], env=env, capture_output=True, text=True, **more)


def test_the_defense_has_at_most_20_lines(example):
    lines = [line for line in example.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 20


def test_the_defense_conforms(example, tmp_path):
    done = run("suite.cli", "check", "--plugin", example, cache=tmp_path, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all rules kept" in done.stdout
    assert "first_layers[k=2]" in done.stdout


def test_the_defense_gets_its_row(example, tmp_path):
    results = tmp_path / "results"
    done = run(
        *("pytest", ROOT / "suite", "-k", "first_layers", "--plugin", example, "--profile", "smoke", "-p", "no:xdist"),
        *("--victims", "alexnet", "--attacks", "loss_threshold", "--results", results),
        cache=tmp_path / "cache",
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "first_layers_k1" in done.stdout
    record = json.loads((results / "smoke/alexnet-digits-first_layers_k1-loss_threshold-emulated.json").read_text())
    assert record["threat"]["shows"] == ["auxiliary", "boundary", "output", "query", "weights"]
    assert record["cost"]["switches_per_query"] == 1
    assert record["parity"]["max_rel_error"] < 1e-4


def test_every_command_of_the_readme_exists():
    commands = set(re.findall(r"^leakboard (\w+)", README, re.MULTILINE)) | {"store"}
    done = run("suite.cli", "--help", cache="unused", cwd=ROOT)
    assert commands <= set(re.findall(r"\w+", done.stdout))


def test_every_name_of_the_readme_exists():
    done = run("suite.cli", "list", cache="unused", cwd=ROOT)
    table = README.split("## What is in it")[1].split("##")[0]
    for name in re.findall(r"^\| (?:victims|data sets|defenses|attacks|boards) \|(.*)$", table, re.MULTILINE):
        for quoted in re.findall(r"`([a-z0-9_]+)", name):
            assert re.search(rf"\b{quoted}\b", done.stdout), quoted
