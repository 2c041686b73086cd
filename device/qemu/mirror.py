"""The Debian mirror that this machine's apt already uses: fetching pinned files, and asking what it offers now.

apt runs in a state folder of its own: no root, and nothing of this machine's apt is touched.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from device.board import BoardError
from device.qemu.host import APT_HELPER
from device.qemu.lock import LOCK, Kind, Pin, check, versions
from device.qemu.steps import output

MIRROR_ENV = "LEAKBOARD_DEBIAN_MIRROR"
"""Chooses another mirror: the address of its ``debian`` folder."""

SUITE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

KERNEL = "linux-image-cloud-arm64"
CIPHER = "libssl-dev"
"""No part of the image: TAs take their cipher of sealed slices from it (``device/slice_cipher.py``)."""
DEBS = (
    "optee-os",
    "optee-os-dev",
    "tee-supplicant",
    "libteec2",
    "busybox-static",
    "dropbear-bin",
    "libc6",
    "libcrypt1",
    "libgmp10",
    "libtomcrypt1",
    "libtommath1",
    "zlib1g",
    CIPHER,
    KERNEL,
)
SOURCES = ("arm-trusted-firmware",)
SAME_VERSION = (("optee-os", "optee-os-dev"), ("libteec2", "tee-supplicant"))
"""A TA that is signed by another version's kit is refused by OP-TEE."""


def mirror_address() -> str:
    """Where Debian comes from, without a slash at the end.

    Raises:
        BoardError: apt has no Debian mirror; says how to name one.
    """
    if chosen := os.environ.get(MIRROR_ENV):
        return chosen.rstrip("/")
    listing = output(
        ["apt-get", "indextargets", "--format", "$(LABEL)\t$(REPO_URI)", "Created-By: Packages"],
        "asking apt for a mirror",
    )
    targets = [line.partition("\t")[::2] for line in listing.splitlines()]
    # The label is in the index that apt has downloaded; before the first apt-get update there is the address alone.
    for label, address in targets:
        if label == "Debian" or (not label and address.rstrip("/").endswith("/debian")):
            return address.rstrip("/")
    raise BoardError(
        "apt has no Debian mirror in its sources, which the QEMU board is built from: run apt-get update, or set "
        f"{MIRROR_ENV} to the address of a mirror's debian folder"
    )


def fetch(pins: Sequence[Pin], folder: Path) -> None:
    """Download into ``folder``, checked.

    Raises:
        BoardError: the mirror cannot be reached, no longer has a file, or has another of that name; says which, and
            what to do.
    """
    mirror = mirror_address()
    with _isolated(mirror) as apt, tempfile.TemporaryDirectory(prefix="new-", dir=folder) as aside:
        wanted = [word for pin in pins for word in (f"{mirror}/{pin.path}", f"{aside}/{pin.file}", "")]
        try:
            output([APT_HELPER, "-q", "download-file", *wanted], "downloading packages", env=apt)
        except BoardError as error:
            gone = [pin for pin in pins if not Path(aside, pin.file).exists()]
            if "404  Not Found" not in str(error):
                raise _unreachable(error, mirror) from None
            raise _explain_gone(gone, mirror) from None
        for pin in pins:
            # With these pins checked, nothing needs to be signed.
            check(pin, Path(aside, pin.file), f"{mirror}/{pin.path}", f"that mirror's file or {LOCK.name} is wrong")
            os.replace(Path(aside, pin.file), folder / pin.file)


