"""The store on a URL: what one machine made the others read, whole or not at all, and nobody reads a password."""

import json
import uuid

import pytest

from suite import remote_store
from suite.cli import main
from suite.remote_store import Remote, shown
from suite.store import MANIFEST, Key, Store, StoreError

KEY = Key("thing", {"seed": 1})


def writing(content="hello"):
    def make(folder, scratch):
        (folder / "sub").mkdir()
        (folder / "a.txt").write_text(content)
        (folder / "sub" / "b.bin").write_bytes(b"\0\1\2")

    return make


def forbidden(folder, scratch):
    raise AssertionError("made a second time")


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    return f"memory://{uuid.uuid4().hex}/store" if request.param == "memory" else f"file://{tmp_path}/shared"


@pytest.fixture
def machine(tmp_path, url):
    """Makes stores of machines, by name, that share one."""
    return lambda name: Store(tmp_path / name, url)


def test_what_one_machine_made_is_found_on_another(machine):
    made = machine("one").get(KEY, writing())
    found = machine("two").get(KEY, forbidden)
    assert found != made
    assert {p.name: p.read_bytes() for p in found.rglob("*") if p.is_file()} == {
        p.name: p.read_bytes() for p in made.rglob("*") if p.is_file()
    }
    assert list((machine("two").root / "partial").iterdir()) == []
    assert machine("two").find(Key("thing", {"seed": 2})) is None


def test_what_was_made_without_the_shared_store_goes_there_when_it_is_used(tmp_path, machine):
    Store(tmp_path / "one").get(KEY, writing())
    assert machine("two").find(KEY) is None
    assert machine("one").find(KEY)
    assert machine("two").find(KEY)


def test_half_an_upload_is_no_entry(machine, monkeypatch):
    """Cut off at every write in turn; the next upload completes it."""
    write = Remote._write
    for stop in (0, 1, 1):
        written = []

        def cut(self, name, source, stop=stop, written=written):
            if len(written) == stop:
                raise StoreError("the network is gone")
            written.append(name)
            write(self, name, source)

        monkeypatch.setattr(Remote, "_write", cut)
        with pytest.raises(StoreError, match="the network is gone"):
            machine("one").get(KEY, writing())
        assert machine("two").find(KEY) is None
    monkeypatch.setattr(Remote, "_write", write)
    machine("one").get(KEY, forbidden)  # it stands on this machine, and goes up now
    assert machine("two").find(KEY)


def test_two_machines_that_make_the_same_entry_do_no_harm(machine):
    """They may come to other bytes, as of a time; a third reads those of one of them."""
    one, two = machine("one"), machine("two")

    def meanwhile(folder, scratch):
        two.get(KEY, writing("of two"))
        writing("of one")(folder, scratch)

    one.get(KEY, meanwhile)
    assert (one.find(KEY) / "a.txt").read_text() == "of one"
    assert (machine("three").get(KEY, forbidden) / "a.txt").read_text() == "of two"


def damage(shared, kind):
    manifest = shared / "entries" / f"{KEY.id}.json"
    files = json.loads(manifest.read_text())["files"]
    blob = shared / "files" / files["a.txt"][:2] / files["a.txt"]
    if kind == "changed":
        blob.write_text("jello")
    elif kind == "missing":
        blob.unlink()
    elif kind == "outside":
        manifest.write_text(manifest.read_text().replace('"a.txt"', '"../../a.txt"'))
    elif kind == "another":
        manifest.write_text(manifest.read_text().replace(KEY.digest, "0" * 64))
    else:
        manifest.write_text("{")


@pytest.mark.parametrize("kind", ["changed", "missing", "outside", "another", "broken"])
def test_damage_is_named_repaired_and_made_again(tmp_path, kind, monkeypatch, capsys):
    url = f"file://{tmp_path}/shared"
    Store(tmp_path / "one", url).get(KEY, writing())
    damage(tmp_path / "shared", kind)
    two = Store(tmp_path / "two", url)
    with pytest.raises(StoreError, match=rf"{KEY.id}.*damaged.*leakboard store repair") as error:
        two.find(KEY)
    assert url in str(error.value)
    assert not (tmp_path / "a.txt").exists()
    assert list(two.entries()) == []

    monkeypatch.setenv("LEAKBOARD_STORE", url)
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path / "cache"))
    if kind != "another":  # only who looks for a key sees that the entry is of another
        assert main(["store", "check"]) == 1
        assert main(["store", "repair"]) == 0
        assert f"removed {KEY.id} from {url}" in capsys.readouterr().out
        assert main(["store", "check"]) == 0
        assert (two.get(KEY, writing()) / "a.txt").exists()
        assert Store(tmp_path / "three", url).get(KEY, forbidden)


def test_a_file_is_never_seen_before_it_is_whole(tmp_path, monkeypatch):
    """On a plain file system it is written aside."""
    url = f"file://{tmp_path}/shared"
    store = Store(tmp_path / "one", url)

    def killed(*args, **kwargs):
        raise RuntimeError("killed")

    monkeypatch.setattr(store.shared._fs, "mv", killed)
    with pytest.raises(StoreError, match="killed"):
        store.get(KEY, writing())
    assert not [path for path in (tmp_path / "shared").rglob("*") if path.is_file() and path.name[0] != "."]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("here/store", "write a URL such as s3://bucket/folder, or an absolute path"),
        ("simplecache::s3://bucket/x", "write a URL"),
        ("s4://bucket/x", "s4"),
        ("memory://", "name a folder"),
        ("s3://bucket/x", "s3fs"),
    ],
)
def test_what_is_no_store_says_so(tmp_path, url, expected):
    if url.startswith("s3:") and pytest.importorskip("importlib.util").find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(StoreError, match=expected):
        Store(tmp_path, url)


def test_a_store_that_cannot_be_written_names_the_way_out(tmp_path):
    store = Store(tmp_path / "one", "file:///proc/nobody/store")
    with pytest.raises(StoreError, match=r"file:///proc/nobody/store: cannot write .*no --store, no LEAKBOARD_STORE"):
        store.get(KEY, writing())
    assert Store(tmp_path / "one").find(KEY)  # it was not made in vain


def test_passwords_are_not_told(tmp_path, monkeypatch):
    url = "memory://me:hunter2@host/folder?token=sesame"
    assert shown(url) == "memory://host/folder"
    assert shown("s3://s3:x@s3/a@b") == "s3://s3/a@b"
    remote = Remote(url)

    def tells(*args, **kwargs):
        raise OSError(f"cannot reach {url}")

    monkeypatch.setattr(remote._fs, "cat_file", tells, raising=False)
    with pytest.raises(StoreError) as error:
        remote.has("thing")
    assert "hunter2" not in str(error.value)
    assert "sesame" not in str(error.value)
    with pytest.raises(StoreError) as error:
        Store(tmp_path, "nosuch://me:hunter2@host/folder?token=sesame")
    assert "hunter2" not in str(error.value)


def test_two_urls_of_one_store_are_known_as_one(tmp_path):
    first, second = Remote(f"file://{tmp_path}/shared"), Remote(f"{tmp_path}/shared")
    assert first.identity() == second.identity() != Remote(f"file://{tmp_path}/other").identity()


def test_without_fsspec_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(StoreError, match=r"pip install 'leakboard\[cluster\]'"):
        Store(tmp_path, "file:///somewhere")
    assert remote_store.MISSING
    assert MANIFEST
