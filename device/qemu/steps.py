"""Running the programs that a build is made of, each with a log, and ending all of them with it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from device.board import BoardError

TAIL_LINES = 20


def clean_environment() -> dict[str, str]:
    """What a build may know of the caller's environment: what it says of compilers and flags is for other programs."""
    return {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "PATH", "TMPDIR")}


def run_logged(
    command: Sequence[str | Path],
    what: str,
    log: Path,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run ``command`` to its end, everything it says into ``log``.

    Raises:
        BoardError: it fails; with the last lines of what it said.
    """
    words = [str(word) for word in command]
    with log.open("ab") as out:
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd, env=env, start_new_session=True
            )
        except OSError as error:
            raise BoardError(f"{what}: cannot run {words[0]}: {error.strerror}") from error
        try:
            status = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # a session of its own: make's children end with it
            process.wait()
            raise
    if status:
        raise BoardError(f"{what} failed ({Path(words[0]).name} exits {status}):\n{tail(log)}")


def output(
    command: Sequence[str | Path], what: str, *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """What ``command`` prints.

    Raises:
        BoardError: it fails; with what it said.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=cwd,
            env=env,
            check=False,
        )
    except OSError as error:
        raise BoardError(f"{what}: cannot run {words[0]}: {error.strerror}") from error
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-TAIL_LINES:])
        raise BoardError(f"{what} failed ({Path(words[0]).name} exits {done.returncode}):\n{said}")
    return done.stdout


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, "" when there is none."""
    try:
        text = log.read_bytes()[-65536:].decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.strip().splitlines()[-lines:])
