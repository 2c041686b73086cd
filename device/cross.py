"""Compiling agent and TA for Armv8 boards, each once per content of its sources, compiler and kit.

The agent is one static program that needs nothing of the board but Linux and its TEE driver, so one build runs on every
board. The TA belongs to the OP-TEE that its dev kit comes from, and is built for a size of its heap.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from device.board import BoardError
from device.build import ROOT, WARNINGS, part_sources
from device.cache import cache_root, content_key, made_once, sha256_of
from device.qemu.host import PYTHON
from device.qemu.steps import clean_environment, output, run_logged
from device.slice_cipher import build_library

PREFIX_ENV = "CROSS_COMPILE"
DEFAULT_PREFIX = "aarch64-linux-gnu-"
FLAGS = ["-std=c11", "-O3", "-mcpu=cortex-a53", "-ffp-contract=fast", "-g", *WARNINGS]
"""The kernels' flags are those of ``ta/sub.mk``; Linux lets unaligned vectors be loaded anyway."""

INCLUDES = (
    "ta/include",
    "ta/kernels",
    "ta/runtime",
    "ta/streaming",
    "device/emu/include",
    "device/emu/pta",
    "device/agent",
)
CLIENT = ("device/emu/client/client_api.c", "device/driver/world.c")
"""The GlobalPlatform TEE Client API, over the TEE driver."""
AGENT_PARTS = ("agent", "runtime", "kernels")

TA_UUID = "6c62a1d0-3f5e-4c1b-9a7d-2e8451b70c39"
TA_STACK_BYTES = 64 * 1024
TA_STATIC_BYTES = 5 * 1024
"""Of a TA beside its heap, as the memory planner counts it (``suite/graph/planner.py``)."""
PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent for Armv8 Linux: its file, the compiler's first line of ``--version``, and the flags."""

    file: Path
    compiler: str
    flags: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Of the file, in hex."""
        return sha256_of(self.file)


def heap_bytes(tee_limit_bytes: int) -> int:
    """The heap of a TA that shall not hold more than ``tee_limit_bytes``, stack and static data included; whole pages.

    Raises:
        BoardError: nothing would be left.
    """
    heap = (tee_limit_bytes - TA_STACK_BYTES - TA_STATIC_BYTES) // PAGE_BYTES * PAGE_BYTES
    if heap < 16 * PAGE_BYTES:
        raise BoardError(f"a TEE memory limit of {tee_limit_bytes} bytes leaves the TA no heap: 256 KiB is little")
    return heap


def limit_bytes(heap: int) -> int:
    """The other way round: what a TA with so much heap may hold."""
    return heap + TA_STACK_BYTES + TA_STATIC_BYTES


def build_agent() -> Agent:
    """The agent, statically linked; from the cache where its sources have not changed.

    Raises:
        BoardError: there is no cross compiler, or it rejects a source; says what to install, or what it said.
    """
    return Agent(build_program("agent", agent_sources()), compiler_version(), tuple(FLAGS))


def agent_sources() -> list[Path]:
    """Every C file of the agent."""
    return [file for part in AGENT_PARTS for file in part_sources(part)] + client_sources()


def client_sources() -> list[Path]:
    """The C files that a program needs in order to call the TEE."""
    return [ROOT / name for name in CLIENT]


def build_program(name: str, files: Sequence[Path], flags: Sequence[str] = ()) -> Path:
    """Compile and link a static program for Armv8 Linux, with ``flags`` after the usual ones; in the cache.

    Raises:
        BoardError: as :func:`build_agent`.
    """
    compiler = [f"{prefix()}gcc", *FLAGS, *flags, *(f"-I{ROOT / folder}" for folder in INCLUDES)]
    key = _key([name, compiler_version(), *compiler], [*files, *_headers()])

    def make(folder: Path) -> None:
        objects = []
        for number, file in enumerate(files):
            objects.append(str(folder / f"{number}-{file.stem}.o"))
            run_logged([*compiler, "-c", file, "-o", objects[-1]], f"compiling {file.name}", folder / "log")
        run_logged([*compiler, "-static", *objects, "-o", folder / name], f"linking {name}", folder / "log")
        for one in objects:
            os.unlink(one)

    return made_once(_cache(), f"arm64-{key[:32]}", make) / name


def build_ta(dev_kit: Path, heap: int) -> Path:
    """The signed TA, ``<uuid>.ta``, for the OP-TEE of ``dev_kit``, with ``heap`` bytes of heap; from the cache.

    Raises:
        BoardError: as :func:`build_agent`; also when ``dev_kit`` is no TA dev kit.
    """
    if not (dev_kit / "mk" / "ta_dev_kit.mk").is_file():
        raise BoardError(f"{dev_kit} is no TA dev kit of OP-TEE: it has no mk/ta_dev_kit.mk")
    dev_kit = dev_kit.resolve()
    cipher = build_library(prefix())
    settings = [f"LB_TA_DATA_SIZE={heap}", f"LB_TA_STACK_SIZE={TA_STACK_BYTES}", "CFG_WERROR=y"]
    made_of = sorted(file for name in ("*.c", "*.h", "*.mk", "Makefile") for file in (ROOT / "ta").rglob(name))
    key = _key([compiler_version(), _kit_digest(dev_kit), cipher.name, *settings], made_of)

    def make(folder: Path) -> None:
        given = [f"{PREFIX_ENV}={prefix()}", f"PYTHON3={PYTHON}", f"TA_DEV_KIT_DIR={dev_kit}", f"O={folder}/objects"]
        given.append(f"LB_SLICE_CIPHER={cipher}")
        command = ["make", "-s", "-C", str(ROOT / "ta"), *given, *settings, "all"]
        run_logged(command, "compiling the TA", folder / "log", env=clean_environment())
        os.replace(folder / "objects" / f"{TA_UUID}.ta", folder / f"{TA_UUID}.ta")
        shutil.rmtree(folder / "objects")

    return made_once(_cache(), f"ta-{key[:32]}", make) / f"{TA_UUID}.ta"


def prefix() -> str:
    """What the cross compiler's programs begin with: ``CROSS_COMPILE``, or Debian's.

    Raises:
        BoardError: there is no such compiler.
    """
    found = os.environ.get(PREFIX_ENV, "") or DEFAULT_PREFIX
    if shutil.which(f"{found}gcc") is None:
        install = "install it: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
        way_out = f"{PREFIX_ENV} names it" if os.environ.get(PREFIX_ENV) else install
        raise BoardError(f"no compiler for Armv8 boards: {found}gcc is not on the PATH ({way_out})")
    return found


@functools.cache
def compiler_version() -> str:
    """The first line of the cross compiler's ``--version``."""
    return output([f"{prefix()}gcc", "--version"], "the cross compiler's version").splitlines()[0]


@functools.cache
def _kit_digest(dev_kit: Path) -> str:
    """Of all that a TA dev kit consists of."""
    return content_key([], sorted(file for file in dev_kit.rglob("*") if file.is_file()), dev_kit)


def _headers() -> list[Path]:
    return sorted(file for top in ("ta", "device") for file in (ROOT / top).rglob("*.h"))


def _key(parts: Iterable[str], files: Iterable[Path]) -> str:
    return content_key(parts, [Path(__file__), *files], ROOT)


def _cache() -> Path:
    return cache_root() / "build"
