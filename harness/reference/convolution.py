"""Two-dimensional convolution over images `(batch_size, height, width, channels)`, forward and backward.

Every window of the image becomes a row, so that a convolution is one matrix product (Chellapilla et al. 2006).
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from harness.reference.arithmetic import Array


def convolve(x: Array, weight: Array, stride: int) -> Array:
    """Correlation with `weight` `(output_channels, kernel, kernel, input_channels)`, kernel odd.

    Pads (kernel - 1) / 2 zeros on every side, at any stride.

    Returns:
        `(batch_size, ceil(height / stride), ceil(width / stride), output_channels)`.
    """
    kernel = weight.shape[1]
    return _correlate(_pad(x, kernel), weight, stride)


def convolve_backward(grad: Array, x: Array, weight: Array, stride: int) -> tuple[Array, Array]:
    """Gradients by weight and x, from the one by `convolve(x, weight, stride)`."""
    outputs, kernel = weight.shape[:2]
    by_weight = grad.reshape(-1, outputs).T @ _windows(_pad(x, kernel), kernel, stride)
    # The gradient by x is again a correlation: of the gradient, spread out by the stride, with the weight turned round.
    batch_size, height, width, _ = x.shape
    spread = np.zeros_like(grad, shape=(batch_size, height + kernel - 1, width + kernel - 1, outputs))
    first = (kernel - 1) - (kernel - 1) // 2
    rows, columns = (slice(first, first + stride * size, stride) for size in grad.shape[1:3])
    spread[:, rows, columns] = grad
    turned = weight[:, ::-1, ::-1].transpose(3, 1, 2, 0)
    return by_weight.reshape(weight.shape), _correlate(spread, turned, 1)


def _pad(x: Array, kernel: int) -> Array:
    if kernel == 1:
        return x
    margin = (kernel - 1) // 2
    batch_size, height, width, channels = x.shape
    padded = np.zeros_like(x, shape=(batch_size, height + 2 * margin, width + 2 * margin, channels))
    padded[:, margin:-margin, margin:-margin] = x
    return padded


def _windows(padded: Array, kernel: int, stride: int) -> Array:
    """Windows as rows, `(batch_size * output_height * output_width, kernel * kernel * channels)`."""
    windows = sliding_window_view(padded, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, kernel * kernel * padded.shape[3])


def _correlate(padded: Array, weight: Array, stride: int) -> Array:
    outputs, kernel = weight.shape[:2]
    height, width = ((size - kernel) // stride + 1 for size in padded.shape[1:3])
    y: Array = _windows(padded, kernel, stride) @ weight.reshape(outputs, -1).T
    return y.reshape(-1, height, width, outputs)
