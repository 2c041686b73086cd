"""Models from outside the suite: a program that torch.export saved, or a function that returns a module.

Reading either runs code: a function by being called, and a ``.pt2`` file because ``torch.export.load`` unpickles and
evaluates parts of it. Both are trusted as one trusts a program before starting it.
"""

from __future__ import annotations

import importlib
import logging
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.export import ExportedProgram

from suite.graph.export import export_graph, export_program
from suite.graph.ir import Graph

Shape = tuple[int, int, int]


class ModelError(ValueError):
    """A model that cannot be read or is not one image in, one vector out; names it and the way out."""


@dataclass(frozen=True, slots=True)
class OutsideModel:
    """A model as its owner has it, for images of ``input_shape`` exactly as the model takes them.

    ``module``: float32 [N, *input_shape] to [N, n_classes]. ``graph``: the same with batch norms folded, and a softmax
    at the end, which was ``appended`` if the model does not end in one.
    """

    name: str
    module: nn.Module
    graph: Graph
    input_shape: Shape
    n_classes: int
    appended: bool

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """What the model says of images, float32 [N, *input_shape]: [N, n_classes]."""
        with torch.inference_mode():
            answers = cast(torch.Tensor, self.module(images))
            return torch.softmax(answers, dim=1) if self.appended else answers


class OneByOne(nn.Module):
    """A program exported for one image, run on several. It has one mode, that which it was exported in."""

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__()
        self._run = program.module()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Answers [N, n_classes] of float32 [N, *input_shape]."""
        return torch.cat([self._run(image[None]) for image in images])

    def train(self, mode: bool = True) -> OneByOne:
        """Nothing: an exported program cannot change its mode."""
        return self


def load_model(text: str, input_shape: Shape | None) -> OutsideModel:
    """Read ``FILE.pt2`` or ``module:function``; this runs code of theirs.

    Args:
        text: which of them. Modules are looked for in the working folder, too. The function takes nothing and returns
            an ``nn.Module``, which is put into eval mode.
        input_shape: of an image without batch; a function's module needs it, a program has its own.

    Raises:
        ModelError: it is neither, cannot be read or called, or needs a shape.
        GraphError: boards cannot run it: names the operator and its layer, and what boards run.
    """
    module, colon, function = text.rpartition(":")
    if text.endswith(".pt2") or Path(text).is_file():
        return _of_program(Path(text), input_shape)
    if not colon or not all(part.isidentifier() for part in (*module.split("."), function)):
        raise ModelError(f"model {text!r}: write FILE.pt2, as torch.export.save makes it, or module:function")
    if input_shape is None:
        raise ModelError(f"model {text}: add --input CxHxW, such as 3x32x32: a module does not say what it takes")
    made = _called(text, module, function)
    graph, appended = _probabilities(lambda softmax: export_graph(made, input_shape, softmax=softmax), text)
    return _model(function, made, graph, input_shape, appended)


def _of_program(path: Path, wanted: Shape | None) -> OutsideModel:
    program = _read(path)
    shape, is_fixed = _shape_of(program, path, wanted)
    if not is_fixed:
        program = _at(program, shape, path)
    graph, appended = _probabilities(lambda softmax: export_program(program, path.name, softmax=softmax), path.name)
    return _model(path.stem, OneByOne(program), graph, shape, appended)


def _model(text: str, module: nn.Module, graph: Graph, shape: Shape, appended: bool) -> OutsideModel:
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "model"
    return OutsideModel(name, module, graph, shape, graph.shapes[graph.outputs[0]][0], appended)


def _probabilities(export: Callable[[bool], Graph], name: str) -> tuple[Graph, bool]:
    """The graph that answers probabilities, and whether its softmax is ours."""
    bare = export(False)
    answer = bare.shapes[bare.outputs[0]]
    if len(answer) != 1:
        raise ModelError(f"model {name}: it answers {answer} for an image, and a deployment one vector (n_classes,)")
    graph = export(True)
    return graph, len(graph.nodes) > len(bare.nodes)


def _called(text: str, module: str, function: str) -> nn.Module:
    with _working_folder_on_path():
        try:
            made: Any = getattr(importlib.import_module(module), function)
            made = made if isinstance(made, nn.Module) else made()
        except Exception as error:  # whatever somebody's code raises
            raise ModelError(f"model {text}: {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise ModelError(f"model {text}: it returned {type(made).__name__}, not a torch.nn.Module")
    return made.eval()


@contextmanager
def _working_folder_on_path() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _read(path: Path) -> ExportedProgram:
    try:
        whole = zipfile.is_zipfile(path) if path.stat() else False
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror}") from error
    if not whole:
        raise ModelError(f"{path} is no .pt2 file, or is damaged: torch.export.save(program, '{path.name}') writes one")
    try:
        with _quiet() as noted, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(path)
    except Exception as error:  # whatever a damaged or newer file leads to
        cause = noted[0] if noted else error
        first = (str(cause).strip() or "no message").splitlines()[0]
        raise ModelError(
            f"{path} cannot be read as a program of torch.export: {type(cause).__name__}: {first}; it is damaged, or"
            f" another version of PyTorch than {torch.__version__} saved it"
        ) from error


@contextmanager
def _quiet() -> Iterator[list[BaseException]]:
    """Nothing of torch.export's log on the terminal; the errors that it would have told of instead of raising them."""
    noted: list[BaseException] = []

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1]:
                noted.append(record.exc_info[1])

    log, handler = logging.getLogger("torch.export"), Noting()
    propagated, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield noted
    finally:
        log.removeHandler(handler)
        log.propagate = propagated


def _shape_of(program: ExportedProgram, path: Path, wanted: Shape | None) -> tuple[Shape, bool]:
    """What an image is, and whether the program is for one such image and nothing else."""
    inputs = set(program.graph_signature.user_inputs)
    places = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs]
    sizes = [tuple(node.meta["val"].shape) for node in places if isinstance(node.meta.get("val"), torch.Tensor)]
    if len(sizes) != 1 or len(sizes[0]) != 4:
        raise ModelError(f"{path} takes {', '.join(map(str, sizes)) or 'no tensor'}: boards run one (N, C, H, W)")
    batch, *image = (size if isinstance(size, int) else None for size in sizes[0])
    if batch not in (None, 1):
        raise ModelError(f"{path} was exported for batches of {batch}: export it for one image, or a dynamic batch")
    if wanted is None and None in image:
        raise ModelError(f"{path} takes images of any size: say which with --input CxHxW")
    shape = wanted or cast(Shape, tuple(image))
    if any(size not in (None, asked) for size, asked in zip(image, shape, strict=True)):
        raise ModelError(f"--input {'x'.join(map(str, shape))}: {path} takes {'x'.join(str(n or '?') for n in image)}")
    return shape, batch == 1 and None not in image


def _at(program: ExportedProgram, shape: Shape, path: Path) -> ExportedProgram:
    """The program for one image of this shape alone."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(program.module(), (torch.zeros(1, *shape),), strict=False)
    except Exception as error:  # guards of the program, for example
        first = (str(error).strip() or "no message").splitlines()[0]
        raise ModelError(f"{path} does not take one image {shape}: {type(error).__name__}: {first}") from error
