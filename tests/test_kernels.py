"""Every kernel against PyTorch's operator of the same name."""

import ctypes

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from c_build import aligned, kernels, pointer
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from suite.graph.packing import pack
from suite.graph.wire import Layout

torch.set_num_threads(1)

RELATIVE = 1e-4
ACTIVATIONS = {0: lambda x: x, 1: torch.relu, 2: F.relu6}


class Conv(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint32)
        for name in (
            *(
                "in_c",
                "in_h",
                "in_w",
                "out_c",
                "out_h",
                "out_w",
                "kernel_h",
                "kernel_w",
                "stride_h",
                "stride_w",
            ),
            *("pad_h", "pad_w", "dilation_h", "dilation_w", "groups", "activation"),
        )
    )


class Pool(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint32)
        for name in (
            *("channels", "in_h", "in_w", "out_h", "out_w", "kernel_h", "kernel_w", "stride_h", "stride_w"),
            *("pad_h", "pad_w", "dilation_h", "dilation_w", "count_include_pad"),
        )
    )


def close(got: np.ndarray, want: torch.Tensor) -> None:
    expected = want.numpy().reshape(-1)
    scale = np.abs(expected).max() if expected.size else 0
    np.testing.assert_allclose(got, expected, rtol=RELATIVE, atol=RELATIVE * scale)


