"""Compiling the C side for this machine, once per content of its sources.

A build is a folder of the cache whose name is a hash over every C source and header, the compiler and the
flags, so that a stale one is never used. It is made aside and moved into place under a lock: pytest-xdist
workers build once.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from device.board import BoardError
from device.cache import cache_root, content_key, made_once

ROOT = Path(__file__).resolve().parent.parent

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wshadow",
    "-Wcast-align",
    "-Wcast-qual",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Werror",
    "-Wno-psabi",
]
"""``-Wno-psabi``: GCC's remark on how 32-byte vectors are passed between functions; none is."""

FLAGS = ["-std=c11", "-march=native", "-ffp-contract=fast", "-g", "-fPIC", *WARNINGS]
FAST = ["-O3"]
SANITIZED = [
    "-O1",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined,float-cast-overflow",
    "-fno-sanitize-recover=all",
    "-DEMU_SANITIZED",
    "-DEMU_EXTRA_STACK=4194304",
]

INCLUDES = (
    *("ta/include", "ta/kernels", "ta/runtime", "ta/streaming", "ta"),
    *("device/emu/include", "device/emu/pta", "device/agent"),
)

PARTS = {
    "kernels": "ta/kernels",
    "runtime": "ta/runtime",
    "streaming": "ta/streaming",
    "ta": "ta",
    "secure": "device/emu/secure",
    "start": "device/emu/start",
    "client": "device/emu/client",
    "agent": "device/agent",
}
"""Folders whose ``.c`` files make up each part, without sub-folders."""

PROGRAMS = {
    "agent": ("agent", "client", "runtime", "kernels"),
    "secure_world": ("start", "secure", "ta", "streaming", "runtime", "kernels"),
}


@dataclass(frozen=True, slots=True)
class Build:
    """A finished build. ``kernels`` is a shared library of kernels and runtime, None when sanitized."""

    key: str
    folder: Path
    agent: Path
    secure_world: Path
    kernels: Path | None
    compiler: str
    flags: tuple[str, ...]


@functools.cache
def build(*, sanitize: bool = False) -> Build:
    """Agent, secure world and kernels for this machine; from the cache where their sources have not changed.

    Args:
        sanitize: with AddressSanitizer and UndefinedBehaviorSanitizer, for tests; slow.

    Raises:
        BoardError: there is no C compiler, or it rejects a source; says what to install, or what it said.
    """
    compiler = find_compiler()
    flags = (*FLAGS, *(SANITIZED if sanitize else FAST))
    key = _key(compiler, flags, sources())
    folder = _cached(key, lambda scratch: _build_all(compiler, flags, sanitize, scratch))
    kernels = None if sanitize else folder / "libkernels.so"
    version = compiler_version(tuple(compiler))
    return Build(key, folder, folder / "agent", folder / "secure_world", kernels, version, flags)


def build_program(source: Path, parts: Sequence[str], *, more: Sequence[Path] = (), sanitize: bool = False) -> Path:
    """Compile a test program ``source`` with ``more`` and ``parts`` of the C side; an executable in the cache.

    Raises:
        BoardError: as :func:`build`.
    """
    made = build(sanitize=sanitize)
    compiler = find_compiler()
    texts = [file.read_text() for file in (source, *more, *sorted(source.parent.glob("*.h")))]
    key = hashlib.sha256("\0".join([made.key, *parts, source.name, *texts]).encode()).hexdigest()

    def make(folder: Path) -> None:
        linked = [str(made.folder / "objects" / _object(part, file)) for part in parts for file in part_sources(part)]
        includes = [f"-I{ROOT / include}" for include in INCLUDES]
        out = str(folder / source.stem)
        files = [str(source), *map(str, more), *linked]
        _run([*compiler, *made.flags, *includes, *files, "-pthread", "-ldl", "-o", out], source.name)

    return _cached(key, make) / source.stem


def find_compiler() -> list[str]:
    """The command of the C compiler: ``CC``, or ``cc``.

    Raises:
        BoardError: there is none.
    """
    command = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(command[0]) is None:
        hint = "CC names it" if os.environ.get("CC") else "install gcc: apt-get install gcc libc6-dev"
        raise BoardError(f"no C compiler: {command[0]!r} is not on the PATH ({hint})")
    return command


@functools.cache
def compiler_version(compiler: tuple[str, ...]) -> str:
    """The first line of the compiler's ``--version``."""
    return _run([*compiler, "--version"], "the compiler's version").splitlines()[0]


def cpu() -> tuple[str, str]:
    """Model name and feature flags of this machine's CPU, as far as the system tells."""
    found = {"model name": platform.machine(), "flags": "", "Features": ""}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in found:
                found[name.strip()] = value.strip()
    except OSError:
        pass
    return found["model name"], found["flags"] or found["Features"]


def part_sources(part: str) -> list[Path]:
    """The C files of one of ``PARTS``."""
    return sorted((ROOT / PARTS[part]).glob("*.c"))


def sources() -> list[Path]:
    """Every C source and header that a build can depend on."""
    return sorted(file for top in ("ta", "device") for ext in ("c", "h") for file in (ROOT / top).rglob(f"*.{ext}"))


def _key(compiler: Sequence[str], flags: Iterable[str], files: Iterable[Path]) -> str:
    parts = (*compiler, compiler_version(tuple(compiler)), *flags, *cpu(), *PARTS.values(), *INCLUDES)
    return content_key(parts, [Path(__file__), *files], ROOT)  # this file says what is built, and where it lies


def _cached(key: str, make: Callable[[Path], None]) -> Path:
    """The folder of ``key``, which ``make`` fills when it does not exist yet."""
    return made_once(cache_root() / "build", key[:32], make)


def _object(part: str, file: Path) -> str:
    return f"{part}-{file.stem}.o"


def _build_all(compiler: Sequence[str], flags: Sequence[str], sanitize: bool, folder: Path) -> None:
    objects = folder / "objects"
    objects.mkdir()
    includes = [f"-I{ROOT / include}" for include in INCLUDES]

    def compile_one(part: str, file: Path) -> None:
        out = str(objects / _object(part, file))
        _run([*compiler, *flags, *includes, "-c", str(file), "-o", out], file.name)

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        jobs = [pool.submit(compile_one, part, file) for part in PARTS for file in part_sources(part)]
        for job in jobs:
            job.result()

    def of(parts: Iterable[str]) -> list[str]:
        return [str(objects / _object(part, file)) for part in parts for file in part_sources(part)]

    for program, parts in PROGRAMS.items():
        extra = ["-pthread", "-ldl"] if program == "secure_world" else []
        _run([*compiler, *flags, *of(parts), *extra, "-o", str(folder / program)], program)
    if not sanitize:
        library = str(folder / "libkernels.so")
        _run([*compiler, *flags, "-shared", *of(("kernels", "runtime")), "-o", library], "libkernels.so")


def _run(command: Sequence[str], what: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise BoardError(f"cannot run the C compiler {command[0]!r}: {error}") from error
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[:20])
        raise BoardError(f"compiling {what} failed ({' '.join(command[:1])} exits {done.returncode}):\n{said}")
    return done.stdout