def offers() -> tuple[Pin, ...]:
    """What the mirror has now of everything that the board is made of, authenticated by Debian's archive key.

    Raises:
        BoardError: it cannot be reached, is not signed by Debian, lacks a package, or its packages do not match.
    """
    mirror = mirror_address()
    if not KEYRING.exists():
        raise BoardError(f"{KEYRING} is missing: apt-get install --no-install-recommends debian-archive-keyring")
    with _isolated(mirror) as apt:
        try:
            output(["apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"], f"reading {mirror}", env=apt)
        except BoardError as error:
            raise _unreachable(error, mirror) from None
        kernel = _show([KERNEL], apt)[KERNEL]["Depends"].partition(" ")[0]
        names = {name: kernel if name == KERNEL else name for name in DEBS}
        shown = _show(names.values(), apt)
        pins = [_binary_pin(name, shown[real]) for name, real in names.items()]
        for name in SOURCES:
            pins += _source_pins(name, apt)
    found = versions(pins)
    for one, other in SAME_VERSION:
        if found[one] != found[other]:
            raise BoardError(f"{mirror} has {one} {found[one]} but {other} {found[other]}: try again later")
    return tuple(pins)


@contextmanager
def _isolated(mirror: str) -> Iterator[Mapping[str, str]]:
    """The environment that makes apt work in a folder of its own, on one mirror."""
    with tempfile.TemporaryDirectory(prefix="leakboard-apt-") as name:
        root = Path(name)
        for part in ("lists/partial", "cache/archives/partial"):
            (root / part).mkdir(parents=True)
        (root / "sources.list").write_text(
            f"deb [arch=arm64 signed-by={KEYRING}] {mirror} {SUITE} main\n"
            f"deb-src [signed-by={KEYRING}] {mirror} {SUITE} main\n"
        )
        settings = {
            "APT::Architecture": "arm64",
            "APT::Sandbox::User": "root",  # only matters to root, whose apt would hand this folder to another user
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
            "Acquire::Retries": "1",
            "Acquire::http::Timeout": "30",
            "Acquire::https::Timeout": "30",
            "Dir::Cache": root / "cache",
            "Dir::Etc::sourcelist": root / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": root / "lists",
            "Dir::State::status": "/dev/null",
        }
        lines = [f'{key} "{value}";' for key, value in settings.items()]
        (root / "apt.conf").write_text("\n".join(['APT::Architectures { "arm64"; };', *lines, ""]))
        yield {**os.environ, "LC_ALL": "C", "APT_CONFIG": str(root / "apt.conf")}


def _explain_gone(gone: Sequence[Pin], mirror: str) -> BoardError:
    has = versions(offers())
    for pin in gone:
        if has[pin.package] != pin.version:
            return BoardError(
                f"{mirror} no longer has {pin.package} {pin.version}, which the QEMU board pins; it has "
                f"{has[pin.package]}: leakboard board build --update pins what it has now"
            )
    names = ", ".join(pin.path for pin in gone)
    return BoardError(f"{mirror} lists {names} and does not have it: {MIRROR_ENV} names another mirror")


def _unreachable(error: BoardError, mirror: str) -> BoardError:
    first = next((line for line in str(error).splitlines() if line.startswith("E:")), str(error))
    return BoardError(
        f"{first}\nIs there a network? Packages come from {mirror}, where this machine's apt gets its own; "
        f"{MIRROR_ENV} names another mirror"
    )


def _show(packages: Iterable[str], apt: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Each package's fields, in the newest version."""
    command = ["apt-cache", "show", "--no-all-versions", *packages]
    return {fields["Package"]: fields for fields in _stanzas(output(command, "asking the mirror's index", env=apt))}


def _binary_pin(name: str, fields: Mapping[str, str]) -> Pin:
    return Pin(Kind.DEB, name, fields["Version"], int(fields["Size"]), fields["SHA256"], fields["Filename"])


def _source_pins(name: str, apt: Mapping[str, str]) -> list[Pin]:
    text = output(["apt-cache", "showsrc", "--only-source", name], f"looking for {name}", env=apt)
    fields = next(_stanzas(text))
    pins = []
    for line in fields["Checksums-Sha256"].split("\n"):
        if line.strip():
            sha256, size, file = line.split()
            pins.append(Pin(Kind.SOURCE, name, fields["Version"], int(size), sha256, f"{fields['Directory']}/{file}"))
    return pins


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """Debian's control format: ``Name: value`` lines, continued by lines that start with a space."""
    for block in text.strip().split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line.startswith((" ", "\t")):
                fields[name] += "\n" + line
            else:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        yield fields
