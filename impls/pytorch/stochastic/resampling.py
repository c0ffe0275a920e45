"""Interpolation, backward: how the gradient by what was interpolated follows from the weights of the pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._decomp import decomposition_table

aten = torch.ops.aten
Tensor = torch.Tensor


def _spreading(forward: Any, taps: int) -> Callable[..., Tensor]:
    """Spreads the gradient over the `taps` pixels along each axis that `forward` weighs, with its rounded weights."""

    def compute(
        grad: Tensor, output_size: Sequence[int], input_size: Sequence[int], align_corners: bool, *scales: Any
    ) -> Tensor:
        for number, (incoming, outgoing) in enumerate(zip(input_size[2:], output_size, strict=True)):
            basis = torch.eye(incoming, dtype=torch.float64).reshape(1, incoming, incoming, 1)
            scale = scales[number] if number < len(scales) else None
            weights = forward(basis, [outgoing, 1], align_corners, scale, None)[0, :, :, 0]
            _, places = weights.abs().topk(min(taps, incoming), 0)
            axis = number + 2
            spread = grad.new_zeros([*grad.shape[:axis], incoming, *grad.shape[axis + 1 :]])
            for place in places:
                weight = weights.gather(0, place.unsqueeze(0)).reshape(-1, *[1] * (grad.dim() - axis - 1))
                spread = spread.index_add(axis, place, grad * weight)
            grad = spread
        return grad

    return compute


def differentiated(compute: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    """The gradients by `inputs`, from the one by `compute(*inputs)`; operations of both passes are seen by the mode."""
    keys, include = torch._C.DispatchKey, torch._C._SetExcludeDispatchKeyGuard
    # What handles an operation is called below autograd, which is off there.
    with include(keys.AutogradFunctionality, False), include(keys.ADInplaceOrView, False), torch.enable_grad():
        inputs = [x.detach().requires_grad_() for x in inputs]
        return torch.autograd.grad(compute(*inputs), inputs, grad, materialize_grads=True)


def grid_sampler_backward(
    grad: Tensor, x: Tensor, grid: Tensor, kind: int, padding: int, align_corners: bool, wanted: Sequence[bool]
) -> tuple[Tensor | None, Tensor]:
    """By the image and by the places where it is looked at."""
    forward = decomposition_table[aten.grid_sampler_2d.default]
    by_x, by_grid = differentiated(lambda *a: forward(*a, kind, padding, align_corners), [x, grid], grad)
    return (by_x if wanted[0] else None), by_grid


LINEAR = _spreading(aten.upsample_bilinear2d.default, 2)
CUBIC = _spreading(aten.upsample_bicubic2d.default, 4)

RESAMPLING: dict[str, Callable[..., Any]] = {
    "upsample_linear1d_backward": LINEAR,
    "upsample_bilinear2d_backward": LINEAR,
    "upsample_trilinear3d_backward": LINEAR,
    "upsample_bicubic2d_backward": CUBIC,
    "grid_sampler_2d_backward": grid_sampler_backward,
}
