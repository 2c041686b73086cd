"""Proof, by looking, that what a deployment hides is not in an attacker's hands.

From an ``AdversaryView`` every reference is followed, as far as Python has any, and everything met on the way, like the
public file, is searched for the numbers of the hidden parameters. The search is for bits: a hidden parameter that was
scaled, rounded or encoded on its way out is not recognised.
"""

from __future__ import annotations

import gc
import io
import os
import random
import sys
import types
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from device.board import DeploymentFiles
from suite.graph import packing
from suite.graph.ir import Graph, Node, Weights
from suite.graph.parse import parse_file
from suite.graph.partition import Segment, World
from suite.graph.wire import Layout
from suite.material import Material
from suite.model import Deployment, Victim
from suite.view import AdversaryView

Words = NDArray[np.uint32]

_FORBIDDEN = (Victim, Deployment, DeploymentFiles, Material)
_NOT_FOLLOWED = (type, types.ModuleType, types.CodeType)
_STRIDE = 4
_CHUNK_WORDS = 1 << 20
_SIEVE_BITS = 22
_LONGEST_PATH = 4096


class LeakError(AssertionError):
    """Something hidden is in the attacker's hands; says what, and where it was found."""


def assert_hidden(view: AdversaryView, deployment: Deployment, files: DeploymentFiles, *shown: object) -> None:
    """Look for the hidden parameters in all that ``view`` reaches, what else it has ``shown``, and the public file.

    Followed are all references but those into modules, classes and the globals of functions, with NumPy's ``base``,
    torch storages, closures and weak references; not what the board's own process holds. Parameters count as found in
    their PyTorch layout, transposed, or as the kernels want them packed; those of fewer than four different numbers (a
    bias of zeros) have nothing to recognise them by.

    Raises:
        LeakError: a hidden parameter, the sealed file or its name, the victim, or the truth about it can be had.
    """
    needles = Needles(deployment.hidden)
    for what, where in (found for root in (view, *shown) for found in _reachable(root)):
        _check_object(what, where, files)
        for words in numbers_in(what):
            if found := needles.find(words):
                raise LeakError(f"hidden parameter {found} can be read from the view ({where})")
    for what in _contents(files.public):
        for words in numbers_in(what):
            if found := needles.find(words):
                raise LeakError(f"hidden parameter {found} can be read from the public file {files.public.name}")


def _contents(public: Path) -> Iterator[bytes | Weights]:
    """The file as it is, then every parameter in it, in order and transposed."""
    yield public.read_bytes()
    for segment in parse_file(public).as_segments():
        for node in segment.graph.nodes:
            for weight in node.weights.values():
                yield from (weight, np.moveaxis(weight, 0, -1))


class Needles:
    """The hidden parameters, cut into runs of numbers to be recognised by."""

    def __init__(self, graphs: Iterable[Graph]) -> None:
        self._names: list[str] = []
        runs: dict[int, list[Words]] = {}
        owners: dict[int, list[NDArray[np.int64]]] = {}
        for graph in graphs:
            for node in graph.nodes:
                for key, weight in node.weights.items():
                    self._names.append(f"{node.name}.{key} of layer {node.layer!r}")
                    for form in _forms(graph, node, key, weight):
                        for words in _as_words(form):
                            found = _telling_runs(words)
                            if len(found):
                                runs.setdefault(found.shape[1], []).append(found)
                                owners.setdefault(found.shape[1], []).append(np.full(len(found), len(self._names) - 1))
        self._index = {n: _RunIndex(np.concatenate(runs[n]), np.concatenate(owners[n])) for n in runs}

    def find(self, words: Words) -> str | None:
        """The name of a hidden parameter of which ``words`` hold a run, or None."""
        for index in self._index.values():
            owner = index.find(words)
            if owner is not None:
                return self._names[owner]
        return None


def _forms(graph: Graph, node: Node, key: str, weight: Weights) -> Iterator[Weights]:
    """The orders in which a parameter may lie in memory, flat."""
    yield weight.reshape(-1)
    if weight.ndim > 1:
        yield np.moveaxis(weight, 0, -1).reshape(-1)
        layout = packing.layout_of(graph, node, key)
        if layout is not Layout.PLAIN:
            yield packing.pack(weight, layout, node.attrs.get("groups", 1))


