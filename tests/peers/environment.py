"""A virtual environment of the peers' own: what they install never meets what the suite runs on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import filelock
import torch

from device.cache import sha256_of
from peers.cases import PeersError
from suite.progress import announce

REQUIREMENTS = ("adversarial-robustness-toolbox==1.20.*", "privacy-meter==1.0.1", "packaging")
"""ART 1.20.1 imports packaging, and its own list of requirements lacks it."""

RMIA_FILE = "modules/mia/attacks/rmia.py"
RMIA_COMMIT = "0b8cb7aa0fa136566f244b8e701d435d484c58f8"
RMIA_SHA256 = "852bcee2918a54ec67c4ce079cd1cc279e2bc839ced2cab14179cd8b44347e9e"
RMIA_URL = f"https://raw.githubusercontent.com/privacytrustlab/ml_privacy_meter/{RMIA_COMMIT}/{RMIA_FILE}"
"""Privacy Meter's RMIA was never released as a package: 1.0.1, the last one, is older than the attack."""


def make_environment(root: Path, find_links: Path | None = None) -> Path:
    """The Python of a virtual environment below ``root`` with all peers and the suite's own version of PyTorch.

    An installation that was interrupted goes on with what pip has kept. ``find_links``: a folder with wheels.

    Raises:
        PeersError: it cannot be made, most often for want of a network.
    """
    wanted = (*REQUIREMENTS, f"torch=={torch.__version__.partition('+')[0]}", "numpy", "scikit-learn", "scipy")
    folder, done = root / "environment", root / "environment" / "installed.json"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    root.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(root / "environment.lock"):
        if done.exists() and json.loads(done.read_text(encoding="utf-8"))["wanted"] == list(wanted):
            return python
        announce(f"installing the peers into {folder} (once; some hundred MB)")
        if folder.exists() and not python.exists():
            shutil.rmtree(folder)
        _run((sys.executable, "-m", "venv", str(folder)), "make a virtual environment")
        links = ("--find-links", str(find_links)) if find_links else ()
        _run((str(python), "-m", "pip", "install", "--quiet", *links, *wanted), "install the peers")
        listed = _run((str(python), "-m", "pip", "list", "--format", "json"), "list what was installed")
        versions = {one["name"].lower(): one["version"] for one in json.loads(listed)}
        done.write_text(json.dumps({"wanted": list(wanted), "versions": versions}, indent=1), encoding="utf-8")
    return python


def versions(root: Path) -> dict[str, str]:
    """What is installed there, by lower-case name."""
    content = json.loads((root / "environment" / "installed.json").read_text(encoding="utf-8"))
    return dict(content["versions"])


def rmia_file(root: Path, source: Path | None = None) -> Path:
    """Privacy Meter's RMIA as its authors publish it, of one commit; from a checkout in ``source``, or downloaded.

    Raises:
        PeersError: it cannot be had, or is not that file.
    """
    kept = root / f"rmia-{RMIA_COMMIT[:12]}.py"
    if source is not None:
        kept = source / RMIA_FILE
        if not kept.is_file():
            raise PeersError(f"{source} is no checkout of Privacy Meter: it has no {RMIA_FILE}")
    elif not kept.is_file():
        root.mkdir(parents=True, exist_ok=True)
        try:
            with urllib.request.urlopen(RMIA_URL, timeout=30) as answer:  # noqa: S310 (a constant https address)
                content = answer.read()
        except (urllib.error.URLError, OSError) as error:
            raise PeersError(
                f"cannot fetch Privacy Meter's RMIA from {RMIA_URL} ({error}): clone the repository at commit"
                f" {RMIA_COMMIT[:12]} where there is a network and name the folder with --privacy-meter,"
                " or leave it out with --peers"
            ) from error
        aside = kept.with_suffix(".part")
        aside.write_bytes(content)
        aside.replace(kept)
    if sha256_of(kept) != RMIA_SHA256:
        raise PeersError(f"{kept} is not {RMIA_FILE} of commit {RMIA_COMMIT[:12]}: remove it, or check that commit out")
    return kept.absolute()


def _run(command: Sequence[str], what: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise PeersError(f"cannot {what}: {error}") from error
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()][-4:]
        raise PeersError(
            f"cannot {what}: {' | '.join(said) or f'exit status {done.returncode}'}. Without a network, name a folder"
            " that holds the wheels (pip download) with --find-links"
        )
    return done.stdout
