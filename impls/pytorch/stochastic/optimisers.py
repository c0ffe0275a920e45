"""The steps of optimisers that are one operation, as equations; and operations on lists of tensors, one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

aten = torch.ops.aten
Tensors = Sequence[torch.Tensor]


def adam(
    weights: Tensors, gradients: Tensors, firsts: Tensors, seconds: Tensors, largest: Tensors, steps: Tensors, *,
    lr: Any, beta1: Any, beta2: Any, weight_decay: float, eps: float, amsgrad: bool, maximize: bool,
    decoupled: bool = False, **_: Any,
) -> None:  # fmt: skip
    """Kingma and Ba 2015, algorithm 1; `decoupled` decay: Loshchilov and Hutter 2019, algorithm 2. In place.

    Args:
        steps: how many there are, this one included.
        decoupled: weights decay by themselves, not by their gradients.
    """
    lr = float(lr)
    for number, (w, g, m, v) in enumerate(zip(weights, gradients, firsts, seconds, strict=True)):
        g = -g if maximize else g
        if weight_decay and decoupled:
            w.mul_(1 - lr * weight_decay)
        elif weight_decay:
            g = g + weight_decay * w
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        if amsgrad:
            v = largest[number].copy_(torch.maximum(largest[number], v))
        step = float(steps[number])
        root = v.sqrt() / math.sqrt(1 - beta2**step) + eps
        w.addcdiv_(m, root, value=-lr / (1 - beta1**step))


def adamw(*args: Any, **constants: Any) -> None:
    """As `adam`, with decoupled decay."""
    adam(*args, **constants, decoupled=True)


def sgd(
    weights: Tensors, gradients: Tensors, velocities: Tensors, *, weight_decay: float, momentum: float, lr: Any,
    dampening: float, nesterov: bool, maximize: bool, is_first_step: bool, **_: Any,
) -> None:  # fmt: skip
    """Gradient descent, with momentum if it is not zero. In place."""
    for number, (w, g) in enumerate(zip(weights, gradients, strict=True)):
        g = -g if maximize else g
        if weight_decay:
            g = g + weight_decay * w
        if momentum:
            v = velocities[number]
            if is_first_step:
                v.copy_(g)
            else:
                v.mul_(momentum).add_(g, alpha=1 - dampening)
            g = g + momentum * v if nesterov else v
        w.add_(g, alpha=-float(lr))


def adagrad(
    weights: Tensors, gradients: Tensors, squares: Tensors, steps: Tensors, *, lr: Any, lr_decay: float,
    weight_decay: float, eps: float, maximize: bool, **_: Any,
) -> None:  # fmt: skip
    """Duchi, Hazan and Singer 2011. In place."""
    for w, g, s, step in zip(weights, gradients, squares, steps, strict=True):
        g = -g if maximize else g
        if weight_decay:
            g = g + weight_decay * w
        s.addcmul_(g, g)
        w.addcdiv_(g, s.sqrt() + eps, value=-float(lr) / (1 + (float(step) - 1) * lr_decay))


FUSED = {"_fused_adam_": adam, "_fused_adamw_": adamw, "_fused_sgd_": sgd, "_fused_adagrad_": adagrad}

_EACH = {"norm": aten.linalg_vector_norm, "max": aten.max}
_WITH_NUMBERS = {"maximum": aten.clamp_min, "minimum": aten.clamp_max}


def one_by_one(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any] | None:
    """An operation on lists of tensors, `_foreach_add_`: the plain one for each.

    Returns:
        What these return; None of an operation in place.
    """
    base = name.removeprefix("_foreach_")
    first = next(value for value in args if isinstance(value, (list, tuple)))
    results = []
    for number in range(len(first)):
        own = [value[number] if isinstance(value, (list, tuple)) else value for value in args]
        named = {key: value[number] if isinstance(value, (list, tuple)) else value for key, value in kwargs.items()}
        if base.rstrip("_") in ("addcmul", "addcdiv") and len(own) == 4:
            factor = own.pop()
            named = {"value": factor[number].item() if isinstance(factor, torch.Tensor) else factor}
        named.pop("scalars", None)
        plain = base.rstrip("_")
        if plain in _WITH_NUMBERS and not isinstance(own[1], torch.Tensor):
            operation = _WITH_NUMBERS[plain]
            own[0] = own[0].copy_(operation(*own)) if base.endswith("_") else operation(*own)
            results.append(own[0])
            continue
        results.append(_EACH.get(base, getattr(aten, base, None))(*own, **named))
    return None if base.endswith("_") else results
