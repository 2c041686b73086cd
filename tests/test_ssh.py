"""SSH targets: how they are written, and what each failure of ``ssh`` means for the user."""

import os
import stat
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.board import BoardError, BoardLost
from device.ssh import SshTarget, parse_target

TARGET = SshTarget("pi", "192.168.1.7", 2222)

names = st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,20}", fullmatch=True)
ports = st.integers(1, 65535)


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """A program ``ssh`` that does what the test writes in Python, and keeps its arguments in ``arguments``."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def install(body):
        program = folder / "ssh"
        program.write_text(
            f"#!{sys.executable}\nimport sys, os, time\n"
            f"open({str(tmp_path / 'arguments')!r}, 'w').write('\\n'.join(sys.argv[1:]))\n{textwrap.dedent(body)}"
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return install


def fails_with(said):
    return f"sys.stderr.write({said!r}); sys.exit(255)"


@given(names, names, ports)
def test_what_is_written_is_read(user, host, port):
    target = parse_target(f"ssh://{user}@{host}:{port}")
    assert (target.user, target.host, target.port) == (user, host, port)
    assert parse_target(str(target)) == target
    assert parse_target(f"ssh://{user}@{host}").port == 22


@given(st.ip_addresses(v=6), ports)
def test_ipv6_goes_into_brackets(address, port):
    target = parse_target(f"ssh://root@[{address}]:{port}")
    assert (target.host, target.port) == (str(address), port)
    assert parse_target(str(target)) == target


@given(st.text(max_size=30))
def test_anything_else_is_refused_or_harmless(text):
    try:
        target = parse_target(f"ssh://{text}")
    except BoardError:
        return
    assert not target.user.startswith("-")
    assert not target.host.startswith("-")
    assert target.host == target.host.strip()
    words = target.command("true")
    assert words[-3:] == ["--", target.host, "true"]


@pytest.mark.parametrize(
    "text",
    [
        "ssh://-oProxyCommand=x@host",
        "ssh://user@-oProxyCommand=x",
        "ssh://user@host:0",
        "ssh://user@host:65536",
        "ssh://user@host:22x",
        "ssh://user@[host]",
        "ssh://user@[1:2:3",
        "ssh://host",
        "ssh://a@b@c",
        "ssh://user@host/folder",
        "ssh://user@ho st",
        "ssh://us er@host",
        "ssh://user@host\n",
        "ssh://us;er@host",
        "ssh://$(id)@host",
        "ssh://",
    ],
)
def test_what_could_be_an_option_or_is_no_address_is_refused(text):
    with pytest.raises(BoardError, match="board"):
        parse_target(text)


@given(names, names, ports)
def test_slugs_are_fit_for_files_and_for_selecting(user, host, port):
    slug = SshTarget(user, host, port).slug
    assert slug.replace("_", "").isalnum()
    assert slug == slug.lower()


def test_slug_of_an_address():
    assert parse_target("ssh://pi@192.168.1.7").slug == "ssh_pi_192_168_1_7_22"
    assert parse_target("ssh://Pi@[fe80::1]:2222").slug == "ssh_pi_fe80_1_2222"


def test_a_configuration_of_ones_own(monkeypatch):
    monkeypatch.setenv("LEAKBOARD_SSH_CONFIG", "/home/me/board.conf")
    command = parse_target("ssh://pi@host").command("true")
    assert command[command.index("-F") + 1] == "/home/me/board.conf"


def test_a_command_and_its_input(ssh, tmp_path):
    ssh("sys.stdout.write(sys.argv[-1] + ':' + sys.stdin.read())")
    assert TARGET.run("cat", input=b"abc") == "cat:abc"
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[-7:] == ["-p", "2222", "-l", "pi", "--", "192.168.1.7", "cat"]
    assert "BatchMode=yes" in arguments  # never asks for a password


def test_a_command_that_fails_is_named_with_what_it_said(ssh):
    ssh("sys.stderr.write('no such thing'); sys.exit(3)")
    with pytest.raises(
        BoardError, match=r"ssh://pi@192\.168\.1\.7:2222: 'ls x' exited with 3: no such thing"
    ) as caught:
        TARGET.run("ls x")
    assert not isinstance(caught.value, BoardLost)


@pytest.mark.parametrize(
    ("said", "lost", "words"),
    [
        ("ssh: connect to host 192.168.1.7 port 2222: Connection refused", True, "cannot be reached"),
        ("ssh: connect to host 192.168.1.7 port 2222: No route to host", True, "cannot be reached"),
        ("ssh: Could not resolve hostname nobody: Name or service not known", True, "is this its address"),
        ("Connection timed out during banner exchange", True, "cannot be reached"),
        ("pi@192.168.1.7: Permission denied (publickey).", False, "ssh-copy-id -p 2222 pi@192.168.1.7"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", False, "ssh-keygen -R"),
        ("Host key verification failed.", False, "connect once by hand: ssh -p 2222 pi@192.168.1.7"),
        ("Connection to 192.168.1.7 closed by remote host.", True, "the line to the board broke"),
        ("client_loop: send disconnect: Broken pipe", True, "the line to the board broke"),
        ("Timeout, server 192.168.1.7 not responding.", True, "the line to the board broke"),
        ("", True, "ssh said nothing"),
        ("Can't open user config file x: No such file or directory", False, "configuration is wrong"),
    ],
)
def test_what_ssh_says_becomes_an_error_with_a_way_out(ssh, said, lost, words):
    ssh(fails_with(said))
    with pytest.raises(BoardError) as caught:
        TARGET.run("true")
    assert isinstance(caught.value, BoardLost) is lost
    assert "ssh://pi@192.168.1.7:2222" in str(caught.value)
    assert words in str(caught.value)


def test_a_command_that_never_ends(ssh):
    ssh("time.sleep(60)")
    with pytest.raises(BoardLost, match=r"no end of 'true' after 0\.5 s"):
        TARGET.run("true", timeout_s=0.5)


def test_no_ssh_program(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    for call in (lambda: TARGET.run("true"), lambda: TARGET.popen("true")):
        with pytest.raises(BoardError, match="apt-get install openssh-client"):
            call()


def test_a_file_is_written_aside_and_renamed(ssh, tmp_path):
    ssh("import subprocess\nsys.exit(subprocess.call(['sh', '-c', sys.argv[-1]]))")
    local, remote = tmp_path / "local", tmp_path / "it's here"
    local.write_bytes(bytes(range(256)) * 1000)
    remote.write_text("old")
    before = remote.stat().st_ino
    TARGET.put(local, str(remote), 0o750)
    assert remote.read_bytes() == local.read_bytes()
    assert remote.stat().st_ino != before
    assert stat.S_IMODE(remote.stat().st_mode) == 0o750
    assert sorted(p.name for p in tmp_path.iterdir()) == ["arguments", "bin", "it's here", "local"]


def test_a_file_that_cannot_be_written_or_read(ssh, tmp_path):
    ssh("import subprocess\nsys.exit(subprocess.call(['sh', '-c', sys.argv[-1]]))")
    local = tmp_path / "local"
    with pytest.raises(BoardError, match="cannot read"):
        TARGET.put(local, "/nowhere/x")
    local.write_text("x")
    with pytest.raises(BoardError, match="exited with"):
        TARGET.put(local, "/nowhere/x")
