"""The store that several machines share: any folder or bucket that fsspec reaches, behind each machine's own store.

``files/<aa>/<sha256>`` holds contents under their hash, ``entries/<entry>.json`` the manifest of an entry, written once
all its files are there. So nobody ever reads half an entry, makers of the same entry do each other no harm, and nothing
needs a lock.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from suite.provenance import hash_file
from suite.store import MANIFEST, Key, StoreError

MISSING = "a store on a URL needs fsspec: pip install 'leakboard[cluster]'"
_OBJECTS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "memory"})
"""Protocols whose objects appear whole or not at all; elsewhere a file is written aside and moved into place."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Remote:
    """The shared store at ``url``, or in the folder of an absolute path.

    Nothing that names the store in messages holds what stands before an ``@`` or after a ``?`` in the URL.

    Raises:
        StoreError: the URL cannot be read, its protocol is unknown or its package not installed.
    """

    def __init__(self, url: str) -> None:
        if url.startswith("/"):
            url = f"file://{url}"
        self.shown = shown(url)
        self.url = url
        if "://" not in url or "::" in url:
            raise StoreError(
                f"--store {self.shown!r} is no store: write a URL such as s3://bucket/folder, or an absolute path"
            )
        try:
            import fsspec
        except ImportError:
            raise StoreError(MISSING) from None
        self.protocol = url.partition("://")[0]
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except Exception as error:  # every protocol has errors of its own
            raise StoreError(f"--store {self.shown}: {self._said(error)}") from None
        if not root.strip("/"):
            raise StoreError(f"--store {self.shown}: name a folder behind the protocol, as s3://bucket/folder")
        self._root = root.rstrip("/")
        self._held: set[str] = set()

    def identity(self) -> str:
        """A text that tells this store from every other, whatever its URL; given to it by who first asks.

        Raises:
            StoreError: it cannot be read or written.
        """
        for _ in range(2):
            content = self._read("store.json")
            if content is not None:
                return self._parsed("store.json", content, "id")
            self._write("store.json", json.dumps({"id": uuid.uuid4().hex}).encode())
        raise StoreError(f"store {self.shown}: store.json was written and is not there: is this a folder to write to?")

    def has(self, entry: str) -> bool:
        """Whether a whole entry of that name is there. What was there once is not asked for again."""
        if entry not in self._held and self._read(f"entries/{entry}.json") is not None:
            self._held.add(entry)
        return entry in self._held

    def fetch(self, key: Key, folder: Path) -> bool:
        """Fill ``folder`` with the files and the manifest of the entry of ``key``; False: there is none.

        Raises:
            StoreError: a file is missing or changed, or the store cannot be read.
        """
        entry, content = key.id, self._read(f"entries/{key.id}.json")
        if content is None:
            return False
        files = self._files(entry, content)
        if self._parsed(f"entries/{entry}.json", content, "digest") != key.digest:
            raise self._damaged(entry, "its manifest is of another key")
        for name, sha256 in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._fs.get_file(self._at(_place(sha256)), str(target))
            except FileNotFoundError:
                raise self._damaged(entry, f"{name} is missing") from None
            except Exception as error:
                raise self._refused(f"read {name} of {entry}", error) from None
            if hash_file(target) != sha256:
                raise self._damaged(entry, f"{name} was changed")
        (folder / MANIFEST).write_bytes(content)
        self._held.add(entry)
        return True

    def push(self, entry: Path) -> None:
        """Store a whole local entry, its manifest last; what somebody else stored before stays.

        Raises:
            StoreError: the store cannot be written.
        """
        if self.has(entry.name):
            return
        content = (entry / MANIFEST).read_bytes()
        for name, sha256 in self._files(entry.name, content).items():
            if not self._is_whole(sha256, (entry / name).stat().st_size):
                self._write(_place(sha256), entry / name)
        self._write(f"entries/{entry.name}.json", content)
        self._held.add(entry.name)

    def damage(self, *, repair: bool = False) -> Iterator[tuple[str, str | None]]:
        """Every entry's name, and what is wrong with it or None; every file is read. ``repair`` removes damage.

        Raises:
            StoreError: the store cannot be read.
        """
        try:
            self._fs.invalidate_cache()
            found = self._fs.ls(self._at("entries"), detail=False)
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._refused("list the entries", error) from None
        for path in sorted(found):
            name = PurePosixPath(path).name
            if not name.endswith(".json") or name.startswith("."):
                continue
            wrong = self._wrong(name.removesuffix(".json"), repair=repair)
            if wrong and repair:
                self._remove(f"entries/{name}")
            yield name.removesuffix(".json"), wrong

    def _wrong(self, entry: str, *, repair: bool) -> str | None:
        content = self._read(f"entries/{entry}.json")
        try:
            files = self._files(entry, content or b"")
        except StoreError as error:
            return str(error)
        wrong = None
        for name, sha256 in files.items():
            held = self._read(_place(sha256))
            if held is None:
                wrong = str(self._damaged(entry, f"{name} is missing"))
            elif hashlib.sha256(held).hexdigest() != sha256:
                wrong = str(self._damaged(entry, f"{name} was changed"))
                if repair:
                    self._remove(_place(sha256))
        return wrong

    def _files(self, entry: str, content: bytes) -> Mapping[str, str]:
        """Names and hashes of an entry's files. A name that leads out of the entry is damage."""
        try:
            files = dict(json.loads(content)["files"])
            for name, sha256 in files.items():
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts or not path.parts or not _SHA256.fullmatch(sha256):
                    raise ValueError(f"{name!r} cannot be a file of an entry")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(entry, f"its manifest cannot be read ({error})") from None
        return files

    def _parsed(self, name: str, content: bytes, field: str) -> str:
        try:
            return str(json.loads(content)[field])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"store {self.shown} is damaged: {name} cannot be read ({error}); delete that file, it is made again"
            ) from None

    def _read(self, name: str) -> bytes | None:
        try:
            content: bytes = self._fs.cat_file(self._at(name))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._refused(f"read {name}", error) from None
        return content

    def _write(self, name: str, source: Path | bytes) -> None:
        place = self._at(name)
        whole = self.protocol in _OBJECTS
        aside = place if whole else f"{self._at(str(PurePosixPath(name).parent))}/.{uuid.uuid4().hex}"
        try:
            if not whole:
                self._fs.makedirs(place.rpartition("/")[0], exist_ok=True)
            if isinstance(source, bytes):
                self._fs.pipe_file(aside, source)
            else:
                self._fs.put_file(str(source), aside)
            if not whole:
                self._fs.mv(aside, place)
        except Exception as error:
            raise self._refused(f"write {name}", error) from None

    def _is_whole(self, sha256: str, size: int) -> bool:
        try:
            return bool(self._fs.info(self._at(_place(sha256)))["size"] == size)
        except FileNotFoundError:
            return False
        except Exception as error:
            raise self._refused(f"read {_place(sha256)}", error) from None

    def _remove(self, name: str) -> None:
        try:
            self._fs.rm_file(self._at(name))
        except Exception as error:
            raise self._refused(f"remove {name}", error) from None

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _damaged(self, entry: str, what: str) -> StoreError:
        return StoreError(
            f"entry {entry} of the store {self.shown} is damaged: {what}; 'leakboard store repair' with LEAKBOARD_STORE"
            " set to its URL removes it, and it will be made again"
        )

    def _refused(self, what: str, error: Exception) -> StoreError:
        return StoreError(
            f"store {self.shown}: cannot {what}: {self._said(error)}; see that it can be reached and that you may write"
            " it, or go on without it (no --store, no LEAKBOARD_STORE): what this machine has made it keeps"
        )

    def _said(self, error: Exception) -> str:
        """What an error says, on one line, without what the URL must not tell."""
        text = " ".join(str(error).split()) or type(error).__name__
        for secret in _secrets(self.url):
            text = text.replace(secret, "***")
        return text


def shown(url: str) -> str:
    """``url`` for people: without user, password and query."""
    protocol, slashes, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{protocol}{slashes}{place.rpartition('@')[2]}{slash}{path}".partition("?")[0]


def _secrets(url: str) -> list[str]:
    """The parts of a URL that are nobody's business, longest first."""
    user = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    found = (user, user.partition(":")[2], url.partition("?")[2])
    return sorted({text for text in found if text}, key=len, reverse=True)


def _place(sha256: str) -> str:
    return f"files/{sha256[:2]}/{sha256}"
