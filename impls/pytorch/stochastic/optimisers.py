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

# Of lists of tensors: what the plain operation is called, with another tensor and with a number.
_PLAIN = {"norm": "linalg_vector_norm"}
_WITH_NUMBERS = {"maximum": "clamp_min", "minimum": "clamp_max"}
_WITH_FACTORS = ("addcmul", "addcdiv")


def one_by_one(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any] | None:
    """An operation on lists of tensors, `_foreach_add_`: the plain one for each.

    Returns:
        What these return; None of an operation in place.
    """
    base = name.removeprefix("_foreach_")
    if base.rstrip("_") in _WITH_FACTORS and isinstance(args[-1], torch.Tensor):
        args = (*args[:-1], args[-1].tolist())
    count = next(len(value) for value in args if isinstance(value, (list, tuple)))
    found = []
    for number in range(count):
        named = {key: _own(value, number) for key, value in kwargs.items()}
        found.append(_one(base, *(_own(value, number) for value in args), **named))
    return None if base.endswith("_") else found


def _own(value: Any, number: int) -> Any:
    return value[number] if isinstance(value, (list, tuple)) else value


def _one(base: str, *args: Any, **kwargs: Any) -> Any:
    plain = base.rstrip("_")
    if plain == "powsum":
        return args[0].abs().pow(args[1]).sum()
    if plain in _WITH_FACTORS and len(args) == 4:
        *args, kwargs["value"] = args
    if plain in _WITH_NUMBERS and not isinstance(args[1], torch.Tensor):
        plain = _WITH_NUMBERS[plain]
    operation = getattr(aten, _PLAIN.get(plain, plain) + ("_" if base.endswith("_") else ""))
    return operation(*args, **kwargs)
