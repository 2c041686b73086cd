"""Names of the site's files, data that its scripts read, and a folder that is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

MARKER = ".leakboard-site"
"""A file in every site's folder: what has it may be replaced by a newer site."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,150}")


class SiteError(ValueError):
    """A site that cannot be built or written, and the way out."""


def safe_name(name: str) -> str:
    """``name`` where it means the same to every file system and in every address, else a name made of it and its hash.

    Records of others name their cells as they like; what they say must not lead out of the folder nor end an address.
    """
    if _PLAIN.fullmatch(name) and not name.endswith("."):
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:12]
    return re.sub(r"[^A-Za-z0-9._=-]+", "_", name).strip("._")[:100] + f"-{digest}"


def script(name: str, value: object) -> str:
    """Data as a script, since a page on disk may not read other files but may run them.

    Scripts parse JSON in a string faster than the same as a literal. Nothing in it can end a string, a script or a
    line: all but ASCII is escaped, and so are quotes, backslashes and ``<``.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    quoted = text.replace("\\", "\\\\").replace("'", "\\'").replace("<", "\\x3c")
    return f"leakboard.receive('{name}', JSON.parse('{quoted}'));\n"


def write_whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write into a folder aside, then put it in place of ``folder``, which may hold an older site.

    Raises:
        SiteError: ``folder`` holds something else, or cannot be written.
    """
    _refuse_others(folder)
    place = folder.absolute()
    aside: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        new, old = aside / "new", aside / "old"
        new.mkdir()
        (new / MARKER).write_text("made by leakboard site, replaced by the next\n", encoding="utf-8")
        fill(new)
        if place.exists():
            os.replace(place, old)
        try:
            os.replace(new, place)
        except BaseException:
            if old.exists():
                os.replace(old, place)
            raise
    except OSError as error:
        raise SiteError(
            f"{error.filename or folder}: {error.strerror}; choose a folder you may write with -o"
        ) from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)


def _refuse_others(folder: Path) -> None:
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise SiteError(f"{folder} is no folder; choose another with -o")
    if not (folder / MARKER).is_file() and any(folder.iterdir()):
        raise SiteError(
            f"{folder} holds files that are no site of leakboard's; choose an empty or a new folder with -o"
        )
