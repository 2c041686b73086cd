"""Building the QEMU board: pins, downloads, the archive of its root file system, and what is said when it fails."""

import hashlib
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.board import BoardError
from device.qemu import host, image, lock, mirror
from device.qemu.cpio import Archive
from device.qemu.keys import CLIENT_KEY, HOST_KEY, KNOWN_HOSTS, make_keys, overlay
from device.qemu.lock import Kind, Pin
from device.qemu.rootfs import depends
from suite.cli import main

needs_host = pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt-get: not a Debian machine")
NOBODY_LISTENS = "http://127.0.0.1:9/debian"


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pin_of(content: bytes, name: str = "thing", version: str = "1-1") -> Pin:
    digest = hashlib.sha256(content).hexdigest()
    return Pin(Kind.DEB, name, version, len(content), digest, f"pool/main/t/{name}_{version}_arm64.deb")


def served(folder: Path, pin: Pin, content: bytes) -> str:
    """A mirror in a folder of this machine that has one file."""
    (folder / pin.path).parent.mkdir(parents=True)
    (folder / pin.path).write_bytes(content)
    return f"file://{folder}"


# --- the lock ---


def test_the_committed_lock_pins_what_the_board_is_made_of():
    pins = lock.read()
    assert {pin.package for pin in pins} == {*mirror.DEBS, *mirror.SOURCES}
    versions = lock.versions(pins)
    assert all(versions[one] == versions[other] for one, other in mirror.SAME_VERSION)
    assert lock.LOCK.read_text() == lock.HEADER + "".join(f"{pin.line()}\n" for pin in pins)


NAMES = st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,20}", fullmatch=True)
PINS = st.builds(
    Pin,
    st.sampled_from(Kind),
    NAMES,
    st.from_regex(r"[A-Za-z0-9.+:~-]{1,20}", fullmatch=True),
    st.integers(0, 10**11),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    NAMES.map(lambda name: f"pool/main/x/{name}.deb"),
)


@given(st.lists(PINS, min_size=1, max_size=6, unique_by=(lambda pin: pin.package, lambda pin: pin.file)))
def test_what_is_written_is_read(pins):
    text = lock.HEADER + "".join(f"{pin.line()}\n" for pin in pins)
    assert lock.parse(text, "x") == tuple(pins)


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused_by_name(text):
    if any(line.strip() and not line.startswith("#") and lock._LINE.fullmatch(line) for line in text.split("\n")):
        return
    with pytest.raises(BoardError, match="some.lock.*board build --update"):
        lock.parse(text, "some.lock")


GOOD = pin_of(b"abc").line()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "pins no package"),
        ("deb optee-os 4.5.0-2\n", "line 1: expected"),
        (f"# x\n{GOOD} more\n", "line 2: expected"),
        (GOOD.replace("deb", "rpm", 1), "line 1: expected"),
        (GOOD.replace("pool/main/t", "pool/../../etc"), "line 1: expected"),
        (GOOD.replace("pool/", "/pool/"), "line 1: expected"),
        (f"{GOOD}\n{GOOD}\n", "line 2: thing_1-1_arm64.deb is pinned twice"),
        (f"{GOOD}\n{pin_of(b'x', version='2-1').line()}\n", "thing is pinned in two versions"),
    ],
)
def test_a_bad_lock_names_the_line(text, expected):
    with pytest.raises(BoardError, match="some.lock") as caught:
        lock.parse(text, "some.lock")
    assert expected in str(caught.value)


def test_a_lock_that_is_not_there(tmp_path):
    with pytest.raises(BoardError, match="cannot read .*none.lock"):
        lock.read(tmp_path / "none.lock")


# --- downloads ---


