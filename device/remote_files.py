"""Agent and TA on a board that is reached by SSH: putting them there, and starting the agent if they are there."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from device.board import BoardError, BoardLost
from device.cache import sha256_of
from device.cross import TA_UUID, Agent
from device.ssh import SshTarget

TA_FOLDER = "/lib/optee_armtz"
"""Where tee-supplicant looks for TAs."""

TA_FILE = f"{TA_FOLDER}/{TA_UUID}.ta"

NOT_THERE = 97
"""What :func:`start_command` exits with when a file is missing, or another than it should be."""


def start_command(agent: Agent, ta: Path | None) -> str:
    """The shell command that becomes the agent, provided that it and the TA, if any, are there as they should be."""
    file = f'"$HOME"/{_agent_file(agent)}'
    wanted = [f"[ -x {file} ]"]
    if ta is not None:
        wanted.append(f'[ "$(sha256sum < {TA_FILE})" = "{sha256_of(ta)}  -" ]')
    return f"{{ {' && '.join(wanted)}; }} 2>/dev/null || exit {NOT_THERE}; exec {file}"


def put_files(target: SshTarget, agent: Agent, ta: Path | None) -> None:
    """Put agent and TA where they belong, and see that they arrived whole. Other versions of the agent are removed.

    Raises:
        BoardLost: the line broke.
        BoardError: a folder cannot be written, or a file arrived damaged.
    """
    folder, name = os.path.split(_agent_file(agent))
    others = f'for file in agent-*; do case "$file" in {name}*) ;; *) rm -f "$file";; esac; done'
    home = target.run(f"umask 077; mkdir -p {folder} && cd {folder} && {{ {others}; }} && pwd").strip()
    target.put(agent.file, f"{home}/{name}", 0o700)
    _check(target, f"{home}/{name}", agent.sha256)
    if ta is not None:
        _put_ta(target, ta, f"{home}/{ta.name}")


def _put_ta(target: SshTarget, ta: Path, aside: str) -> None:
    target.put(ta, aside, 0o644)
    put = f"mkdir -p {TA_FOLDER} && cp {shlex.quote(aside)} {TA_FILE}.new && mv -f {TA_FILE}.new {TA_FILE}"
    as_root = f'if [ "$(id -u)" = 0 ]; then {put}; else sudo -n sh -c {shlex.quote(put)}; fi'
    try:
        target.run(as_root)
    except BoardLost:
        raise
    except BoardError as error:
        raise BoardError(
            f"{error}; the TA goes into {TA_FOLDER}, which takes root: log in as root, or let {target.user!r} use"
            " sudo without a password"
        ) from error
    _check(target, TA_FILE, sha256_of(ta))


def _check(target: SshTarget, file: str, sha256: str) -> None:
    found = target.run(f"sha256sum < {shlex.quote(file)}").split()[0]
    if found != sha256:
        raise BoardError(f"{target}: {file} arrived damaged (SHA-256 {found}, expected {sha256})")


def _agent_file(agent: Agent) -> str:
    """Relative to the account's home; named by its content, so that what is there is what is wanted."""
    return f".cache/leakboard/agent-{agent.sha256[:24]}"
