"""The firmware: TF-A, which starts OP-TEE in the secure world and the Linux kernel, itself, in the normal one."""

from __future__ import annotations

import os
from pathlib import Path

from device.board import BoardError
from device.qemu.steps import clean_environment, run_logged

KERNEL_ADDRESS = 0x48000000
FIP_OFFSET = 0x40000
"""Where the platform's first stage looks for the package of the later ones, from the start of the flash."""

OPTIONS = (
    "PLAT=qemu",
    "DEBUG=0",
    "LOG_LEVEL=20",
    "SPD=opteed",
    "BL32_RAM_LOCATION=tdram",
    "QEMU_USE_GIC_DRIVER=QEMU_GICV3",
    "ARM_LINUX_KERNEL_AS_BL33=1",
    f"PRELOADED_BL33_BASE={KERNEL_ADDRESS:#x}",
    'BUILD_MESSAGE_TIMESTAMP="leakboard"',  # the same source gives the same firmware
)


def build_firmware(source: Path, optee: Path, out: Path, log: Path) -> None:
    """Compile TF-A's unpacked ``source`` around the OP-TEE binaries in ``optee`` into the flash image ``out``.

    Raises:
        BoardError: a part is missing, or the build fails; with what it said.
    """
    parts = {
        "BL32": optee / "tee-header_v2.bin",
        "BL32_EXTRA1": optee / "tee-pager_v2.bin",
        "BL32_EXTRA2": optee / "tee-pageable_v2.bin",
    }
    for part in parts.values():
        if not part.exists():
            raise BoardError(f"the package optee-os has no {part.name} for the platform {optee.name}")
    env = clean_environment()
    # GCC 12 takes an access to a fixed low address for one through a null pointer, and TF-A makes warnings errors.
    env["CFLAGS"] = "--param=min-pagesize=0"
    words = [f"{name}={part}" for name, part in parts.items()]
    run_logged(
        [
            "make",
            "-C",
            source,
            f"-j{os.cpu_count() or 1}",
            "CROSS_COMPILE=aarch64-linux-gnu-",
            *OPTIONS,
            *words,
            "bl1",
            "fip",
        ],
        "building TF-A",
        log,
        env=env,
    )
    made = source / "build/qemu/release"
    first, package = (made / "bl1.bin").read_bytes(), (made / "fip.bin").read_bytes()
    if len(first) > FIP_OFFSET:
        raise BoardError(f"TF-A's first stage has {len(first)} bytes: it runs into the rest of the flash")
    out.write_bytes(first.ljust(FIP_OFFSET, b"\0") + package)