@needs_host
def test_a_file_is_fetched_once_and_checked_on_every_use(own_cache, tmp_path, monkeypatch):
    pin = pin_of(b"the package")
    monkeypatch.setenv(mirror.MIRROR_ENV, served(tmp_path / "mirror", pin, b"the package"))
    folder = image.downloaded([pin])
    assert (folder / pin.file).read_bytes() == b"the package"
    monkeypatch.setenv(mirror.MIRROR_ENV, NOBODY_LISTENS)
    image.downloaded([pin])
    (folder / pin.file).write_bytes(b"the_package")
    with pytest.raises(BoardError, match="delete it") as caught:
        image.downloaded([pin])
    for part in (str(folder / pin.file), pin.sha256, hashlib.sha256(b"the_package").hexdigest(), "thing 1-1"):
        assert part in str(caught.value)


@needs_host
def test_another_file_from_the_mirror_is_refused_and_not_kept(own_cache, tmp_path, monkeypatch):
    pin = pin_of(b"the package")
    monkeypatch.setenv(mirror.MIRROR_ENV, served(tmp_path / "mirror", pin, b"another"))
    with pytest.raises(BoardError, match=f"expected 11 bytes, SHA-256 {pin.sha256}, found 7 bytes"):
        image.downloaded([pin])
    assert not list((own_cache / "board/downloads").iterdir())


@needs_host
@pytest.mark.parametrize("action", ["build", "update"])
def test_no_network_is_said_with_a_way_out(own_cache, monkeypatch, capsys, action):
    monkeypatch.setenv(mirror.MIRROR_ENV, NOBODY_LISTENS)
    monkeypatch.setattr(image, "check_host", lambda: None)
    monkeypatch.setattr(image, "_name", lambda pins: "image-none")
    assert main(["board", "build", *(["--update"] if action == "update" else [])]) == 1
    said = capsys.readouterr().err
    assert "127.0.0.1:9" in said
    assert "Is there a network?" in said
    assert mirror.MIRROR_ENV in said
    assert not list(own_cache.glob("board/image-none"))


def test_a_version_that_is_gone_names_both_and_the_way_out(monkeypatch):
    monkeypatch.setattr(mirror, "offers", lambda: (pin_of(b"y", version="2-1"),))
    error = mirror._explain_gone([pin_of(b"x")], "http://mirror/debian")
    assert "no longer has thing 1-1" in str(error)
    assert "it has 2-1: leakboard board build --update" in str(error)


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        ("Debian-Security\thttp://a/debian-security/\nDebian\thttp://a/debian/\n", "http://a/debian"),
        ("\thttp://a/debian-security/\n\thttp://b/debian/\n", "http://b/debian"),
        ("Ubuntu\thttp://a/ubuntu/\n", None),
        ("", None),
    ],
)
def test_the_mirror_is_the_one_that_apt_uses(monkeypatch, listing, expected):
    monkeypatch.delenv(mirror.MIRROR_ENV, raising=False)
    monkeypatch.setattr(mirror, "output", lambda *_, **__: listing)
    if expected:
        assert mirror.mirror_address() == expected
    else:
        with pytest.raises(BoardError, match=f"no Debian mirror.*{mirror.MIRROR_ENV}"):
            mirror.mirror_address()


def test_control_files_are_read_with_their_continuations():
    text = "Package: a\nChecksums-Sha256:\n 12 3 a.dsc\n 45 6 a.tar.xz\nVersion: 1:2\n\nPackage: b\nVersion: 3\n"
    first, second = mirror._stanzas(text)
    assert first == {"Package": "a", "Checksums-Sha256": "\n 12 3 a.dsc\n 45 6 a.tar.xz", "Version": "1:2"}
    assert second["Package"] == "b"


# --- the host ---


