"""Somebody else's package: built, installed and found by its entry points, and run through the suite."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from suite_runs import PLUGINS, ROOT, environment, run

from device.cache import cache_root

SOURCE = ROOT / "docs" / "example_plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that the example was installed into from its wheel; nothing is fetched."""
    folder = tmp_path_factory.mktemp("third-party")
    shutil.copytree(SOURCE, folder / "source")
    here = ("--no-deps", "--no-index", "--disable-pip-version-check", "-q")
    pip = [sys.executable, "-m", "pip"]
    built = [*pip, "wheel", *here, "--no-build-isolation", "-w", str(folder / "wheels"), str(folder / "source")]
    subprocess.run(built, check=True, capture_output=True, timeout=240)
    (wheel,) = (folder / "wheels").iterdir()
    subprocess.run([*pip, "install", *here, "--target", str(folder / "site"), str(wheel)], check=True, timeout=240)
    return folder / "site"


@pytest.fixture
def cache(tmp_path):
    """A cache of its own, but for the compiled boards."""
    (cache_root() / "build").mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "build").symlink_to(cache_root() / "build")
    return tmp_path / "cache"


def test_its_plugins_are_found_and_keep_the_rules(installed, cache):
    command = [sys.executable, "-m", "suite.cli", "check", "coarse", "margin"]
    env = environment(cache, PYTHONPATH=str(installed))
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "defense coarse[decimals=1,k=1]: board equals pytorch" in done.stdout
    assert "attack margin: finds nothing where nothing is" in done.stdout
    assert "all rules kept" in done.stdout


def test_its_plugins_run_in_the_suite(installed, cache, tmp_path):
    loose, results = tmp_path / "tiny.py", tmp_path / "results"
    loose.write_text(PLUGINS)
    what = (
        "--plugin",
        loose,
        "--victims",
        "tinynet",
        "--defenses",
        "coarse[decimals=2],vanilla",
        "--attacks",
        "margin",
    )
    done = run(*what, "-k", "margin", cache=cache, results=results, timeout_s=600, PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stdout + done.stderr
    records = {path.name: json.loads(path.read_text()) for path in Path(results).rglob("*.json")}
    for place in ("coarse_decimals2", "vanilla"):
        record = records[f"tinynet-digits-{place}-margin-emulated.json"]
        assert record["attack"]["metrics"]["auc"]["value"] > 0.5
        assert record["parity"]["max_rel_error"] < 1e-4 or place != "vanilla"
