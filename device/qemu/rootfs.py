"""The board's root file system: busybox, tee-supplicant, an SSH server, and the kernel modules they take."""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Mapping
from pathlib import Path

from device.board import BoardError
from device.qemu.cpio import Archive
from device.qemu.host import find_program
from device.qemu.steps import output

INIT = Path(__file__).with_name("guest") / "init"

MODULES = ("optee", "virtio_net", "virtio_blk")
"""With what each depends on."""

PROGRAMS = {
    "usr/bin/busybox": "busybox-static",
    "usr/sbin/tee-supplicant": "tee-supplicant",
    "usr/sbin/dropbear": "dropbear-bin",
}
"""Path to the package that has it."""

APPLETS = Path(__file__).with_name("guest") / "applets"
"""The names that busybox goes by."""

TA_FOLDER = "usr/lib/optee_armtz"
"""Where tee-supplicant looks for TAs; on the board, ``/lib`` is ``/usr/lib``."""

_LIBRARIES = "usr/lib/aarch64-linux-gnu"
_NEEDED = re.compile(r"\(NEEDED\).*\[([^\]/]+)\]")


def build_rootfs(packages: Mapping[str, Path], kernel: Path, out: Path) -> None:
    """Write the compressed archive ``out`` from unpacked ``packages`` and the unpacked ``kernel`` package.

    Raises:
        BoardError: a program, library or module is missing; names it.
    """
    root = Archive()
    for name in ("bin", "sbin", "lib"):
        root.link(name, f"usr/{name}")
    for name in ("dev", "proc", "sys", "run", "mnt", "etc/dropbear", "var/lib/optee-client/data", TA_FOLDER):
        root.folder(name)
    root.folder("tmp", 0o1777)
    root.folder("root", 0o700)
    root.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    root.file("etc/shadow", b"root:*:20000:0:99999:7:::\n", 0o600)
    root.file("etc/group", b"root:x:0:\n")
    root.file("etc/shells", b"/bin/sh\n")
    root.file("init", INIT.read_bytes(), 0o755)
    for path, package in PROGRAMS.items():
        _add_program(root, path, packages[package], packages)
    for applet in APPLETS.read_text().split():
        root.link(f"usr/bin/{applet}", "busybox")
    _add_modules(root, kernel)
    out.write_bytes(gzip.compress(root.to_bytes(), 6, mtime=0))


def _add_program(root: Archive, path: str, package: Path, packages: Mapping[str, Path]) -> None:
    file = package / path
    if not file.is_file():
        raise BoardError(f"the package {package.name} has no /{path}")
    root.file(path, file.read_bytes(), 0o755)
    _add_libraries(root, file, packages)


def _add_libraries(root: Archive, program: Path, packages: Mapping[str, Path]) -> None:
    """Add every shared library that ``program`` needs, and what those need."""
    dynamic = output([find_program("aarch64-linux-gnu-readelf"), "-d", program], f"reading {program.name}")
    for name in _NEEDED.findall(dynamic):
        if f"{_LIBRARIES}/{name}" in root:
            continue
        found = [package / _LIBRARIES / name for package in packages.values() if (package / _LIBRARIES / name).exists()]
        if not found:
            raise BoardError(
                f"{program.name} needs {name}, which no pinned package has: device/qemu/mirror.py lists them"
            )
        root.file(f"{_LIBRARIES}/{name}", found[0].read_bytes(), 0o755)
        if name.startswith("ld-linux"):
            root.link(f"usr/lib/{name}", f"aarch64-linux-gnu/{name}")  # the path that programs name
        _add_libraries(root, found[0], packages)


def _add_modules(root: Archive, kernel: Path) -> None:
    """Add the kernel modules, uncompressed, and ``order``: their files in the order of loading."""
    files = {path.name.partition(".")[0]: path for path in kernel.rglob("*.ko*")}
    order: list[str] = []

    def add(name: str) -> None:
        if f"{name}.ko" in order:
            return
        if name not in files:
            raise BoardError(f"the package {kernel.name} has no module {name}")
        file = files[name]
        content = lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()
        for needed in depends(content):
            add(needed)
        root.file(f"usr/lib/modules/{name}.ko", content)
        order.append(f"{name}.ko")

    for name in MODULES:
        add(name)
    root.file("usr/lib/modules/order", "".join(f"{name}\n" for name in order).encode())


def depends(module: bytes) -> list[str]:
    """The modules that a kernel module must find loaded, from its ``.modinfo`` section."""
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return [name for name in found[1].decode().split(",") if name] if found else []
