"""Tracing a PyTorch model into a list of ATen calls with the values of its constants."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram

from suite.graph.ir import GraphError


@dataclass(frozen=True, slots=True)
class Capture:
    """A traced model: calls in order, the image's placeholder, the result, and every constant's value."""

    nodes: tuple[fx.Node, ...]
    image: fx.Node
    result: fx.Node
    constants: Mapping[fx.Node, Tensor]


def capture(model: nn.Module, input_shape: tuple[int, ...]) -> Capture:
    """Trace ``model`` in eval mode for one image of ``input_shape`` (no batch); the model stays as it was.

    Raises:
        GraphError: the model is not float32, takes or returns more than one tensor, or PyTorch cannot trace
        it.
    """
    _check_float32(model.named_parameters())
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    image = torch.zeros((1, *input_shape), device=device)
    with _eval_mode(model), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = _functional(torch.export.export(model, (image,), strict=False))
        except Exception as error:  # torch.export raises whatever the model's own code raises
            first = (str(error).strip() or "no message").splitlines()[0]
            raise GraphError(
                f"PyTorch cannot trace {type(model).__name__} for one image {input_shape}: "
                f"{type(error).__name__}: {first}"
            ) from error
    return _capture(program, type(model).__name__)


def capture_program(program: ExportedProgram, model: str) -> Capture:
    """As :func:`capture`, of a program that was exported for one image; ``model`` names it in messages.

    Raises:
        GraphError: it is not float32, or takes or returns more than one tensor.
    """
    _check_float32(program.named_parameters())
    return _capture(_functional(program), model)


def _check_float32(parameters: Iterable[tuple[str, Tensor]]) -> None:
    for name, parameter in parameters:
        if parameter.dtype != torch.float32:
            raise GraphError(f"parameter {name!r} is {parameter.dtype}; boards compute in float32: call model.float()")


def _functional(program: ExportedProgram) -> ExportedProgram:
    return program if _in_place_is_harmless(program.graph) else program.run_decompositions({})


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _capture(program: ExportedProgram, model: str) -> Capture:
    signature = program.graph_signature
    if len(signature.user_inputs) != 1 or len(signature.user_outputs) != 1:
        raise GraphError(
            f"{model} takes {len(signature.user_inputs)} inputs and returns {len(signature.user_outputs)} "
            "outputs; a board runs models with one of each"
        )
    if changed := sorted(signature.buffers_to_mutate.values()):
        raise GraphError(f"{model} changes its buffer {changed[0]!r} in eval mode; boards keep no state")
    held = {**program.state_dict, **program.constants}
    targets = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    nodes = tuple(program.graph.nodes)
    constants = {
        node: held[targets[node.name]].detach() for node in nodes if node.op == "placeholder" and node.name in targets
    }
    by_name = {node.name: node for node in nodes}
    image, result = (by_name.get(str(name[0])) for name in (signature.user_inputs, signature.user_outputs))
    if image is None or result is None:
        raise GraphError(f"{model} does not map one tensor to one tensor")
    return Capture(tuple(n for n in nodes if n.op not in ("placeholder", "output")), image, result, constants)


_FRESH = re.compile(
    r"aten\.(conv|_conv|addmm|mm|linear|batch_norm|_native_batch_norm|native_batch_norm|relu\b|relu6|hardtanh\b|"
    r"max_pool|avg_pool|adaptive_avg_pool|leaky_relu|mean|add\b|cat|softmax|_softmax|clone)"
)
"""Operators whose result shares no memory with their arguments."""


def _in_place_is_harmless(graph: fx.Graph) -> bool:
    """Whether no in-place call changes a value that anything but its own result is read from.

    Then ``relu_`` may be read as ``relu``. Otherwise the program must be made functional, which takes PyTorch
    longer than the trace itself.
    """
    for node in graph.nodes:
        if not (isinstance(node.target, OpOverload) and node.target._schema.is_mutable):
            continue
        value = node.args[0]
        while isinstance(value, fx.Node):
            if len(value.users) != 1:
                return False
            if value.op != "call_function" or _FRESH.match(str(value.target)):
                break
            value = value.args[0] if value.args else None
    return True
