"""The suite's convolutions against ncnn's on the same emulated core: ``pytest tests/bench_board_ncnn.py -s``.

Brings Debian's Python for arm64 and the package index's wheels of ncnn and NumPy to the board (25 MB of downloads, kept
in the cache), gives both sides the same weights and images, compares both with PyTorch, and prints emulated times. One
thread, float32. ncnn chooses its algorithm by shape; with Winograd's it multiplies less often than there are
multiply-accumulates, which ours does not do, so it is shown with that and without.
"""

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from bench_board_kernels import IMAGE, LEAST_MACS, ROUNDS, layers_of, without_repetition
from darknetz_vgg7 import DarknetzVgg7
from kernel_program import Case, build_for_boards, read_answers

from device.cache import cache_root, made_once
from device.qemu.mirror import _isolated, mirror_address
from suite.graph.packing import unpack
from suite.graph.wire import Layout
from victims.task import build_model

NCNN = "1.0.20261020"
PYTHON = "3.13"
DEBS = (
    *(f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libc6", "libexpat1"),
    *("zlib1g", "libgcc-s1", "libstdc++6", "libgomp1", "libssl3t64", "libffi8", "libbz2-1.0", "liblzma5"),
)
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64")
ON_BOARD = "/tmp/ncnn"
TMP_LIB = "usr/lib/aarch64-linux-gnu"


def board_python() -> Path:
    """A folder that holds Python with ncnn and NumPy for the board; from the cache."""

    def make(folder: Path) -> None:
        run = lambda *command, **more: subprocess.run([*map(str, command)], check=True, **more)  # noqa: E731
        downloads = folder / "downloads"
        downloads.mkdir()
        platforms = [word for one in PLATFORMS for word in ("--platform", one)]
        pip = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", downloads)
        run(*pip, "--python-version", PYTHON, *platforms, f"ncnn=={NCNN}", "numpy")
        with _isolated(mirror_address()) as apt:
            run("apt-get", "-qq", "update", env=apt)
            run("apt-get", "-qq", "download", *DEBS, env=apt, cwd=downloads)
        for deb in downloads.glob("*.deb"):
            run("dpkg-deb", "-x", deb, folder / "root")
        for wheel in downloads.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(folder / "root" / "site")
        run("rm", "-rf", downloads, folder / "root/usr/share", folder / "root" / TMP_LIB / "gconv")

    return made_once(cache_root() / "build", f"board-python-ncnn-{NCNN}", make) / "root"


def packed(cases: list[Case]) -> bytes:
    """What is sent to the board: Python, the program and the cases, as a tar archive."""
    arrays = {}
    for number, case in enumerate(cases):
        a = case.attributes
        weight = unpack(case.arrays[1], (a[3], a[0], a[6], a[7]), Layout.PACKED8, 1)
        found = {"in": case.arrays[0], "weight": weight, "bias": case.arrays[2], "out": case.expected.numpy()}
        arrays |= {f"{number}.{what}": array for what, array in found.items()}
        arrays[f"{number}.geometry"] = np.array([a[8], a[10], a[15]])
    archive, stored = io.BytesIO(), io.BytesIO()
    np.savez(stored, **arrays)
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(board_python(), ".")
        tar.add(Path(__file__).with_name("on_board_ncnn.py"), "on_board_ncnn.py")
        info = tarfile.TarInfo("cases.npz")
        info.size = stored.tell()
        stored.seek(0)
        tar.addfile(info, stored)
    return archive.getvalue()


def test_convolutions_side_by_side(qemu_machine):
    models = {"alexnet": build_model("alexnet", IMAGE, 10), "vgg16": build_model("vgg16", IMAGE, 10)}
    found = [case for name, model in models.items() for case in layers_of(model, name, LEAST_MACS)]
    cases = without_repetition([c for c in layers_of(DarknetzVgg7(), "vgg7") + found if c.kind == "conv2d"])
    target = qemu_machine.target()
    target.put(build_for_boards(), "/tmp/run_kernels", 0o755)
    data = b"".join(case.pack(ROUNDS) for case in cases)
    done = subprocess.run(target.command("/tmp/run_kernels"), input=data, capture_output=True, timeout=300)
    ours = read_answers(done.stdout, cases)

    target.run(f"rm -rf {ON_BOARD} && mkdir {ON_BOARD} && cd {ON_BOARD} && tar xf -", 300, packed(cases))
    path = f"{ON_BOARD}/{TMP_LIB}:{ON_BOARD}/site/ncnn.libs:{ON_BOARD}/site/numpy.libs"
    python = f"{ON_BOARD}/{TMP_LIB}/ld-linux-aarch64.so.1 --library-path {path} {ON_BOARD}/usr/bin/python{PYTHON} -S"
    said = target.run(
        f"cd {ON_BOARD} && PYTHONHOME={ON_BOARD}/usr OMP_NUM_THREADS=1 {python} on_board_ncnn.py cases.npz {ROUNDS};"
        f" cd / && rm -rf {ON_BOARD}",
        540,
    )
    theirs = [json.loads(line) for line in said.splitlines()]
    assert len(theirs) == 2 * len(cases)
    print(f"\n{'':34}{'ours':>20}" + "".join(f"{way:>28}" for way in dict.fromkeys(one["way"] for one in theirs)))
    for number, (case, answer) in enumerate(zip(cases, ours, strict=True)):
        answer.check(case)
        row = f"{case.name:34}{answer.median_ns / 1e3:10.1f} us {answer.least_ns / case.macs:6.3f}"
        for one in (one for one in theirs if one["case"] == number):
            assert one["error"] < 1e-3, (case.name, one)
            ratio = one["median_ns"] / answer.median_ns
            row += f"{one['median_ns'] / 1e3:10.1f} us {one['least_ns'] / case.macs:6.3f} {ratio:7.2f}x"
        print(row)
