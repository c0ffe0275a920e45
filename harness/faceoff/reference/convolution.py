"""Two-dimensional convolution over images `(batch_size, height, width, channels)`, forward and backward.

Every window of the image becomes a row, so that a convolution is a matrix product (Chellapilla et al. 2006); a few
images at a time, because the rows take the memory of the image once for each weight of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from faceoff.reference.arithmetic import Array
from faceoff.reference.following import sum_of_products

ROWS_SIZE = 2**17
"""Elements of all rows at a time, about 1 MB, which processors hold close by."""


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
    by_weight = sum_of_products(
        (grad[images].reshape(-1, outputs).T, rows) for images, rows in _rows(_pad(x, kernel), kernel, stride)
    )
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


def _rows(padded: Array, kernel: int, stride: int) -> Iterator[tuple[slice, Array]]:
    """Some images, and their windows as rows `(images * output_height * output_width, kernel * kernel * channels)`."""
    windows = sliding_window_view(padded, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
    windows = windows.transpose(0, 1, 2, 4, 5, 3)
    at_a_time = max(1, ROWS_SIZE // windows[0].size)
    for begin in range(0, len(windows), at_a_time):
        images = slice(begin, begin + at_a_time)
        yield images, windows[images].reshape(-1, kernel * kernel * padded.shape[3])


def _correlate(padded: Array, weight: Array, stride: int) -> Array:
    outputs, kernel = weight.shape[:2]
    height, width = ((size - kernel) // stride + 1 for size in padded.shape[1:3])
    by_row = weight.reshape(outputs, -1).T
    y = np.zeros_like(
        padded, shape=(len(padded), height, width, outputs), dtype=np.result_type(padded.dtype, weight.dtype)
    )
    for images, rows in _rows(padded, kernel, stride):
        y[images] = (rows @ by_row).reshape(-1, height, width, outputs)
    return y
