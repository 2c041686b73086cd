"""Reaching a board by the ``ssh`` program: commands, files, and a process whose stdin and stdout are ours."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from device.board import BoardError, BoardLost

DEFAULT_PORT = 22
SSH_CONFIG_ENV = "LEAKBOARD_SSH_CONFIG"
"""Names an ssh configuration file (``ssh -F``) for boards that need a jump host, a key of their own or the like."""

_ALWAYS = (
    "-T",
    "-o", "BatchMode=yes",
    "-o", "ConnectTimeout=15",
    "-o", "ServerAliveInterval=10",
    "-o", "ServerAliveCountMax=3",
    "-o", "LogLevel=ERROR",
    "-o", "ClearAllForwardings=yes",
)  # fmt: skip
_LOST = 255
"""What ``ssh`` exits with for an error of its own."""
_ADDRESS = re.compile(r"ssh://(?P<user>[^@/\s]+)@(?P<host>\[[0-9A-Fa-f:.]+\]|[^@/:\[\]\s]+)(?::(?P<port>[0-9]+))?/?")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_PUT_S = 120.0


@dataclass(frozen=True, slots=True)
class SshTarget:
    """An account on a board. ``options`` are further arguments of ``ssh``: ``("-i", key, "-o", "Name=value")``."""

    user: str
    host: str
    port: int = DEFAULT_PORT
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As it is written on the command line."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{self.user}@{host}:{self.port}"

    @property
    def slug(self) -> str:
        """A name fit for files and for ``-k``: ``ssh_pi_192_168_1_7_22``."""
        return "ssh_" + "_".join(re.sub(r"[^a-z0-9]+", "_", str(part).lower()).strip("_") for part in self._place)

    @property
    def _place(self) -> tuple[str, str, int]:
        return self.user, self.host, self.port

    def command(self, command: str) -> list[str]:
        """The local command line that runs ``command`` in the board's shell."""
        where = ["-p", str(self.port), "-l", self.user]
        return ["ssh", *_ALWAYS, *self.options, *where, "--", self.host, command]

    def run(self, command: str, timeout_s: float = 30.0, input: bytes | None = None) -> str:
        """Run a command in the board's shell and return what it wrote to stdout.

        Raises:
            BoardLost: the board cannot be reached, the line broke, or it took longer than ``timeout_s``.
            BoardError: the board lets nobody in, or the command failed; names it and what it said.
        """
        try:
            done = subprocess.run(self.command(command), input=input or b"", capture_output=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise BoardLost(
                f"{self}: no end of {_short(command)} after {timeout_s:g} s; does the board hang?"
            ) from None
        except OSError as error:
            raise _no_ssh(error) from error
        said = done.stderr.decode(errors="replace").strip()
        if done.returncode == _LOST:
            raise self.failure(said)
        if done.returncode:
            raise BoardError(f"{self}: {_short(command)} exited with {done.returncode}: {said or 'it said nothing'}")
        return done.stdout.decode(errors="replace")

    def popen(self, command: str, stderr: IO[bytes] | int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start a command on the board, its stdin and stdout connected to ours.

        Raises:
            BoardError: there is no ``ssh`` program.
        """
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(self.command(command), stdin=pipe, stdout=pipe, stderr=stderr)
        except OSError as error:
            raise _no_ssh(error) from error

    def put(self, local: Path, remote: str, mode: int = 0o644) -> None:
        """Copy a file to the board: written aside in the same folder, then renamed.

        Raises:
            BoardLost, BoardError: as :meth:`run`; also when ``local`` cannot be read.
        """
        try:
            data = local.read_bytes()
        except OSError as error:
            raise BoardError(f"cannot read {local}: {error.strerror}") from error
        to, aside = shlex.quote(remote), shlex.quote(f"{remote}.{secrets.token_hex(4)}.new")
        written = f"umask 077 && cat > {aside} && chmod {mode:o} {aside} && mv -f {aside} {to}"
        self.run(f"{{ {written}; }} || {{ rm -f {aside}; false; }}", _PUT_S, data)

    def failure(self, said: str) -> BoardError:
        """The error that ``ssh``'s own words on stderr stand for."""
        text = said.lower()
        last = said.splitlines()[-1] if said else "ssh said nothing"
        by_hand = f"ssh -p {self.port} {self.user}@{self.host}"
        if "host identification has changed" in text:
            return BoardError(
                f"{self}: the board's host key is not the one that is known; if the board was set up anew, forget the"
                f" old key (ssh-keygen -R '[{self.host}]:{self.port}') and connect once by hand: {by_hand}"
            )
        if "host key verification failed" in text:
            return BoardError(f"{self}: the board's host key is not known yet; connect once by hand: {by_hand}")
        if "permission denied" in text or "too many authentication failures" in text:
            return BoardError(
                f"{self}: the board lets {self.user!r} in with none of your keys ({last}); give it one:"
                f" ssh-copy-id -p {self.port} {self.user}@{self.host}, or name a configuration in {SSH_CONFIG_ENV}"
            )
        if "bad configuration" in text or "can't open user config file" in text:
            return BoardError(f"{self}: ssh's configuration is wrong: {last}")
        unreachable = ("refused", "resolve hostname", "no route", "unreachable", "timed out", "banner exchange")
        if any(word in text for word in unreachable):
            return BoardLost(f"{self}: cannot be reached: {last}; is the board on, and is this its address?")
        return BoardLost(f"{self}: the line to the board broke: {last}")


def parse_target(text: str) -> SshTarget:
    """Read ``ssh://user@host[:port]``; the host may be an IPv6 address in brackets.

    Raises:
        BoardError: it is not written so, or user, host or port cannot be one.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise BoardError(f"cannot read board {text!r}: write ssh://user@host or ssh://user@host:port")
    user, host, port = found["user"], found["host"], int(found["port"] or DEFAULT_PORT)
    if host.startswith("["):
        host = host[1:-1]
        if ":" not in host:
            raise BoardError(f"board {text!r}: {host!r} in brackets is no IPv6 address")
    elif not _NAME.fullmatch(host):
        raise BoardError(f"board {text!r}: {host!r} cannot be a host's name")
    if not _NAME.fullmatch(user):
        raise BoardError(f"board {text!r}: {user!r} cannot be a user's name")
    if not 0 < port < 65536:
        raise BoardError(f"board {text!r}: a port is a number from 1 to 65535, not {port}")
    config = os.environ.get(SSH_CONFIG_ENV)
    return SshTarget(user, host, port, ("-F", config) if config else ())


def _short(command: str) -> str:
    return repr(command if len(command) <= 60 else f"{command[:57]}...")


def _no_ssh(error: OSError) -> BoardError:
    return BoardError(f"cannot run the ssh program: {error.strerror}; install it: apt-get install openssh-client")
