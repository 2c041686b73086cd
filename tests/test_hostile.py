"""A normal world that breaks every rule, against the emulated secure world and against OP-TEE itself."""

import os
import re
import shlex
import subprocess

import hostile
import pytest

from device.build import build
from device.emulated import EmulatedBoard
from device.qemu.board import TEE_LIMIT_BYTES
from device.remote import RemoteBoard

THOROUGHNESS = int(os.environ.get("LEAKBOARD_HOSTILE", "1"))
"""Rounds of what takes OP-TEE long, as a multiple of what every change is checked with."""


def check(said: str, status: int) -> None:
    held = re.findall(r"^held: (.*) \(", said, re.MULTILINE)
    assert status == 0, said
    assert held == list(hostile.GROUPS), said


@pytest.mark.parametrize("sanitize", [False, True], ids=["plain", "sanitized"])
def test_the_emulated_secure_world_holds(tmp_path, sanitize):
    storage, config = tmp_path / "storage", tmp_path / "config"
    storage.mkdir()
    config.write_text(f"tee_limit_bytes={TEE_LIMIT_BYTES}\nstorage={storage}\n")
    key = EmulatedBoard(sanitize=sanitize, storage=storage).device_key()
    hostile.write_material(tmp_path / "material", key)
    program = hostile.build_for_host(sanitize=sanitize)
    with config.open("rb") as opened:
        environment = {
            **os.environ,
            "LEAKBOARD_EMU_CONFIG_FD": str(opened.fileno()),
            "LEAKBOARD_EMU_SECURE_WORLD": str(build(sanitize=sanitize).secure_world),
        }
        done = subprocess.run(
            [program, "attack", tmp_path / "material"],
            env=environment,
            pass_fds=(opened.fileno(),),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    check(done.stdout + done.stderr, done.returncode)


def test_op_tee_holds(tmp_path, qemu_machine):
    target = qemu_machine.target()
    board = RemoteBoard(target, TEE_LIMIT_BYTES, dev_kit=qemu_machine.image.dev_kit)
    key = board.device_key()  # which also puts the TA there
    hostile.write_material(tmp_path / "material", key)
    program = hostile.build_for_board()
    folder = target.run("mktemp -d").strip()
    try:
        for file in (program, *sorted((tmp_path / "material").iterdir())):
            target.put(file, f"{folder}/{file.name}", 0o755)
        before = target.run("dmesg | wc -l").strip()
        command = f"{folder}/{program.name}"
        assert target.run(f"{command} key").strip() == key.hex()
        attack = f"echo $$ > {folder}/pid; exec {command} attack {folder} {THOROUGHNESS} 2>&1"
        said = target.run(f"sh -c {shlex.quote(attack)}; echo status $?", 400.0 * THOROUGHNESS)
        check(said, int(said.split()[-1]))
        kernel = target.run(f"dmesg | tail -n +{int(before) + 1}")
        assert not re.search(r"Oops|BUG|Unable to handle|Call trace|WARNING", kernel), kernel
    finally:
        target.run(f"kill -9 $(cat {folder}/pid) 2>/dev/null; rm -rf {folder}")
    assert board.device_key() == key
