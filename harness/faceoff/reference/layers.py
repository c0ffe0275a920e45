"""Pieces that the model families share: affine layer, activations, softmax cross-entropy; forward and backward."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from faceoff.reference.arithmetic import Array


class Forward(NamedTuple):
    """What a family's `forward` returns.

    Attributes:
        logits: `(batch_size, output_size)`, or with a time axis in the middle.
        trace: intermediate values by `faceoff.core.weights.trace_names`, canonical layouts.
        saved: what the family's `backward` needs.
        statistics: running statistics after this batch; empty unless a training pass has any.
    """

    logits: Array
    trace: dict[str, Array]
    saved: Any
    statistics: dict[str, Array]


class Backward(NamedTuple):
    """What a family's `backward` returns: gradients by canonical weight name and by input name."""

    weights: dict[str, Array]
    inputs: dict[str, Array]


def affine(x: Array, weight: Array, bias: Array) -> Array:
    """y = W x + b on the last axis: `(..., input_size)` to `(..., output_size)`."""
    y: Array = x.reshape(-1, x.shape[-1]) @ weight.T + bias
    return y.reshape(*x.shape[:-1], -1)


def affine_backward(grad: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Gradients by weight, bias and x, from the one `(..., output_size)` by y; one product over all leading axes."""
    flat = grad.reshape(-1, grad.shape[-1])
    by_weight = flat.T @ x.reshape(-1, x.shape[-1])
    return by_weight, flat.sum(axis=0), (flat @ weight).reshape(x.shape)


def relu(x: Array) -> Array:
    """max(x, 0). NumPy orders complex numbers by their real part first, so the complex-step derivative holds too."""
    y: Array = np.maximum(x, 0)
    return y


def relu_backward(grad: Array, y: Array) -> Array:
    """The gradient by x from the one by y = relu(x); 0 where y is 0."""
    by_x: Array = grad * (y > 0)
    return by_x


def activate(kind: str, x: Array) -> Array:
    """`relu` or `tanh` of x."""
    return relu(x) if kind == "relu" else np.tanh(x)


def activate_backward(kind: str, grad: Array, y: Array) -> Array:
    """The gradient by x from the one by y = activate(kind, x)."""
    return relu_backward(grad, y) if kind == "relu" else grad * (1 - y**2)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written with tanh so that no x overflows."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def softmax_cross_entropy(logits: Array, targets: Array) -> tuple[Array, Array]:
    """The mean over all leading axes of -log softmax(logits)[target].

    Args:
        logits: `(..., output_size)`.
        targets: class numbers `(...)`.

    Returns:
        The loss `()` and its gradient by the logits.
    """
    scores = logits.reshape(-1, logits.shape[-1])
    at_target = (np.arange(targets.size), targets.reshape(-1))
    shifted = scores - scores.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    totals = exponentials.sum(axis=1, keepdims=True)
    loss = (np.log(totals[:, 0]) - shifted[at_target]).mean()
    grad = exponentials / totals
    grad[at_target] -= 1
    return loss, (grad / targets.size).reshape(logits.shape)
