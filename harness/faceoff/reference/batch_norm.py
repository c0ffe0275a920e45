"""Batch normalisation over the last axis (Ioffe and Szegedy 2015), forward and backward."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from faceoff.reference.arithmetic import Array


class BatchStatistics(NamedTuple):
    """Mean, biased variance, 1 / sqrt(variance + epsilon), each `(channels,)`, and the normalised x `(n, channels)`."""

    mean: Array
    variance: Array
    inverse: Array
    normal: Array


def normalise(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, BatchStatistics]:
    """With the batch's own statistics, over every axis of x `(..., channels)` but the last."""
    rows = x.reshape(-1, x.shape[-1])
    mean = rows.mean(axis=0)
    centred = rows - mean
    variance = (centred**2).mean(axis=0)
    inverse = 1 / np.sqrt(variance + epsilon)
    normal = centred * inverse
    y = normal * scale + bias
    return y.reshape(x.shape), BatchStatistics(mean, variance, inverse, normal)


def normalise_backward(grad: Array, scale: Array, batch: BatchStatistics) -> tuple[Array, Array, Array]:
    """Gradients by scale, bias and x; the mean and the variance depend on x too."""
    rows = grad.reshape(-1, grad.shape[-1])
    by_scale = (rows * batch.normal).sum(axis=0)
    by_bias = rows.sum(axis=0)
    by_x = scale * batch.inverse * (rows - by_bias / len(rows) - batch.normal * (by_scale / len(rows)))
    return by_scale, by_bias, by_x.reshape(grad.shape)


def normalise_with(x: Array, scale: Array, bias: Array, mean: Array, variance: Array, epsilon: float) -> Array:
    """With given statistics, as in inference."""
    y: Array = (x - mean) / np.sqrt(variance + epsilon) * scale + bias
    return y