@needs_host
def test_what_is_missing_is_one_apt_line(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_SEARCH", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in (*host.PROGRAMS, "apt-get"):
        if name not in ("qemu-system-aarch64", "mke2fs"):
            (tmp_path / name).touch(0o755)
    monkeypatch.setattr(host, "FILES", {tmp_path / "missing.h": "libssl-dev"})
    monkeypatch.setattr(host, "PYTHON", tmp_path / "no-python")
    with pytest.raises(BoardError, match="qemu-system-aarch64, mke2fs, .*missing.h") as caught:
        host.check_host()
    line = "apt-get install --no-install-recommends qemu-system-arm e2fsprogs libssl-dev python3-cryptography"
    assert str(caught.value).endswith(line)


def test_without_apt_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_SEARCH", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BoardError, match="this machine has none"):
        host.check_host()


# --- the archive ---


def test_an_archive_is_unpacked_as_it_was_made(tmp_path):
    if shutil.which("cpio") is None:
        pytest.skip("no cpio to unpack with: apt-get install cpio")
    archive = Archive()
    archive.file("usr/bin/program", b"\x7fELF" + bytes(5), 0o755)
    archive.file("etc/empty", b"", 0o600)
    archive.link("bin", "usr/bin")
    archive.folder("root", 0o700)
    content = archive.to_bytes()
    listing = subprocess.run(
        ["cpio", "-itv", "--quiet"], input=content, capture_output=True, check=True
    ).stdout.decode()
    assert all(line.split()[2:4] == ["root", "root"] for line in listing.splitlines())
    subprocess.run(
        ["cpio", "-id", "--quiet", "--no-preserve-owner"], input=content, cwd=tmp_path, capture_output=True, check=True
    )
    assert (tmp_path / "bin/program").read_bytes() == b"\x7fELF" + bytes(5)
    assert stat.S_IMODE((tmp_path / "usr/bin/program").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "root").stat().st_mode) == 0o700
    assert (tmp_path / "etc/empty").read_bytes() == b""
    assert len(list(tmp_path.rglob("*"))) == 7


@given(st.dictionaries(st.from_regex(r"[a-z]{1,9}(/[a-z]{1,9}){0,2}x", fullmatch=True), st.binary(max_size=9)))
def test_an_archive_is_aligned_and_has_parents_before_children(files):
    archive = Archive()
    for path, content in files.items():
        archive.file(f"top/{path}", content)
    content = archive.to_bytes()
    assert len(content) % 4 == 0
    names = []
    at = 0
    while at < len(content):
        assert content[at : at + 6] == b"070701"
        size, name_size = (int(content[at + 6 + 8 * field : at + 14 + 8 * field], 16) for field in (6, 11))
        names.append(content[at + 110 : at + 110 + name_size - 1].decode())
        body = (at + 110 + name_size + 3) // 4 * 4
        if names[-1].startswith("top/") and names[-1][4:] in files:
            assert content[body : body + size] == files[names[-1][4:]]
        at = (body + size + 3) // 4 * 4
    assert names.pop() == "TRAILER!!!"
    assert all(str(Path(name).parent) in (".", *names[:index]) for index, name in enumerate(names))
    assert {f"top/{path}" for path in files} <= set(names)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x"])
def test_an_archive_refuses_paths_that_lead_out(path):
    with pytest.raises(ValueError, match="no path inside"):
        Archive().file(path, b"")


def test_a_modules_dependencies_are_read_from_it():
    assert depends(b"\0\0license=GPL\0depends=tee,net_failover\0name=x\0") == ["tee", "net_failover"]
    assert depends(b"\0depends=\0name=x\0") == []
    assert depends(b"") == []


# --- the keys ---


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path):
    make_keys(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    make_keys(tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {CLIENT_KEY, f"{CLIENT_KEY}.pub", HOST_KEY, KNOWN_HOSTS}
    assert all(stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600 for name in (CLIENT_KEY, HOST_KEY))
    other = tmp_path / "other"
    other.mkdir()
    make_keys(other)
    assert before[CLIENT_KEY] != (other / CLIENT_KEY).read_bytes()
    assert before[HOST_KEY] not in overlay(other)
    assert before[HOST_KEY] in overlay(tmp_path)
    assert before[CLIENT_KEY] not in overlay(tmp_path)


def test_ssh_reads_the_clients_key(tmp_path):
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen: apt-get install openssh-client")
    make_keys(tmp_path)
    made = subprocess.run(["ssh-keygen", "-y", "-f", tmp_path / CLIENT_KEY], capture_output=True, check=True).stdout
    assert made.split()[:2] == (tmp_path / f"{CLIENT_KEY}.pub").read_bytes().split()[:2]
