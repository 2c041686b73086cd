"""The board's disk: where the secure world keeps, encrypted, what must outlive a reboot."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from device.qemu.host import find_program
from device.qemu.steps import output

SIZE_MIB = 64
_JOURNAL_MIB = 8


def make_disk(path: Path) -> None:
    """Make an empty disk at ``path``, aside, replacing what is there.

    Raises:
        BoardError: ``mke2fs`` is missing or fails.
        OSError: the file cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="new-") as aside:
        new = Path(aside) / "disk"
        with new.open("wb") as file:
            file.truncate(SIZE_MIB << 20)  # sparse: takes what is written
        options = ["-q", "-F", "-t", "ext4", "-m", "0", "-J", f"size={_JOURNAL_MIB}", "-E", "root_owner=0:0"]
        output([find_program("mke2fs"), *options, new], "making the board's disk")
        os.replace(new, path)
