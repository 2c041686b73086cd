"""The store: whole entries or none, never one of another key, whoever is killed at whatever moment."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from suite.store import MANIFEST, Busy, Key, Store, StoreError, cache_root, verify

KEY = Key("thing", {"seed": 1, "code": ["abc", None]})

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
parts = st.dictionaries(st.text(max_size=4), values, min_size=1, max_size=4)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def writing(content="hello"):
    def make(folder, scratch):
        (folder / "sub").mkdir()
        (folder / "a.txt").write_text(content)
        (folder / "sub" / "b.bin").write_bytes(b"\0\1\2")

    return make


def forbidden(folder, scratch):
    raise AssertionError("made a second time")


def test_an_entry_is_made_once_and_holds_its_files(store):
    entry = store.get(KEY, writing())
    assert store.get(KEY, forbidden) == entry == store.find(KEY) == store.path(KEY)
    assert (entry / "a.txt").read_text() == "hello"
    assert list(store.entries()) == [entry]
    manifest = json.loads((entry / MANIFEST).read_text())
    assert sorted(manifest["files"]) == ["a.txt", "sub/b.bin"]
    assert manifest["parts"] == KEY.parts
    assert list((store.root / "partial").iterdir()) == []


def changed(draw, value):
    """``value`` with exactly one thing in it another."""
    if isinstance(value, dict) and value:
        key = draw(st.sampled_from(sorted(value)))
        how = draw(st.sampled_from(["value", "name", "drop"]))
        rest = {k: v for k, v in value.items() if k != key}
        if how == "value":
            return {**rest, key: changed(draw, value[key])}
        return rest if how == "drop" else {**rest, key + "x" + "".join(value): value[key]}
    if isinstance(value, list) and value:
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], changed(draw, value[at]), *value[at + 1 :]]
    return draw(scalars | st.just([]) | st.just({}))


@settings(max_examples=150, deadline=None)
@given(st.data(), parts)
def test_a_key_changes_with_any_of_its_parts(data, before):
    after = changed(data.draw, before)
    assume(repr(sorted_all(after)) != repr(sorted_all(before)))  # repr tells 1 from 1.0 and True, as JSON does
    assert Key("thing", before).digest != Key("thing", after).digest
    assert Key("thing", before).id != Key("thing", after).id
    assert Key("thing", before).id != Key("other", before).id


def sorted_all(value):
    if isinstance(value, dict):
        return [(key, sorted_all(value[key])) for key in sorted(value)]
    return [sorted_all(one) for one in value] if isinstance(value, list) else value


@given(parts)
def test_a_key_does_not_depend_on_the_order_of_its_parts(before):
    assert Key("thing", dict(reversed(list(before.items())))).digest == Key("thing", before).digest


def test_another_keys_entry_is_not_found(store):
    store.get(KEY, writing())
    assert store.find(Key("thing", {**KEY.parts, "seed": 2})) is None


def damage(path, how):
    if how == "changed":
        path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    elif how == "longer":
        path.write_bytes(path.read_bytes() + b"\0")
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["changed", "longer", "cut", "gone"])
@pytest.mark.parametrize("name", ["a.txt", "sub/b.bin"])
def test_a_damaged_file_is_named_and_its_entry_never_used(store, how, name):
    entry = store.get(KEY, writing())
    damage(entry / name, how)
    for use in (lambda: store.find(KEY), lambda: store.get(KEY, forbidden), lambda: verify(entry)):
        with pytest.raises(
            StoreError, match=f"{entry}.*{name} (was changed|is missing).*leakboard store repair"
        ) as caught:
            use()
        assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.binary(max_size=40)
    | values.map(lambda v: json.dumps(v).encode())
    | st.sampled_from(
        [b'{"files": [], "digest": "x"}', b'{"files": {"a": 1}, "digest": null}', b'{"files": "ab", "digest": 1}']
    )
)
def test_a_broken_manifest_is_a_damaged_entry(tmp_path, text):
    store = Store(tmp_path / "store")
    entry = store.path(KEY)
    entry.mkdir(exist_ok=True)
    (entry / MANIFEST).write_bytes(text)
    with pytest.raises(StoreError, match="is damaged"):
        store.find(KEY)


def test_an_entry_without_a_manifest_or_with_another_keys_is_damaged(store):
    entry = store.get(KEY, writing())
    other = Key("thing", {"seed": 2})
    entry.rename(store.path(other))
    with pytest.raises(StoreError, match="manifest is of another key"):
        store.find(other)
    (store.path(other) / MANIFEST).unlink()
    with pytest.raises(StoreError, match="manifest.json cannot be read"):
        store.get(other, forbidden)


def test_a_root_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write to the store .*file.*set LEAKBOARD_CACHE"):
        Store(tmp_path / "file" / "store")
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path / "elsewhere"))
    assert cache_root() == tmp_path / "elsewhere"
    assert Store().root == tmp_path / "elsewhere" / "store"


def test_a_full_disk_is_told_and_leaves_nothing(store):
    def make(folder, scratch):
        (folder / "half").write_text("x")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StoreError, match=r"cannot write store entry .*No space left"):
        store.get(KEY, make)
    assert store.find(KEY) is None
    assert store.get(KEY, writing()).is_dir()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), FileNotFoundError(2, "no such", "cc")])
def test_what_make_raises_passes_and_its_scratch_is_kept(store, error):
    def stopped(folder, scratch):
        (folder / "half").write_text("x")
        (scratch / "checkpoint").write_text("epoch 3")
        raise error

    with pytest.raises(type(error)):
        store.get(KEY, stopped)
    assert store.find(KEY) is None
    assert [path.name for path in (store.root / "partial").iterdir()] == [KEY.id]

    def resumed(folder, scratch):
        assert (scratch / "checkpoint").read_text() == "epoch 3"
        assert list(folder.iterdir()) == []

    store.get(KEY, resumed)  # and the lock was given back
    assert list((store.root / "partial").iterdir()) == []


MAKER = """
    import sys, time
    from pathlib import Path
    from suite.store import Busy, Key, Store

    store, key = Store(Path(sys.argv[1])), Key("thing", {"seed": 1, "code": ["abc", None]})

    def make(folder, scratch):
        with (store.root / "made").open("a") as log:
            log.write("made\\n")
        (folder / "half").write_text("x")
        (scratch / "checkpoint").write_text("epoch 3")
        print("inside", flush=True)
        time.sleep(float(sys.argv[2]))

    store.get(key, make)
    print("done", flush=True)
