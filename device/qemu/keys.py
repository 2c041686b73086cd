"""The keys of one board: who may enter it, and how it proves to be itself. Made on first use, never shared."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.qemu.cpio import Archive

HOST_NAME = "leakboard-qemu"
"""What the board is called in ``known_hosts``: its port changes from boot to boot."""

CLIENT_KEY = "client_key"
HOST_KEY = "host_key"
KNOWN_HOSTS = "known_hosts"


def make_keys(folder: Path) -> None:
    """See that ``folder`` has the client's key, the board's key and ``known_hosts``; nothing exists readable by others.

    Raises:
        OSError: a file cannot be written.
    """
    if (folder / KNOWN_HOSTS).exists():  # written last
        return
    client, host = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    encoding, none = serialization.Encoding.PEM, serialization.NoEncryption()
    _write(folder / CLIENT_KEY, client.private_bytes(encoding, serialization.PrivateFormat.OpenSSH, none))
    _write(folder / f"{CLIENT_KEY}.pub", _public(client) + b"\n")
    _write(folder / HOST_KEY, _dropbear(host))
    _write(folder / KNOWN_HOSTS, b"%s %s\n" % (HOST_NAME.encode(), _public(host)))


def overlay(folder: Path) -> bytes:
    """The archive that puts the keys into the board's root file system."""
    archive = Archive()
    archive.folder("root/.ssh", 0o700)
    archive.folder("root", 0o700)
    archive.file("root/.ssh/authorized_keys", (folder / f"{CLIENT_KEY}.pub").read_bytes(), 0o600)
    archive.file("etc/dropbear/host_key", (folder / HOST_KEY).read_bytes(), 0o600)
    return archive.to_bytes()


def ssh_options(folder: Path) -> tuple[str, ...]:
    """What ``ssh`` must be told to enter with these keys and no others."""
    settings = {
        "IdentityFile": _quoted(folder / CLIENT_KEY),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": _quoted(folder / KNOWN_HOSTS),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": HOST_NAME,
        "StrictHostKeyChecking": "yes",
    }
    return ("-F", "/dev/null", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}")))


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("%", "%%") + '"'


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


def _dropbear(key: Ed25519PrivateKey) -> bytes:
    """The file format of dropbear's own: two strings, each after its length; the second is private and public half."""
    raw, kind = serialization.Encoding.Raw, b"ssh-ed25519"
    private = key.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    halves = private + key.public_key().public_bytes(raw, serialization.PublicFormat.Raw)
    return b"".join(len(part).to_bytes(4, "big") + part for part in (kind, halves))


def _write(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as aside:  # only its owner may read it
        aside.write(content)
    os.replace(aside.name, path)
