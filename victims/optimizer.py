"""SGD whose fused kernel never has to rearrange a tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class DenseSGD(torch.optim.SGD):
    """``torch.optim.SGD(fused=True)`` on views in which every parameter is contiguous.

    PyTorch's fused kernel first copies parameters that lie channels last, which makes an update three times
    as long. It is elementwise, so a permuted view of parameter, gradient and momentum gives the same numbers.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], **settings: Any) -> None:
        self._learned = list(parameters)
        super().__init__([_dense(p.detach(), p) for p in self._learned], fused=True, **settings)

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the parameters from their gradients."""
        assert closure is None, "closures are not supported"
        for learned, dense in zip(self._learned, self.param_groups[0]["params"], strict=True):
            dense.grad = None if learned.grad is None else _dense(learned.grad, learned)
        super().step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        assert set_to_none, "gradients are always forgotten, never cleared"
        for learned in self._learned:
            learned.grad = None


def _dense(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """``tensor``, with its axes in the order in which ``parameter`` lies in memory."""
    if parameter.dim() != 4 or parameter.is_contiguous():
        return tensor.contiguous()
    return tensor.permute(0, 2, 3, 1).contiguous()