"""


def start(store, seconds):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(MAKER), str(store.root), str(seconds)], stdout=subprocess.PIPE, text=True
    )


def test_a_killed_maker_leaves_no_entry_no_lock_and_its_scratch(store):
    process = start(store, 60)
    assert process.stdout.readline() == "inside\n"
    with pytest.raises(Busy):
        store.get(KEY, forbidden, wait=False)
    assert store.find(KEY) is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert store.find(KEY) is None
    assert list(store.entries()) == []

    def resumed(folder, scratch):
        assert (scratch / "checkpoint").read_text() == "epoch 3"
        (folder / "whole").write_text("y")

    entry = store.get(KEY, resumed, wait=False)
    assert sorted(path.name for path in entry.iterdir()) == [MANIFEST, "whole"]
    assert list((store.root / "partial").iterdir()) == []  # the killed attempt's half is gone, too


def test_two_processes_make_an_entry_once(store):
    makers = [start(store, 0.3) for _ in range(3)]
    said = [maker.communicate(timeout=30)[0] for maker in makers]
    assert all(text.endswith("done\n") for text in said)
    assert (store.root / "made").read_text() == "made\n"
    assert sorted(said) == ["done\n", "done\n", "inside\ndone\n"]


def test_waiting_for_another_process_gives_its_entry(store):
    process = start(store, 0.5)
    assert process.stdout.readline() == "inside\n"
    began = time.monotonic()
    assert (store.get(KEY, forbidden) / "half").exists()
    assert time.monotonic() - began < 20
    assert process.wait() == 0
