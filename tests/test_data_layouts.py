"""Official layouts decode to the right arrays, and what is damaged is named and not used."""

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data_strategies import cifar100_files, entry, idx_files, jpeg, json_labels, pins, png, tar

from victims.data import CorruptFile, DataError, Dataset, cifar, idx, sprites
from victims.data.catalogue import CATALOGUE
from victims.data.containers import read_archive
from victims.data.layouts import PinnedFiles, find
from victims.data.tiny_imagenet import TinyImagenet, tree_checksum


def test_idx_pools_train_then_test():
    files = idx_files(6, 4)
    images, labels = idx.decode(files)
    assert images.shape == (10, 28, 28, 1)
    assert images[6, 1, 2, 0] == files["t10k-images-idx3-ubyte"][16 + 28 + 2]
    assert bytes(labels.astype(np.uint8)[:6]) == files["train-labels-idx1-ubyte"][8:]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not an IDX"),
        (b"\x00\x00\x0d\x01", "not an IDX"),
        (b"\0\0\x08\x03\0", "not an IDX"),
        (b"\0\0\x08\x01\0\0\0\x05abcd", r"promises \(5,\)"),
    ],
)
def test_idx_refuses_what_is_none(content, complaint):
    with pytest.raises(DataError, match=complaint):
        idx.decode_array(content)


def test_cifar100_takes_the_fine_label_and_planes_become_channels():
    files, images, labels = cifar100_files()
    got_images, got_labels = cifar.decode_cifar100(files)
    np.testing.assert_array_equal(got_images, images)
    np.testing.assert_array_equal(got_labels, labels)


def test_cifar_binary_and_sprites_of_the_same_images_are_one_content():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, 12)
    binary, packed = {}, {}
    names = zip(cifar.MEMBERS_10, (*sprites.TRAIN_SPRITES, *sprites.TEST_SPRITES), strict=True)
    for batch, (bin_name, png_name) in enumerate(names):
        part = slice(2 * batch, 2 * batch + 2)
        planes = images[part].transpose(0, 3, 1, 2).reshape(2, -1)
        binary[bin_name] = b"".join(bytes([y]) + x.tobytes() for x, y in zip(planes, labels[part], strict=True))
        packed[png_name] = png(images[part].reshape(2, 1024, 3))
    packed[sprites.TRAIN_LABELS] = json_labels(labels[:10])
    packed[sprites.TEST_LABELS] = json_labels(labels[10:])
    one = Dataset.from_arrays("x", *cifar.decode_cifar10(binary), 10, "binary")
    other = Dataset.from_arrays("x", *sprites.decode(packed), 10, "sprites")
    np.testing.assert_array_equal(one.images, images)
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("compression", ["gz", "xz"])
def test_archive_and_folder_of_the_same_files_decode_alike(tmp_path, compression):
    files, images, _ = cifar100_files()
    (tmp_path / f"cifar-100-binary.tar.{compression}").write_bytes(tar(files, compression))
    [(layout, path)] = find(entry().layouts, tmp_path)
    np.testing.assert_array_equal(layout.read(path)[0], images)
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "train.bin").write_bytes(files["train.bin"])
    (folder / "test.bin.gz").write_bytes(gzip.compress(files["test.bin"]))
    layout, path = find(entry().layouts, tmp_path)[0]
    assert path == folder
    np.testing.assert_array_equal(layout.read(path)[0], images)


