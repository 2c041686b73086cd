"""Every kernel of training against what PyTorch's autograd says."""

import ctypes

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from c_build import aligned, kernels, pointer
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_kernels import Conv, Pool, close, conv_cases, held, pool_cases, tensor

from suite.graph.packing import pack
from suite.graph.wire import Layout

torch.set_num_threads(1)
GUARD = 7.5


class Sgd(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_float) for name in ("learning_rate", "momentum", "weight_decay"))


def size(n: int) -> ctypes.c_size_t:
    return ctypes.c_size_t(n)


def library() -> ctypes.CDLL:
    lib = kernels()
    for name in ("lb_conv2d_backward_input_scratch_bytes", "lb_conv2d_backward_weight_scratch_bytes"):
        getattr(lib, name).restype = ctypes.c_size_t
    return lib


def guarded(floats: int, fill: float) -> np.ndarray:
    array = aligned(floats + 16, GUARD)
    array[:floats] = fill
    return array


def check_conv(x, w, stride, pad, dilation, groups, seed, plain: bool) -> None:
    lib = library()
    x.requires_grad_(True)
    w.requires_grad_(True)
    y = F.conv2d(x[None], w, None, stride, pad, dilation, groups)[0]
    d_out = tensor(seed + 9, *y.shape)
    y.backward(d_out)
    conv = Conv(*x.shape, *y.shape, *w.shape[2:], *stride, *pad, *dilation, groups, 0)
    layout = Layout.PLAIN if plain else Layout.PACKED8
    weight = torch.from_numpy(pack(w.detach().numpy(), layout, groups))
    d_in, d_bias = guarded(x.numel(), np.nan), guarded(w.shape[0], 1.0)
    d_weight = guarded(weight.numel(), 0.0)
    d_weight[: weight.numel()] = pack(np.ones(w.shape, np.float32), layout, groups)  # it is added to
    name = "lb_conv2d_depthwise_backward" if plain else "lb_conv2d_backward"
    scratches = []
    for what in ("input", "weight"):
        arrays = (d_out, weight, d_in) if what == "input" else (x.detach(), d_out, d_weight, d_bias)
        arguments = [pointer(a if isinstance(a, np.ndarray) else held(a)) for a in arrays]
        if not plain:
            need = getattr(lib, f"{name}_{what}_scratch_bytes")(ctypes.byref(conv))
            scratches.append(guarded(need // 4, np.nan))
            arguments.append(pointer(scratches[-1]))
        getattr(lib, f"{name}_{what}")(ctypes.byref(conv), *arguments)
    for array in (*scratches, d_in, d_weight, d_bias):
        assert (array[-16:] == GUARD).all()
    close(d_in[:-16], x.grad)
    close(d_bias[:-16] - 1, d_out.sum((1, 2)))
    close(d_weight[:-16], torch.from_numpy(pack(w.grad.numpy() + 1, layout, groups)))


@settings(deadline=None, max_examples=150)
@given(conv_cases(), st.integers(0, 2**31))
def test_conv2d_of_any_geometry(case, seed):
    in_size, kernel, stride, pad, dilation, groups, (ic, oc), _ = case
    assume(all(n + 2 * p >= d * (k - 1) + 1 for n, p, d, k in zip(in_size, pad, dilation, kernel, strict=True)))
    x, w = tensor(seed, ic, *in_size), tensor(seed + 1, oc, ic // groups, *kernel)
    check_conv(x, w, stride, pad, dilation, groups, seed, plain=False)


@settings(deadline=None, max_examples=80)
@given(conv_cases(), st.integers(1, 3), st.integers(0, 2**31))
def test_depthwise_conv2d_with_any_multiplier(case, multiplier, seed):
    in_size, kernel, stride, pad, dilation, _, (channels, _), _ = case
    assume(all(n + 2 * p >= d * (k - 1) + 1 for n, p, d, k in zip(in_size, pad, dilation, kernel, strict=True)))
    x, w = tensor(seed, channels, *in_size), tensor(seed + 1, channels * multiplier, 1, *kernel)
    check_conv(x, w, stride, pad, dilation, channels, seed, plain=True)


@pytest.mark.parametrize(
    ("ic", "in_size", "oc", "kernel", "stride", "pad"),
    [(3, 32, 16, 3, 1, 1), (32, 8, 32, 3, 1, 1), (3, 32, 64, 11, 4, 5), (64, 4, 192, 5, 1, 2), (16, 9, 24, 97, 1, 48)],
)
def test_conv2d_of_the_victims_and_a_filter_longer_than_a_panel(ic, in_size, oc, kernel, stride, pad):
    x, w = tensor(0, ic, in_size, in_size), tensor(1, oc, ic, kernel, min(kernel, 11))
    check_conv(x, w, (stride,) * 2, (pad, min(pad, 5)), (1, 1), 1, 0, plain=False)


def test_scratch_that_cannot_be_counted_is_refused():
    huge = Conv(2**31, 2**31, 2**31, 2**31, 2**31, 2**31, 4096, 4096, 1, 1, 1, 1, 1, 1, 1, 0)
    for what in ("input", "weight"):
        assert getattr(library(), f"lb_conv2d_backward_{what}_scratch_bytes")(ctypes.byref(huge)) == 2**64 - 1


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 200), st.integers(1, 100), st.integers(0, 2**31))
def test_linear(k, o, seed):
    x, w, d_out = tensor(seed, k).requires_grad_(), tensor(seed + 1, o, k).requires_grad_(), tensor(seed + 2, o)
    F.linear(x, w).backward(d_out)
    packed = pack(w.detach().numpy(), Layout.PACKED8, 1)
    d_in, d_weight, d_bias = guarded(k, np.nan), guarded(packed.size, 0.0), guarded(o, 1.0)
    lib, gradient = library(), held(d_out)
    lib.lb_linear_backward_input(
        size(k), size(o), pointer(gradient), pointer(held(torch.from_numpy(packed))), pointer(d_in)
    )
    for _ in range(2):  # it is added to
        lib.lb_linear_backward_weight(
            size(k), size(o), pointer(held(x.detach())), pointer(gradient), pointer(d_weight), pointer(d_bias)
        )
    for array in (d_in, d_weight, d_bias):
        assert (array[-16:] == GUARD).all()
    close(d_in[:-16], x.grad)
    close(d_weight[:-16] / 2, torch.from_numpy(pack(w.grad.numpy(), Layout.PACKED8, 1)))
    close(d_bias[:-16], 2 * d_out + 1)


@settings(deadline=None, max_examples=100)
@given(pool_cases(), st.integers(1, 3), st.booleans(), st.booleans(), st.integers(0, 2**31))
def test_pools(case, dilation, include_pad, ties, seed):
    in_size, kernel, stride, pad, ceil = case
    x = tensor(seed, 3, *in_size)
    x = (x.round() if ties else x).requires_grad_()
    for name, d in (("max", dilation), ("avg", 1)):
        if any(n + 2 * p < d * (k - 1) + 1 for n, p, k in zip(in_size, pad, kernel, strict=True)):
            continue
        if name == "max":
            y = F.max_pool2d(x[None], kernel, stride, pad, d, ceil)[0]
            if y.isinf().any():
                continue  # a window of padding alone: PyTorch's own gradient writes out of bounds there
        else:
            y = F.avg_pool2d(x[None], kernel, stride, pad, ceil, include_pad)[0]
        d_out = tensor(seed + 1, *y.shape)
        (want,) = torch.autograd.grad(y, x, d_out)
        pool = Pool(3, *in_size, *y.shape[1:], *kernel, *stride, *pad, d, d, include_pad)
        d_in = guarded(x.numel(), np.nan)
        arrays = (held(x.detach()), held(d_out), d_in) if name == "max" else (held(d_out), d_in)
        getattr(library(), f"lb_{name}_pool2d_backward")(ctypes.byref(pool), *map(pointer, arrays))
        assert (d_in[-16:] == GUARD).all()
        close(d_in[:-16], want)


@settings(deadline=None, max_examples=50)
@given(*(st.integers(1, 12) for _ in range(4)), st.integers(0, 2**31))
def test_adaptive_avg_pool(in_h, in_w, out_h, out_w, seed):
    x, d_out, d_in = tensor(seed, 2, in_h, in_w).requires_grad_(), tensor(1, 2, out_h, out_w), aligned(2 * in_h * in_w)
    F.adaptive_avg_pool2d(x, (out_h, out_w)).backward(d_out)
    library().lb_adaptive_avg_pool2d_backward(size(2), in_h, in_w, out_h, out_w, pointer(held(d_out)), pointer(d_in))
    close(d_in, x.grad)


@pytest.mark.parametrize("n", [1, 7, 8, 33])
def test_elementwise(n):
    x, d_out = (tensor(n, n) * 6).requires_grad_(), tensor(n + 1, n)
    for activation, apply in ((0, lambda t: t * 1), (1, torch.relu), (2, F.relu6)):
        y = apply(x)
        (want,) = torch.autograd.grad(y, x, d_out)
        d_in = held(d_out)
        library().lb_relu_backward(size(n), activation, pointer(held(y.detach())), pointer(d_in))
        close(d_in, want)
    y = torch.softmax(x, 0)
    (want,) = torch.autograd.grad(y, x, d_out, retain_graph=True)
    d_in = aligned(n)
    library().lb_softmax_backward(size(n), *map(pointer, (held(y.detach()), held(d_out), d_in)))
    close(d_in, want)
    (want,) = torch.autograd.grad(F.cross_entropy(x[None], torch.tensor([n // 2])), x)
    library().lb_cross_entropy_backward(size(n), pointer(held(y.detach())), size(n // 2), pointer(d_in))
    np.testing.assert_allclose(d_in, want, atol=1e-6)
    d_in = aligned(n)
    library().lb_batch_norm_backward(size(n), size(1), *map(pointer, (held(d_out), held(x.detach()), d_in)))
    close(d_in, d_out * x.detach())


def test_sgd_steps_as_pytorch_s_does():
    w = tensor(0, 37)
    parameter = w.clone().requires_grad_()
    weight, velocity, sgd = held(w), aligned(37, 0.0), Sgd(0.1, 0.9, 0.01)
    optimizer = torch.optim.SGD([parameter], 0.1, 0.9, weight_decay=0.01)
    for step in range(4):
        parameter.grad = tensor(step + 1, 37)
        summed = held(parameter.grad * 8)
        optimizer.step()
        library().lb_sgd_step(
            size(37), ctypes.byref(sgd), ctypes.c_float(1 / 8), *map(pointer, (summed, velocity, weight))
        )
        close(weight, parameter.detach())
        assert not summed.any()


def drop(n: int, probability: float, seed: int, fill: float = 1.0) -> np.ndarray:
    data = aligned(n, fill)
    library().lb_dropout(size(n), ctypes.c_uint32(round(probability * 2**32)), ctypes.c_uint64(seed), pointer(data))
    return data


def test_dropout_is_a_function_of_its_seed_and_scales_what_stays():
    first = drop(10000, 0.3, 1)
    np.testing.assert_array_equal(first, drop(10000, 0.3, 1))
    assert 0.27 < (first == 0).mean() < 0.33
    np.testing.assert_allclose(first[first != 0], 1 / 0.7, rtol=1e-6)
    other = drop(10000, 0.3, 2)
    assert 0.55 < ((first == 0) == (other == 0)).mean() < 0.61  # 0.58 when independent
    np.testing.assert_array_equal(drop(100, 0.0, 1), np.ones(100))
