"""One rule for each ATen operator that has a counterpart on a board."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suite.graph.call import Call, Value
from suite.graph.ir import Op, Weights, float_bits

Rule = Callable[[Call], Value]


def _array(value: Tensor) -> Weights:
    return np.ascontiguousarray(value.detach().to(torch.float32).numpy())


def _pair(value: Any) -> tuple[int, int]:
    """ATen writes (n, n) as n, [n] or [n, n]."""
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])


def _conv2d(call: Call) -> Value:
    source = call.rank("input", 4)
    weight = call.constant("weight")
    assert weight is not None
    if call.arg("transposed"):
        raise call.unsupported("it is a transposed convolution")
    stride, dilation = _pair(call.arg("stride")), _pair(call.arg("dilation"))
    padding = call.arg("padding")
    if padding == "valid":
        pad = (0, 0)
    elif padding == "same":
        pad = _same_padding(call, tuple(weight.shape[2:]), dilation)
    else:
        pad = _pair(padding)
    attrs = {
        "stride_h": stride[0],
        "stride_w": stride[1],
        "pad_h": pad[0],
        "pad_w": pad[1],
        "dilation_h": dilation[0],
        "dilation_w": dilation[1],
        "groups": call.arg("groups"),
    }
    return call.emit(Op.CONV2D, (source,), attrs, _weight_and_bias(weight, call.constant("bias")))


def _same_padding(call: Call, kernel: tuple[int, ...], dilation: tuple[int, int]) -> tuple[int, int]:
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if any(t % 2 for t in total):
        raise call.unsupported(f"padding='same' with the even kernel {kernel} pads one side more than the other")
    return total[0] // 2, total[1] // 2


def _weight_and_bias(weight: Tensor, bias: Tensor | None) -> dict[str, Weights]:
    return {"weight": _array(weight), "bias": _array(torch.zeros(weight.shape[0]) if bias is None else bias)}


def _linear(call: Call) -> Value:
    weight = call.constant("weight")
    assert weight is not None
    return call.emit(Op.LINEAR, (call.rank("input", 2),), None, _weight_and_bias(weight, call.constant("bias")))


def _addmm(call: Call) -> Value:
    weight, bias = call.constant("mat2"), call.constant("self")
    if weight is None or bias is None or bias.shape != weight.shape[1:]:
        raise call.unsupported("it is not a linear layer with a bias")
    if (call.arg("alpha"), call.arg("beta")) != (1, 1):
        raise call.unsupported("its alpha or beta is not 1")
    return call.emit(Op.LINEAR, (call.rank("mat1", 2),), None, _weight_and_bias(weight.t(), bias))


def _mm(call: Call) -> Value:
    weight = call.constant("mat2") if call.arg("other") is None else call.constant("other")
    if weight is None or weight.dim() != 2:
        raise call.unsupported("it is not a linear layer")
    return call.emit(Op.LINEAR, (call.rank("self", 2),), None, _weight_and_bias(weight.t(), None))


def _batch_norm(call: Call) -> Value:
    source = call.tensor("input")
    mean, var = call.constant("running_mean"), call.constant("running_var")
    if call.arg("training") or mean is None or var is None:
        raise call.unsupported("it normalises by the batch's own statistics; a board sees one image")
    weight, bias = call.constant("weight"), call.constant("bias")
    scale = 1 / torch.sqrt(var.double() + call.arg("eps"))
    if weight is not None:
        scale = scale * weight.double()
    shift = -mean.double() * scale
    if bias is not None:
        shift = shift + bias.double()
    return call.emit(Op.BATCH_NORM, (source,), None, {"scale": _array(scale), "shift": _array(shift)})


def _first_of_several(rule: Rule) -> Rule:
    """For operators that return (result, things of no use at inference)."""

    def several(call: Call) -> Value:
        result = rule(call)
        assert isinstance(result, str)
        return (result, *(None,) * (len(call.node.meta["val"]) - 1))

    return several


def _relu(call: Call) -> Value:
    return call.emit(Op.RELU, (call.tensor("self"),))


def _relu6(call: Call) -> Value:
    return call.emit(Op.RELU6, (call.tensor("self"),))


def _leaky_relu(call: Call) -> Value:
    slope = call.arg("negative_slope")
    if not 0 <= slope <= 1:
        raise call.unsupported(f"its slope is {slope}, and boards have slopes from 0 to 1")
    return call.emit(Op.LEAKY_RELU, (call.tensor("self"),), {"slope_bits": float_bits(slope)})


def _clamp(call: Call) -> Value:
    hardtanh = call.operator == "aten.hardtanh"
    low, high = (call.arg("min_val"), call.arg("max_val")) if hardtanh else (call.arg("min"), call.arg("max"))
    if low == 0 and high == 6:
        return _relu6(call)
    if low == 0 and high is None:
        return _relu(call)
    raise call.unsupported(f"it clips to [{low}, {high}], not to [0, 6]")


def _window(call: Call) -> dict[str, int]:
    kernel, pad = _pair(call.arg("kernel_size")), _pair(call.arg("padding"))
    stride = _pair(call.arg("stride") or kernel)
    return {
        "kernel_h": kernel[0],
        "kernel_w": kernel[1],
        "stride_h": stride[0],
        "stride_w": stride[1],
        "pad_h": pad[0],
        "pad_w": pad[1],
    }


def _max_pool2d(call: Call) -> Value:
    dilation = _pair(call.arg("dilation"))
    attrs = _window(call) | {
        "dilation_h": dilation[0],
        "dilation_w": dilation[1],
        "ceil": int(call.arg("ceil_mode")),
    }
    return call.emit(Op.MAX_POOL2D, (call.rank("self", 4),), attrs)


def _avg_pool2d(call: Call) -> Value:
    if call.arg("divisor_override") is not None:
        raise call.unsupported("it overrides the divisor")
    attrs = _window(call) | {
        "ceil": int(call.arg("ceil_mode")),
        "count_include_pad": int(call.arg("count_include_pad")),
    }
    return call.emit(Op.AVG_POOL2D, (call.rank("self", 4),), attrs)


def _adaptive_avg_pool2d(call: Call) -> Value:
    source = call.rank("self", 4)
    out_h, out_w = (int(d) for d in call.made().shape[2:])
    if (out_h, out_w) == call.shapes[source][1:]:
        return source
    return call.emit(Op.ADAPTIVE_AVG_POOL2D, (source,), {"out_h": out_h, "out_w": out_w})


def _mean(call: Call) -> Value:
    source = call.rank("self", 4)
    if sorted(d % 4 for d in call.arg("dim") or ()) != [2, 3]:
        raise call.unsupported(f"it averages over dimensions {call.arg('dim')}, not over height and width")
    channels = call.shapes[source][0]
    one = {"out_h": 1, "out_w": 1}
    if call.arg("keepdim"):
        return call.emit(Op.ADAPTIVE_AVG_POOL2D, (source,), one)
    pooled = call.emit(Op.ADAPTIVE_AVG_POOL2D, (source,), one, shape=(channels, 1, 1), suffix="_pool")
    return call.emit(Op.FLATTEN, (pooled,))


def _add(call: Call) -> Value:
    if call.arg("alpha") != 1:
        raise call.unsupported("its alpha is not 1")
    inputs = call.tensor("self"), call.tensor("other")
    if call.shapes[inputs[0]] != call.shapes[inputs[1]]:
        raise call.unsupported(f"it adds tensors of shapes {call.shapes[inputs[0]]} and {call.shapes[inputs[1]]}")
    return call.emit(Op.ADD, inputs)


def _concat(call: Call) -> Value:
    inputs = tuple(call.name_of(argument, "tensors") for argument in call.arg("tensors"))
    if call.arg("dim") % (len(call.shapes[inputs[0]]) + 1) != 1:
        raise call.unsupported(f"it joins along dimension {call.arg('dim')}, not along the channels")
    return inputs[0] if len(inputs) == 1 else call.emit(Op.CONCAT, inputs)


def _reshape(call: Call) -> Value:
    source = call.tensor("self")
    shape = tuple(call.made().shape)
    if shape == (1, *call.shapes[source]):
        return source
    if len(shape) != 2 or shape[0] != 1:
        raise call.unsupported(f"it turns {(1, *call.shapes[source])} into {shape}, and boards only flatten an image")
    return call.emit(Op.FLATTEN, (source,))


def _nothing(call: Call) -> Value:
    source = call.tensor("input" if call.arg("input") is not None else "self")
    if call.arg("train"):
        raise call.unsupported("it drops values in eval mode too (training=True)")
    if call.made().dtype != torch.float32:
        raise call.unsupported(f"it converts to {call.made().dtype}, and boards compute in float32")
    return source


def _softmax(call: Call) -> Value:
    source = call.rank("self", 2)
    if call.arg("dim") % 2 != 1:
        raise call.unsupported(f"it runs over dimension {call.arg('dim')}, not over the classes")
    return call.emit(Op.SOFTMAX, (source,))


def _check_only(call: Call) -> Value:
    return None


RULES: Mapping[str, Rule] = {
    "aten.conv2d": _conv2d,
    "aten.convolution": _conv2d,
    "aten._convolution": _conv2d,
    "aten.linear": _linear,
    "aten.addmm": _addmm,
    "aten.mm": _mm,
    "aten.matmul": _mm,
    "aten.batch_norm": _batch_norm,
    "aten._native_batch_norm_legit_no_training": _first_of_several(_batch_norm),
    "aten.native_batch_norm": _first_of_several(_batch_norm),
    "aten.relu": _relu,
    "aten.relu6": _relu6,
    "aten.leaky_relu": _leaky_relu,
    "aten.hardtanh": _clamp,
    "aten.clamp": _clamp,
    "aten.clamp_min": _clamp,
    "aten.max_pool2d": _max_pool2d,
    "aten.max_pool2d_with_indices": _first_of_several(_max_pool2d),
    "aten.avg_pool2d": _avg_pool2d,
    "aten.adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "aten._adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "aten.mean": _mean,
    "aten.add": _add,
    "aten.cat": _concat,
    "aten.concat": _concat,
    "aten.flatten": _reshape,
    "aten.view": _reshape,
    "aten._unsafe_view": _reshape,
    "aten.reshape": _reshape,
    "aten.squeeze": _reshape,
    "aten.softmax": _softmax,
    "aten._softmax": _softmax,
    "aten.dropout": _nothing,
    "aten.feature_dropout": _nothing,
    "aten.alpha_dropout": _nothing,
    "aten.clone": _nothing,
    "aten.contiguous": _nothing,
    "aten.detach": _nothing,
    "aten.alias": _nothing,
    "aten.to": _nothing,
    "aten._to_copy": _nothing,
    "aten._assert_tensor_metadata": _check_only,
    "aten.sym_size": _check_only,
}
"""ATen operators, without overload and in-place underscore, and how each becomes nodes."""