def _as_words(flat: Weights) -> Iterator[Words]:
    """The numbers as floats; integers also as the bytes they are."""
    yield np.ascontiguousarray(flat, np.float32).view(np.uint32)
    if flat.dtype.kind != "f":
        data = np.ascontiguousarray(flat).view(np.uint8)
        yield data[: len(data) // 4 * 4].view(np.uint32)


def _telling_runs(flat: Words) -> Words:
    """Runs of 8 numbers [n, 8] that hardly occur by chance; of 32 or 4 where there are none of 8."""
    for length in (8, 32, 4):
        if len(flat) < length:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(flat, length)[::_STRIDE]
        inner = np.sort(windows & np.uint32(0x7FFFFFFF), axis=1)  # without the sign: zeros are of either
        different = (np.diff(inner, axis=1, prepend=np.uint32(0)) != 0).sum(axis=1)
        telling = windows[different >= 4]
        if len(telling):
            return np.ascontiguousarray(telling)
    return np.empty((0, 8), np.uint32)


class _RunIndex:
    """Runs of equal length, to be found at any place of an array by a hash, a sieve and a comparison."""

    def __init__(self, runs: Words, owners: NDArray[np.int64]) -> None:
        self._length = runs.shape[1]
        draw = random.Random(0)
        self._factors = [np.uint64(draw.getrandbits(64) | 1) for _ in range(runs.shape[1])]
        hashes = self._hash(list(runs.T))
        order = np.argsort(hashes)
        self._hashes, self._runs, self._owners = hashes[order], runs[order], owners[order]
        self._sieve = np.zeros(1 << _SIEVE_BITS, np.bool_)
        self._sieve[self._bucket(self._hashes)] = True

    def _hash(self, columns: list[Words]) -> NDArray[np.uint64]:
        total = np.zeros(columns[0].shape, np.uint64)
        for factor, column in zip(self._factors, columns, strict=True):
            total += factor * column.astype(np.uint64)
        return total

    @staticmethod
    def _bucket(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (hashes >> np.uint64(64 - _SIEVE_BITS)).astype(np.int64)

    def find(self, words: Words) -> int | None:
        """The owner of a run that stands anywhere in ``words``."""
        for first in range(0, len(words) - self._length + 1, _CHUNK_WORDS):
            part = words[first : first + _CHUNK_WORDS + self._length - 1]
            n = len(part) - self._length + 1
            hashes = self._hash([part[i : i + n] for i in range(self._length)])
            places = np.flatnonzero(self._sieve[self._bucket(hashes)])
            ranks = np.minimum(np.searchsorted(self._hashes, hashes[places]), len(self._hashes) - 1)
            same = self._hashes[ranks] == hashes[places]
            for at, rank in zip(places[same], ranks[same], strict=True):
                if np.array_equal(self._runs[rank], part[at : at + self._length]):
                    return int(self._owners[rank])
        return None


def _reachable(root: object) -> Iterator[tuple[Any, str]]:
    """Every object that can be reached, once, with the chain of types that leads to it."""
    namespaces = {id(vars(module)) for module in list(sys.modules.values()) if isinstance(module, types.ModuleType)}
    seen = {id(root): root}  # holds what it names, so that no id is used twice
    waiting = [(root, type(root).__name__)]
    while waiting:
        what, where = waiting.pop()
        yield what, where
        for child in _references(what):
            if id(child) in seen or id(child) in namespaces or isinstance(child, _NOT_FOLLOWED):
                continue
            seen[id(child)] = child
            waiting.append((child, f"{where} > {type(child).__name__}"))


def _references(what: Any) -> list[Any]:
    if isinstance(what, types.FunctionType):  # without its globals
        filled = [cell for cell in what.__closure__ or () if cell != types.CellType()]
        return [*(cell.cell_contents for cell in filled), what.__defaults__, what.__kwdefaults__, what.__dict__]
    found = gc.get_referents(what)
    if isinstance(what, weakref.ReferenceType):
        found.append(what())
    elif isinstance(what, np.ndarray):
        found.append(what.base)
        found.extend(what.reshape(-1).tolist() if what.dtype.hasobject else ())
    elif isinstance(what, memoryview):
        found.append(what.obj)
    elif isinstance(what, torch.Tensor) and what.is_leaf:
        found.append(what.grad)
    return found


def _check_object(what: Any, where: str, files: DeploymentFiles) -> None:
    """Refuse what must not be reachable whatever numbers it holds."""
    if isinstance(what, _FORBIDDEN) or (isinstance(what, Segment) and what.world is World.TEE):
        raise LeakError(f"a {type(what).__name__} can be reached from the view ({where})")
    if files.sealed is None:
        return
    if isinstance(what, str | bytes | os.PathLike) and _names(what, files.sealed):
        raise LeakError(f"the sealed file's place can be read from the view ({where}): {os.fspath(what)!r}")
    if isinstance(what, io.IOBase) and _is_open_on(what, files.sealed):
        raise LeakError(f"an open handle of the sealed file can be reached from the view ({where})")


def _names(text: str | bytes | os.PathLike[Any], sealed: Path) -> bool:
    """Whether a text is the path of the sealed file, or of its folder or a neighbour, from which to guess it."""
    path = os.fspath(text)
    if isinstance(path, bytes):
        path = os.fsdecode(path[:_LONGEST_PATH])
    if not path.startswith(os.sep) or len(path) >= _LONGEST_PATH:
        return False
    folders = (str(sealed.absolute().parent), str(sealed.resolve().parent))
    return os.path.normpath(path) in folders or os.path.dirname(os.path.normpath(path)) in folders


def _is_open_on(stream: io.IOBase, sealed: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), sealed.stat())
    except (OSError, ValueError):  # closed, or no file
        return False


def numbers_in(what: Any) -> Iterator[Words]:
    """The contents of an object as 32-bit words, at every alignment where it has none of its own."""
    if isinstance(what, torch.Tensor):
        try:
            whole = torch.empty(0, dtype=torch.uint8, device=what.device)
            what = whole.set_(what.untyped_storage()).cpu().numpy()
        except (NotImplementedError, RuntimeError):  # sparse and meta tensors have no storage of their own
            return
    if isinstance(what, list | tuple):
        if len(what) >= 4 and all(isinstance(number, float) for number in what):
            yield np.array(what, np.float32).view(np.uint32)
        return
    if isinstance(what, np.ndarray):
        if what.dtype.hasobject:
            return
        if what.dtype.kind == "f" and what.dtype.itemsize != 4:
            with np.errstate(over="ignore"):
                yield np.ascontiguousarray(what, np.float32).reshape(-1).view(np.uint32)
            return
        what = np.ascontiguousarray(what).reshape(-1)
        if what.dtype.kind == "f":
            yield what.view(np.uint32)
            return
        data = what.view(np.uint8)
    else:
        try:
            data = np.frombuffer(what, np.uint8)
        except (TypeError, ValueError, BufferError):
            return
    for shift in range(4):
        size = (len(data) - shift) // 4 * 4
        if size > 0:
            yield data[shift : shift + size].view(np.uint32)
