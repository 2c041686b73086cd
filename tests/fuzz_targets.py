"""The fuzz targets of tests/c/fuzz, and how clang builds each with libFuzzer and the sanitizers."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from device.board import BoardError
from device.build import INCLUDES, ROOT, WARNINGS, part_sources, sources
from device.cache import cache_root, made_once

FOLDER = ROOT / "tests" / "c" / "fuzz"
CORPUS = FOLDER / "corpus"
FLAGS = [
    "-std=c11",
    "-march=native",
    "-ffp-contract=fast",
    "-O2",
    "-g",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined,float-cast-overflow",
    "-fno-sanitize-recover=all",
]


@dataclass(frozen=True, slots=True)
class Target:
    """One fuzz target.

    Attributes:
        harness: files of tests/c/fuzz, the target's own first.
        parts: of ``device.build.PARTS``, with the further flags of each.
        files: further C files of the project, with their further flags.
        max_bytes: of an input.
    """

    name: str
    harness: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...]]
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    max_bytes: int = 4096

    @property
    def corpus(self) -> Path:
        """The committed corpus."""
        return CORPUS / self.name

    @property
    def dictionary(self) -> Path:
        """Words that inputs are made of; need not exist."""
        return FOLDER / f"{self.name}.dict"

    def project_files(self) -> list[tuple[Path, tuple[str, ...]]]:
        """The C files that are fuzzed, with their further flags."""
        files = [(file, flags) for part, flags in self.parts.items() for file in part_sources(part)]
        return files + [(ROOT / name, flags) for name, flags in self.files.items()]


BOUNDED = (
    *("-Dlb_segment_run=fuzz_segment_run", "-Dlb_cursor_advance=fuzz_cursor_advance"),
    *("-Dlb_train_plan=fuzz_train_plan", "-Dlb_train_forward=fuzz_train_forward"),
    "-Dlb_train_backward=fuzz_train_backward",
)
"""Code that runs models runs only those that take little time."""

TA = (*BOUNDED, "-Dlb_p256_is_point=fuzz_is_point")
UNGUIDED = frozenset({"p256_point.c"})
"""Long arithmetic without branches that an input could choose: counting them only makes it forty times as slow."""

AGENT = (*BOUNDED, "-Dmain=agent_main", "-Dread=fuzz_read", "-Dwritev=fuzz_writev", "-Dsignal=fuzz_signal")
RUNTIME: dict[str, tuple[str, ...]] = {"runtime": (), "kernels": ()}
TEE_FILES: dict[str, tuple[str, ...]] = {
    "device/emu/secure/core_api.c": ("-DTEE_Panic=core_api_panic",),  # whose own ends the process as if all was well
    "device/emu/secure/memory.c": (),
}
MODEL_HARNESS = ("fuzz.c", "fuzz_run.c", "fuzz_train.c")
TEE_HARNESS = ("fuzz_tee.c", "fuzz_storage.c", *MODEL_HARNESS)

TARGETS = {
    target.name: target
    for target in (
        Target("model", ("fuzz_model.c", *MODEL_HARNESS), RUNTIME),
        Target("graph", ("fuzz_graph.c", *MODEL_HARNESS), RUNTIME, max_bytes=256),
        Target("sealed", ("fuzz_sealed.c", "fuzz.c"), RUNTIME, max_bytes=1024),
        Target("ta", ("fuzz_ta.c", *TEE_HARNESS), {"ta": TA, "streaming": (), **RUNTIME}, TEE_FILES, max_bytes=8192),
        Target(
            "agent",
            ("fuzz_agent.c", "fuzz_world.c", *TEE_HARNESS),
            {"agent": AGENT, "ta": TA, "streaming": (), **RUNTIME},
            {"device/emu/client/client_api.c": (), "device/emu/secure/memory_pta.c": (), **TEE_FILES},
            max_bytes=16384,
        ),
    )
}


def find_clang() -> str | None:
    """A clang that has libFuzzer, by name or by number; None when there is none."""
    for name in ("clang", *(f"clang-{version}" for version in range(25, 11, -1))):
        path = shutil.which(name)
        if path and _has_fuzzer(path):
            return path
    return None


def _has_fuzzer(clang: str) -> bool:
    runtime = subprocess.run([clang, "-print-runtime-dir"], capture_output=True, text=True, check=False)
    resources = subprocess.run([clang, "-print-resource-dir"], capture_output=True, text=True, check=False)
    folders = [Path(runtime.stdout.strip()), Path(resources.stdout.strip()) / "lib" / "linux"]
    return any(any(folder.glob("libclang_rt.fuzzer*.a")) for folder in folders if folder.name)


def build(target: Target) -> Path:
    """The target's program, from the cache when no source has changed.

    Raises:
        BoardError: there is no clang with libFuzzer, or it rejects a source; says what to install, or what it said.
    """
    clang = find_clang()
    if clang is None:
        raise BoardError("no clang with libFuzzer: apt-get install clang libclang-rt-14-dev")
    version = subprocess.run([clang, "--version"], capture_output=True, text=True, check=True).stdout
    digest = hashlib.sha256("\0".join([version, repr(target), *FLAGS, *WARNINGS, *INCLUDES]).encode())
    for file in [*sources(), *sorted(FOLDER.glob("*.[ch]"))]:
        digest.update(f"\0{file.relative_to(ROOT)}\0".encode() + file.read_bytes())

    def make(folder: Path) -> None:
        includes = [f"-I{ROOT / include}" for include in (*INCLUDES, "device/emu/secure", "device/emu/client")]
        # Of the harness only the target itself guides the fuzzer.
        guided = ("-fsanitize=fuzzer-no-link",)
        project = [
            (file, flags if file.name in UNGUIDED else (*guided, *flags)) for file, flags in target.project_files()
        ]
        own = [*WARNINGS, f"-I{FOLDER}"]
        harness = [(FOLDER / name, (*own, *(guided if name == target.harness[0] else ()))) for name in target.harness]
        objects = []
        commands = []
        for file, flags in [*project, *harness]:
            objects.append(str(folder / f"{file.parent.name}-{file.stem}.o"))
            commands.append([clang, *FLAGS, *includes, *flags, "-c", str(file), "-o", objects[-1]])
        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(_compile, commands))
        link = [clang, *FLAGS, "-fsanitize=fuzzer", *objects]
        _compile([*link, "-o", str(folder / target.name)])

    return made_once(cache_root() / "fuzz", f"{target.name}-{digest.hexdigest()[:24]}", make) / target.name


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[:20])
        raise BoardError(f"{' '.join(command)}\nfailed:\n{said}")