@pytest.mark.parametrize("compression", ["gz", "xz"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_truncated_archive_is_named_with_both_checksums(tmp_path, compression, kept):
    files, _, _ = cifar100_files()
    whole = tar(files, compression)
    path = tmp_path / f"cifar-100-binary.tar.{compression}"
    path.write_bytes(whole[: int(kept * len(whole))])
    known = {path.name: pins({"a": whole})["a"]}
    layout = PinnedFiles((path.name,), pins(files), cifar.decode_cifar100, archives=known)
    with pytest.raises(CorruptFile) as caught:
        layout.read(path)
    message = str(caught.value)
    assert str(path) in message
    assert known[path.name].digest in message
    assert pins({"a": path.read_bytes()})["a"].digest in message
    assert "delete it or fetch it again" in message


def test_flipped_bit_in_a_file_is_named(tmp_path):
    files, _, _ = cifar100_files()
    damaged = bytearray(files["test.bin"])
    damaged[1000] ^= 4
    for name, content in {**files, "test.bin": bytes(damaged)}.items():
        (tmp_path / name).write_bytes(content)
    layout = entry().layouts[0]
    with pytest.raises(CorruptFile, match=r"test\.bin has sha256 .*, expected " + layout.files["test.bin"].digest):
        layout.read(tmp_path)


def test_missing_member_and_damaged_gzip_are_named(tmp_path):
    files, _, _ = cifar100_files()
    (tmp_path / "train.bin").write_bytes(files["train.bin"])
    layout = entry().layouts[0]
    with pytest.raises(CorruptFile, match=r"lacks test\.bin"):
        layout.read(tmp_path)
    (tmp_path / "test.bin.gz").write_bytes(gzip.compress(files["test.bin"])[:-20])
    with pytest.raises(CorruptFile, match=r"test\.bin\.gz: does not decompress"):
        layout.read(tmp_path)


def test_fashion_mnist_in_mnists_place_is_told_apart(tmp_path):
    ours, others = idx_files(seed=1), idx_files(seed=2)
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
    owner = {pin.digest: "fashion_mnist" for pin in pins(others).values()}
    layout = PinnedFiles((".",), pins(ours), idx.decode, others=owner)
    with pytest.raises(CorruptFile, match="is fashion_mnist's train-images") as caught:
        layout.read(tmp_path)
    assert "delete" not in str(caught.value)


def tiny_tree() -> dict[str, bytes]:
    return {
        "wnids.txt": b"n2\nn1\n",
        "val/val_annotations.txt": b"val_10.JPEG\tn1\t0\t0\t9\t9\nval_9.JPEG\tn2\t0\t0\t9\t9\n",
        "train/n1/images/n1_0.JPEG": jpeg(10, "L"),
        "train/n2/images/n2_10.JPEG": jpeg(30),
        "train/n2/images/n2_9.JPEG": jpeg(20),
        "val/images/val_10.JPEG": jpeg(50),
        "val/images/val_9.JPEG": jpeg(40),
    }


def tiny_zip(tree: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("tiny-imagenet-200/words.txt", "ignored")
        archive.writestr("tiny-imagenet-200/test/images/test_0.JPEG", jpeg(1))
        for name, content in tree.items():
            archive.writestr(f"tiny-imagenet-200/{name}", content)
    return out.getvalue()


def tiny_layout(tree: dict[str, bytes]) -> TinyImagenet:
    return TinyImagenet(("tiny.zip", "tiny"), frozenset({tree_checksum(tree)}), {})


@pytest.mark.parametrize("packed", [True, False])
def test_tiny_imagenet_orders_classes_by_wnids_and_images_by_number(tmp_path, packed):
    tree = tiny_tree()
    if packed:
        path = tmp_path / "tiny.zip"
        path.write_bytes(tiny_zip(tree))
    else:
        path = tmp_path / "tiny"
        for name, content in tree.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    images, labels = tiny_layout(tree).read(path)
    assert images.shape == (5, 64, 64, 3)
    assert images[:, 0, 0, 0].tolist() == [20, 30, 10, 40, 50]
    assert (images[2] == 10).all()  # the grey one, in all three channels
    assert labels.tolist() == [0, 0, 1, 0, 1]


def test_tiny_imagenet_with_another_byte_or_cut_short_is_refused(tmp_path):
    tree = tiny_tree()
    path = tmp_path / "tiny.zip"
    path.write_bytes(tiny_zip({**tree, "val/images/val_9.JPEG": jpeg(41)}))
    with pytest.raises(CorruptFile, match="no known Tiny ImageNet.*" + tree_checksum(tree)):
        tiny_layout(tree).read(path)
    path.write_bytes(tiny_zip(tree)[:-50])
    with pytest.raises(CorruptFile, match=r"tiny\.zip: cannot be read"):
        tiny_layout(tree).read(path)


def test_an_archive_member_never_leaves_memory(tmp_path):
    files, _, _ = cifar100_files()
    path = tmp_path / "evil.tar.gz"
    path.write_bytes(tar(files, "gz", top="../../"))
    assert set(read_archive(path, lambda name: Path(name).name)) == set(files)
    assert {p.name for p in tmp_path.rglob("*")} == {"evil.tar.gz"}


def test_every_entry_of_the_catalogue_pins_whole_sets_of_files():
    members = {"mnist": idx.MEMBERS, "fashion_mnist": idx.MEMBERS, "cifar10": cifar.MEMBERS_10}
    for name, expected in members.items():
        assert tuple(CATALOGUE[name].layouts[0].files) == expected
    assert all(e.content for e in CATALOGUE.values() if e.name not in ("tiny_imagenet", "digits"))
