"""A submission as one file: a zip of records, raw scores and plugin sources, with a manifest of their SHA-256.

::

    manifest.json
    records/<profile>/<cell id>.json
    records/<profile>/scores/<cell id>.npz
    plugins/<name>.py
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

from suite.records import write_atomic
from suite.submission import (
    MAX_PLUGIN_BYTES,
    MAX_RECORD_BYTES,
    MAX_SCORES_BYTES,
    Division,
    Item,
    Problem,
    Refused,
    Submission,
    read_item,
)

FORMAT = 1
MANIFEST = "manifest.json"
MAX_BUNDLE_BYTES = 64 * 2**20
MAX_UNPACKED_BYTES = 128 * 2**20
MAX_FILES = 4000
_MAX_MANIFEST_BYTES = 2**20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # so that equal content makes equal bundles
_PACK = "pack it anew with leakboard submit pack"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._@+=-]{0,199}"
_ALLOWED = (
    (re.compile(r"manifest\.json"), _MAX_MANIFEST_BYTES),
    (re.compile(rf"records/{_NAME}/{_NAME}\.json"), MAX_RECORD_BYTES),
    (re.compile(rf"records/{_NAME}/scores/{_NAME}\.npz"), MAX_SCORES_BYTES),
    (re.compile(r"plugins/[A-Za-z_][A-Za-z0-9_]{0,99}\.py"), MAX_PLUGIN_BYTES),
)


def pack(submission: Submission) -> bytes:
    """The bundle of a submission."""
    files: dict[str, bytes] = {}
    for item in submission.items:
        cell = item.record.cell
        files[f"records/{cell.profile}/{cell.id}.json"] = item.text
        files[f"records/{cell.profile}/scores/{cell.id}.npz"] = item.packed
    files |= {f"plugins/{name}": source for name, source in submission.plugins.items()}
    manifest = {
        "format": FORMAT,
        "division": str(submission.division),
        "declared": submission.declared,
        "files": {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)},
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in (MANIFEST, *sorted(files)):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, text.encode() if name == MANIFEST else files[name])
    return buffer.getvalue()


def write_bundle(path: Path, submission: Submission) -> None:
    """Write the bundle, whole or not at all.

    Raises:
        RecordError: the folder cannot be written.
        Refused: it would be too large to be accepted, or hold a name that is not.
    """
    data = pack(submission)
    _open(path.name, data)
    write_atomic(path, data)


def read_bundle(path: Path) -> tuple[Submission, list[Problem]]:
    """What a bundle holds; and why some of it cannot be read.

    Raises:
        Refused: it is no bundle, or not one that is safe to look into.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        problem = Problem(path.as_posix(), "bundle", f"cannot be read: {error.strerror}", "name a file that is there")
        raise Refused(problem) from error
    return open_bundle(path.as_posix(), data)


def open_bundle(name: str, data: bytes) -> tuple[Submission, list[Problem]]:
    """As ``read_bundle``, of the bytes of a file called ``name``."""
    files = _open(name, data)
    division, declared, hashes = _manifest(name, files.pop(MANIFEST, b""))
    problems = []
    for file in sorted(files.keys() | hashes.keys()):
        if file not in hashes or file not in files:
            where = "manifest, but not in the bundle" if file in hashes else "bundle, but not in the manifest"
            problems.append(Problem(f"{name}/{file}", "manifest.files", f"stands in the {where}", _PACK))
        elif hashlib.sha256(files[file]).hexdigest() != hashes[file]:
            problems.append(Problem(f"{name}/{file}", "SHA-256", "is not the one in the manifest", _PACK))
    items: list[Item] = []
    for file in sorted(file for file in files if file.endswith(".json")):
        folder = file.rpartition("/")[0]

        def beside(relative: str, at: str = file, folder: str = folder) -> bytes:
            if (found := files.get(f"{folder}/{relative}")) is None:
                raise Refused(Problem(f"{name}/{at}", "scores.file", f"{relative} is not in the bundle", _PACK))
            return found

        try:
            items.append(read_item(f"{name}/{file}", files[file], beside))
        except Refused as error:
            problems.append(error.problem)
    used = {f"records/{item.record.cell.profile}/scores/{item.record.cell.id}.npz" for item in items}
    for file in sorted(file for file in files if file.endswith(".npz") and file not in used):
        problems.append(Problem(f"{name}/{file}", "record", "there is none that it belongs to", _PACK))
    if not items and not problems:
        problems.append(Problem(name, "records", "there are none in it", _PACK))
    plugins = {file.removeprefix("plugins/"): files[file] for file in files if file.startswith("plugins/")}
    return Submission(name, tuple(items), plugins, division, declared), problems


