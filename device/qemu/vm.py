"""One QEMU process: its command line, and finding it again."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from device.qemu.firmware import KERNEL_ADDRESS
from device.qemu.host import find_program
from device.qemu.image import Image
from device.qemu.qmp import SOCKET
from device.qemu.steps import output

ICOUNT = "shift=0,sleep=on"
MODE = ("-icount", ICOUNT, "-seed", "1")
"""One instruction is one nanosecond of the board's clock, the same in every boot. While all processors idle, the clock
goes with the wall's: if idle time were skipped (``sleep=off``), 200 s could pass on the board in a second here, and a
busy host would lose connections to timeouts of the board's SSH server and network."""

MACHINE = (
    "-machine",
    "virt,secure=on,gic-version=3,virtualization=off",
    "-cpu",
    "cortex-a53",
    "-smp",
    "4",
    "-m",
    "1024",
)

INITRD_ADDRESS = 0x54000000
PID_FILE = "qemu.pid"
NORMAL_LOG = "normal.log"
SECURE_LOG = "secure.log"
DISK = "storage.ext4"
INITRD = "initrd.cpio"


def start(image: Image, folder: Path, port: int) -> None:
    """Start QEMU on its own, away from this process; SSH will be on ``port`` of the loopback interface.

    ``folder`` holds disk, root file system, logs, process id and control socket.

    Raises:
        BoardError: QEMU is missing or refuses; with what it said.
    """
    output([find_program("qemu-system-aarch64"), *_arguments(image, folder, port)], "starting QEMU", cwd=folder)


def _arguments(image: Image, folder: Path, port: int) -> list[str | Path]:
    initrd = folder / INITRD
    boot = f"console=ttyAMA0 quiet rdinit=/init panic=-1 initrd={INITRD_ADDRESS:#x},{initrd.stat().st_size}"
    return [
        *("-nodefaults", "-display", "none", "-no-reboot", "-daemonize", "-pidfile", folder / PID_FILE),
        *("-name", "leakboard", *MACHINE, "-accel", "tcg,thread=single", *MODE),
        # QEMU hands the command line over in the device tree, and only beside a kernel; TF-A starts the one in memory.
        *("-bios", image.flash, "-kernel", image.kernel, "-append", boot),
        *("-device", f"loader,file={_escaped(image.kernel)},addr={KERNEL_ADDRESS:#x},force-raw=on"),
        *("-device", f"loader,file={_escaped(initrd)},addr={INITRD_ADDRESS:#x},force-raw=on"),
        *("-chardev", f"file,id=normal,path={_escaped(folder / NORMAL_LOG)}", "-serial", "chardev:normal"),
        *("-chardev", f"file,id=secure,path={_escaped(folder / SECURE_LOG)}", "-serial", "chardev:secure"),
        *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        *("-drive", f"file={_escaped(folder / DISK)},format=raw,if=none,id=disk"),
        *("-device", "virtio-blk-pci,drive=disk"),
        *("-qmp", f"unix:{SOCKET},server=on,wait=off"),  # relative: a socket's address has room for 107 bytes
    ]


def find(folder: Path) -> int | None:
    """The id of the QEMU that runs in ``folder``, or None."""
    try:
        pid = int((folder / PID_FILE).read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    # The id may be another process's by now; an ended one, not yet reaped, has no command line.
    return pid if os.fsencode(folder / PID_FILE) in words else None


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _escaped(path: Path) -> str:
    """As a value among QEMU's comma-separated ones."""
    return str(path).replace(",", ",,")


def mode() -> str:
    """The mode of the machine, for records."""
    return " ".join((*MACHINE, *MODE))
