"""From pinned Debian packages to what a board boots, once per content of the inputs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock

from device.board import BoardError
from device.cache import cache_root, content_key, made_once
from device.qemu import lock
from device.qemu.firmware import build_firmware
from device.qemu.host import check_host, find_program
from device.qemu.lock import Kind, Pin
from device.qemu.mirror import CIPHER, KERNEL, fetch
from device.qemu.rootfs import build_rootfs
from device.qemu.steps import output, run_logged

OPTEE_PLATFORM = "vexpress-qemu_armv8a"
_HERE = Path(__file__).parent
_INPUTS = ("cpio.py", "firmware.py", "image.py", "rootfs.py", "guest/applets", "guest/init")
"""What decides, besides the pinned packages and the compiler, how an image comes out."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Image:
    """What boots, and what TAs for it are built with. All paths are inside ``folder``, which never changes.

    ``flash``: TF-A and OP-TEE. ``dev_kit``: OP-TEE's kit for building TAs. ``versions``: package to version.
    ``digest``: SHA-256, hex, over flash, kernel and root file system.
    """

    folder: Path
    flash: Path
    kernel: Path
    initrd: Path
    dev_kit: Path
    versions: Mapping[str, str]
    digest: str


def build_image(progress: Progress | None = None) -> Image:
    """The image; from the cache when no input changed.

    Args:
        progress: is told each step as it ends, with its seconds.

    Raises:
        BoardError: something to build with is missing, the mirror cannot be reached or has other versions, a checksum
            does not match, or a step fails; says what to do.
    """
    pins = _pins()
    check_host()
    folder = made_once(board_cache(), _name(pins), lambda aside: _make(aside, pins, progress or _silent))
    return _load(folder)


def built_image() -> Image | None:
    """The image, if its inputs did not change since it was built.

    Raises:
        BoardError: as :func:`build_image`, where that cannot be told.
    """
    folder = board_cache() / _name(_pins())
    return _load(folder) if folder.is_dir() else None


def board_cache() -> Path:
    """The folder for images, downloads and the state of boards."""
    return cache_root() / "board"


def _pins() -> tuple[Pin, ...]:
    """Of the image alone."""
    return tuple(pin for pin in lock.read() if pin.package != CIPHER)


def _silent(_: str) -> None:
    return


def _name(pins: Sequence[Pin]) -> str:
    compiler = output(
        [find_program("aarch64-linux-gnu-gcc"), "--version"], "the cross compiler's version"
    ).splitlines()[0]
    key = content_key([compiler, *(pin.line() for pin in pins)], [_HERE / name for name in _INPUTS], _HERE)
    return f"image-{key[:32]}"


def _load(folder: Path) -> Image:
    try:
        made = json.loads((folder / "manifest.json").read_text())
        versions, digest = made["versions"], made["digest"]
    except (OSError, ValueError, KeyError) as error:
        raise BoardError(f"the board's image {folder} is damaged ({error}): delete it") from error
    return Image(
        folder=folder,
        flash=folder / "flash.bin",
        kernel=folder / "Image",
        initrd=folder / "initrd.cpio.gz",
        dev_kit=folder / "dev_kit",
        versions=versions,
        digest=digest,
    )


def _make(folder: Path, pins: Sequence[Pin], progress: Progress) -> None:
    work, logs = folder / "work", folder / "logs"
    work.mkdir()
    logs.mkdir()
    started = time.monotonic()

    def done(what: str) -> None:
        nonlocal started
        progress(f"{what:<44} {time.monotonic() - started:5.1f} s")
        started = time.monotonic()

    downloads = downloaded(pins)
    total = sum(pin.size_bytes for pin in pins)
    done(f"{len(pins)} files of Debian, {total / 1e6:.0f} MB, checked")
    packages = _unpack(pins, downloads, work, logs / "unpack.log")
    done("packages unpacked")
    optee = packages["optee-os"] / "usr/lib/optee" / OPTEE_PLATFORM
    build_firmware(work / "arm-trusted-firmware", optee, folder / "flash.bin", logs / "tf-a.log")
    done("TF-A compiled, with OP-TEE inside")
    build_rootfs(packages, packages[KERNEL], folder / "initrd.cpio.gz")
    _take_kernel(packages[KERNEL], folder / "Image")
    os.replace(packages["optee-os-dev"] / "usr/lib/optee-os-dev" / OPTEE_PLATFORM, folder / "dev_kit")
    shutil.rmtree(work)
    digest = hashlib.sha256()
    for name in ("flash.bin", "Image", "initrd.cpio.gz"):
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    manifest = {"digest": digest.hexdigest(), "versions": lock.versions(pins)}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    done("root file system")


def downloaded(pins: Sequence[Pin]) -> Path:
    """The download folder, where every one of ``pins`` is now, checked.

    Raises:
        BoardError: as :func:`device.qemu.mirror.fetch`, or a file was damaged.
    """
    folder = board_cache() / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_suffix(".lock")):
        if missing := [pin for pin in pins if not (folder / pin.file).exists()]:
            fetch(missing, folder)
        for pin in pins:
            file = folder / pin.file
            lock.check(pin, file, str(file), "it was damaged since it came: delete it to download it again")
    return folder


def _unpack(pins: Sequence[Pin], downloads: Path, work: Path, log: Path) -> dict[str, Path]:
    """Unpack everything into ``work/<package>``; package to folder."""
    for pin in pins:
        if pin.kind is Kind.DEB:
            run_logged(["dpkg-deb", "-x", downloads / pin.file, work / pin.package], f"unpacking {pin.package}", log)
        elif pin.file.endswith(".dsc"):
            # Its files lie beside it, as checked as itself: their checksums are pinned too.
            source, target = downloads / pin.file, work / pin.package
            command: list[str | Path] = ["dpkg-source", "--no-check", "-x", source, target]
            run_logged(command, f"unpacking the source of {pin.package}", log)
    return {pin.package: work / pin.package for pin in pins}


def _take_kernel(package: Path, out: Path) -> None:
    found = list((package / "boot").glob("vmlinuz-*"))
    if len(found) != 1 or found[0].read_bytes()[56:60] != b"ARM\x64":
        raise BoardError(f"the package {package.name} has no uncompressed arm64 kernel in /boot, which TF-A can start")
    os.replace(found[0], out)