def tensor(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def held(values: torch.Tensor) -> np.ndarray:
    array = aligned(values.numel())
    array[:] = values.numpy().reshape(-1)
    return array


def run_conv(x, w, b, stride, pad, dilation, groups, activation, plain: bool) -> np.ndarray:
    lib = kernels()
    want = F.conv2d(x[None], w, b, stride, pad, dilation, groups)[0]
    conv = Conv(*x.shape, *want.shape, *w.shape[2:], *stride, *pad, *dilation, groups, activation)
    name = "lb_conv2d_depthwise" if plain else "lb_conv2d"
    size = getattr(lib, f"{name}_scratch_bytes")(ctypes.byref(conv))
    # What lies behind the scratch and the output must stay as it is.
    scratch, out = aligned(size // 4 + 16, 7.5), aligned(want.numel() + 16, 7.5)
    weight = pack(w.numpy(), Layout.PLAIN if plain else Layout.PACKED8, groups)
    getattr(lib, name)(
        ctypes.byref(conv),
        *(pointer(a) for a in (held(x), held(torch.from_numpy(weight)), held(b), out, scratch)),
    )
    assert (scratch[size // 4 :] == 7.5).all()
    assert (out[want.numel() :] == 7.5).all()
    close(out[: want.numel()], ACTIVATIONS[activation](want))
    return out


@st.composite
def conv_cases(draw):
    pair = lambda low, high: (draw(st.integers(low, high)), draw(st.integers(low, high)))  # noqa: E731
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels = (
        groups * draw(st.integers(1, 40)),
        groups * draw(st.sampled_from([1, 3, 7, 8, 9, 16, 17, 24, 33])),
    )
    return (
        pair(1, 14),
        pair(1, 5),
        pair(1, 4),
        pair(0, 5),
        pair(1, 3),
        groups,
        channels,
        draw(st.integers(0, 2)),
    )


@settings(deadline=None, max_examples=150)
@given(conv_cases(), st.integers(0, 2**31))
def test_conv2d_of_any_geometry(case, seed):
    size, kernel, stride, pad, dilation, groups, (ic, oc), activation = case
    assume(all(n + 2 * p >= d * (k - 1) + 1 for n, p, d, k in zip(size, pad, dilation, kernel, strict=True)))
    x, w, b = tensor(seed, ic, *size), tensor(seed + 1, oc, ic // groups, *kernel), tensor(seed + 2, oc)
    run_conv(x, w, b, stride, pad, dilation, groups, activation, plain=False)


@settings(deadline=None, max_examples=100)
@given(conv_cases(), st.integers(1, 3), st.integers(0, 2**31))
def test_depthwise_conv2d_with_any_multiplier(case, multiplier, seed):
    size, kernel, stride, pad, dilation, _, (channels, _), activation = case
    assume(all(n + 2 * p >= d * (k - 1) + 1 for n, p, d, k in zip(size, pad, dilation, kernel, strict=True)))
    out = channels * multiplier
    x, w, b = tensor(seed, channels, *size), tensor(seed + 1, out, 1, *kernel), tensor(seed + 2, out)
    run_conv(x, w, b, stride, pad, dilation, channels, activation, plain=True)


@pytest.mark.parametrize(
    ("ic", "size", "oc", "kernel", "stride", "pad"),
    [
        (3, 32, 64, 11, 4, 5),
        (64, 4, 192, 5, 1, 2),
        (384, 2, 256, 3, 1, 1),
        (128, 1, 64, 3, 1, 1),
        (64, 16, 32, 3, 1, 1),
    ],
)
def test_conv2d_of_the_victims(ic, size, oc, kernel, stride, pad):
    x, w, b = tensor(0, ic, size, size), tensor(1, oc, ic, kernel, kernel), tensor(2, oc)
    run_conv(x, w, b, (stride,) * 2, (pad,) * 2, (1, 1), 1, 0, plain=False)


def test_conv2d_whose_windows_see_padding_only_is_its_bias():
    x, w, b = tensor(0, 3, 1, 1), tensor(1, 9, 3, 1, 1), tensor(2, 9)
    run_conv(x, w, b, (2, 2), (1, 1), (1, 1), 1, 0, plain=False)


def test_scratch_that_cannot_be_counted_is_refused():
    huge = Conv(2**31, 2**31, 2**31, 8, 2**31, 2**31, 4096, 4096, 1, 1, 1, 1, 1, 1, 1, 0)
    for name in ("lb_conv2d_scratch_bytes", "lb_conv2d_depthwise_scratch_bytes"):
        assert getattr(kernels(), name)(ctypes.byref(huge)) == 2**64 - 1, name


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 100), st.integers(0, 2), st.integers(0, 2**31))
def test_linear(k, o, activation, seed):
    x, w, b = tensor(seed, k), tensor(seed + 1, o, k), tensor(seed + 2, o)
    out = aligned(o)
    packed = held(torch.from_numpy(pack(w.numpy(), Layout.PACKED8, 1)))
    kernels().lb_linear(
        ctypes.c_size_t(k), ctypes.c_size_t(o), activation, *map(pointer, (held(x), packed, held(b), out))
    )
    close(out, ACTIVATIONS[activation](F.linear(x, w, b)))


@st.composite
def pool_cases(draw):
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    pad = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    stride = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return (draw(st.integers(1, 11)), draw(st.integers(1, 11))), kernel, stride, pad, draw(st.booleans())


@settings(deadline=None, max_examples=100)
@given(pool_cases(), st.integers(1, 3), st.booleans(), st.integers(0, 2**31))
def test_pools(case, dilation, include_pad, seed):
    size, kernel, stride, pad, ceil = case
    x = tensor(seed, 3, *size)
    for name, d in (("max", dilation), ("avg", 1)):
        if any(n + 2 * p < d * (k - 1) + 1 for n, p, k in zip(size, pad, kernel, strict=True)):
            continue
        if name == "max":
            want = F.max_pool2d(x[None], kernel, stride, pad, d, ceil)[0]
        else:
            want = F.avg_pool2d(x[None], kernel, stride, pad, ceil, include_pad)[0]
        pool = Pool(3, *size, *want.shape[1:], *kernel, *stride, *pad, d, d, include_pad)
        out = aligned(want.numel())
        getattr(kernels(), f"lb_{name}_pool2d")(ctypes.byref(pool), pointer(held(x)), pointer(out))
        close(out, want)


def test_max_pool_propagates_nan_as_pytorch_does():
    x = torch.tensor([[[1.0, torch.nan, 3.0, -torch.inf]]])
    out = aligned(2)
    pool = Pool(1, 1, 4, 1, 2, 1, 2, 1, 2, 0, 0, 1, 1, 0)
    kernels().lb_max_pool2d(ctypes.byref(pool), pointer(held(x)), pointer(out))
    np.testing.assert_array_equal(out, F.max_pool2d(x, (1, 2)).numpy().reshape(-1))


@settings(deadline=None, max_examples=60)
@given(*(st.integers(1, 12) for _ in range(4)), st.integers(0, 2**31))
def test_adaptive_avg_pool(in_h, in_w, out_h, out_w, seed):
    x, out = tensor(seed, 2, in_h, in_w), aligned(2 * out_h * out_w)
    kernels().lb_adaptive_avg_pool2d(ctypes.c_size_t(2), in_h, in_w, out_h, out_w, pointer(held(x)), pointer(out))
    close(out, F.adaptive_avg_pool2d(x, (out_h, out_w)))


@pytest.mark.parametrize("n", [1, 7, 8, 33])
def test_elementwise_also_in_place(n):
    lib, size = kernels(), ctypes.c_size_t(n)
    a, b = tensor(n, n) * 6, tensor(n + 1, n)
    for name, want in (("lb_relu", torch.relu(a)), ("lb_relu6", F.relu6(a))):
        data = held(a)
        getattr(lib, name)(size, pointer(data), pointer(data))
        close(data, want)
    for slope in (0.0, 0.1, 1.0):
        data = held(a)
        lib.lb_leaky_relu(size, ctypes.c_float(slope), pointer(data), pointer(data))
        close(data, F.leaky_relu(a, slope))
    for activation, apply in ACTIVATIONS.items():
        data = held(a)
        lib.lb_add(size, activation, pointer(data), pointer(held(b)), pointer(data))
        close(data, apply(a + b))
        data = held(a)
        lib.lb_batch_norm(size, ctypes.c_size_t(1), activation, *map(pointer, (data, held(b), held(b), data)))
        close(data, apply(a * b + b))


def softmax(logits: np.ndarray) -> np.ndarray:
    x, out = held(torch.from_numpy(logits.astype(np.float32))), aligned(len(logits))
    kernels().lb_softmax(ctypes.c_size_t(len(logits)), pointer(x), pointer(out))
    return out


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40))
def test_softmax_is_right_down_to_denormals(logits):
    x = np.array(logits, np.float64)
    exact = np.exp(x - x.max())
    exact /= exact.sum()
    # 1e-6 relative, and at most one step of the denormal grid.
    np.testing.assert_allclose(softmax(x), exact, rtol=1e-6, atol=1.5e-45)


def test_softmax_keeps_a_tiny_probability_and_survives_infinities():
    tiny = softmax(np.array([0.0, -100.0, -103.0, -200.0]))
    assert tiny[1] == pytest.approx(3.78e-44, rel=0.03)
    assert tiny[2] > 0
    assert tiny[3] == 0
    np.testing.assert_array_equal(softmax(np.array([-np.inf, 0.0])), [0, 1])
    for bad in ([np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]):
        np.testing.assert_array_equal(
            np.isnan(softmax(np.array(bad))), np.isnan(torch.softmax(torch.tensor(bad), 0).numpy())
        )