def _open(name: str, data: bytes) -> dict[str, bytes]:
    """Every file in the zip, in memory; nothing is ever written under a name that stands in it."""

    def refuse(where: str, what: str, way_out: str = _PACK) -> Refused:
        return Refused(Problem(name, where, what, way_out))

    if len(data) > MAX_BUNDLE_BYTES:
        raise refuse("size", f"more than {MAX_BUNDLE_BYTES:,} bytes", "hand in fewer cells at once")
    files: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_FILES:
                raise refuse("size", f"{len(infos):,} files, at most {MAX_FILES:,} are taken", "hand in fewer cells")
            if (size := sum(info.file_size for info in infos)) > MAX_UNPACKED_BYTES:
                raise refuse("size", f"{size:,} bytes unpacked, at most {MAX_UNPACKED_BYTES:,} are taken")
            for info in infos:
                files[info.filename] = _content(archive, info, refuse_twice=info.filename in files)
    except _Unsafe as error:
        raise refuse("zip", str(error)) from error
    except Refused:
        raise
    except Exception as error:  # zipfile and zlib stumble over damage in many ways of their own
        raise refuse("zip", f"damaged: {type(error).__name__}: {error}") from error
    return files


class _Unsafe(ValueError):
    """A file in a zip that no honest bundle has."""


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, *, refuse_twice: bool) -> bytes:
    name, kind = info.filename, stat.S_IFMT(info.external_attr >> 16)
    most = next((size for pattern, size in _ALLOWED if pattern.fullmatch(name)), None)
    if most is None or info.orig_filename != name:
        raise _Unsafe(f"{info.orig_filename[:200]!r} is no name that a bundle has")
    if refuse_twice:
        raise _Unsafe(f"{name} stands in it twice")
    if kind not in (0, stat.S_IFREG):
        raise _Unsafe(f"{name} is no plain file but a link or device")
    if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _Unsafe(f"{name} is encrypted or packed in an unusual way")
    if info.file_size > most:
        raise _Unsafe(f"{name} has {info.file_size:,} bytes, at most {most:,} are taken")
    with archive.open(info) as stream:
        content = stream.read(most + 1)
    if len(content) != info.file_size:
        raise _Unsafe(f"{name} is not as long as it says")
    return content


def _manifest(name: str, text: bytes) -> tuple[Division, str, Mapping[str, str]]:
    """Division, declaration and the SHA-256 of each file.

    Raises:
        Refused: there is no such manifest; says what is wrong with it.
    """

    def refuse(where: str, what: str) -> Refused:
        return Refused(Problem(f"{name}/{MANIFEST}", where, what, _PACK))

    if not text:
        raise refuse("manifest", "is missing")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refuse("manifest", f"is no JSON: {error}") from error
    wanted = {"format": int, "division": str, "declared": str, "files": dict}
    if not isinstance(content, dict) or content.keys() != wanted.keys():
        raise refuse("manifest", f"must have {', '.join(wanted)} and nothing else")
    for key, kind in wanted.items():
        if type(content[key]) is not kind:
            raise refuse(key, f"must be {kind.__name__}")
    if content["format"] != FORMAT:
        raise refuse("format", f"{content['format']} is not {FORMAT}, the one this version reads")
    if content["division"] not in tuple(Division):
        raise refuse("division", f"must be {' or '.join(Division)}")
    if any(not isinstance(value, str) for value in content["files"].values()):
        raise refuse("files", "must give a SHA-256 for each name")
    return Division(content["division"]), content["declared"], content["files"]
