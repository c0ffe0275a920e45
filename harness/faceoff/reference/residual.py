"""The residual network of He et al. 2016, section 4.2, with projection shortcuts, forward and backward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from faceoff.core.spec import ResidualSpec
from faceoff.reference.arithmetic import Array
from faceoff.reference.batch_norm import normalise, normalise_backward, normalise_with
from faceoff.reference.convolution import convolve, convolve_backward
from faceoff.reference.layers import Backward, Forward, affine, affine_backward, relu, relu_backward

Unit = tuple[str, str]
"""Names of a convolution and of the batch norm that follows it."""

STEM: Unit = ("stem.conv", "stem.norm")


def _units(name: str) -> tuple[Unit, Unit, Unit]:
    """The three units of a basic block; the shortcut's exists only where the size changes."""
    return (
        (f"{name}.conv1", f"{name}.norm1"),
        (f"{name}.conv2", f"{name}.norm2"),
        (f"{name}.shortcut.conv", f"{name}.shortcut.norm"),
    )


def forward(
    spec: ResidualSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array], training: bool, fine: bool = False
) -> Forward:
    """Logits `(batch_size, output_size)` from images `inputs["x"]` `(batch_size, height, width, channels)`.

    Training normalises with the batch's statistics and returns the running ones after this batch; inference uses the
    running ones and saves nothing. With `fine`, what each convolution and each batch norm returns is in the trace too.
    """
    trace: dict[str, Array] = {}
    run = _Run(spec, weights, training, trace if fine else None)
    trace["stem"] = x = relu(run.unit(STEM, inputs["x"], 1))
    inner: dict[str, Array] = {}
    for name, _, _, stride in spec.blocks():
        first, second, shortcut = _units(name)
        inside = relu(run.unit(first, x, stride))
        beside = run.unit(shortcut, x, stride) if run.has(shortcut) else x
        x = relu(run.unit(second, inside, 1) + beside)
        trace[name] = x
        inner[name] = inside
    trace["pool"] = x.mean(axis=(1, 2))
    trace["head"] = affine(trace["pool"], weights["head.weight"], weights["head.bias"])
    return Forward(trace["head"], trace, (run, trace, inner), run.statistics)


def backward(spec: ResidualSpec, weights: Mapping[str, Array], saved: Any, grad: Array) -> Backward:
    """Gradients from the one by the logits, after a training pass."""
    run, trace, inner = saved
    gradients: dict[str, Array] = run.gradients
    head = affine_backward(grad, trace["pool"], weights["head.weight"])
    gradients["head.weight"], gradients["head.bias"], by_pool = head
    shape = trace[spec.blocks()[-1][0]].shape
    grad = np.zeros_like(by_pool, shape=shape) + (by_pool / (shape[1] * shape[2]))[:, np.newaxis, np.newaxis]
    for name, _, _, _ in reversed(spec.blocks()):
        first, second, shortcut = _units(name)
        grad = relu_backward(grad, trace[name])
        inside = relu_backward(run.unit_backward(second, grad), inner[name])
        beside = run.unit_backward(shortcut, grad) if run.has(shortcut) else grad
        grad = run.unit_backward(first, inside) + beside
    by_x = run.unit_backward(STEM, relu_backward(grad, trace["stem"]))
    return Backward(gradients, {"x": by_x})


class _Run:
    """One pass through the convolutions and batch norms, with what it leaves: saved values, statistics, gradients."""

    def __init__(
        self, spec: ResidualSpec, weights: Mapping[str, Array], training: bool, trace: dict[str, Array] | None
    ) -> None:
        self._spec, self._weights, self._training, self._trace = spec, weights, training, trace
        self._saved: dict[Unit, Any] = {}
        self.statistics: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}

    def has(self, unit: Unit) -> bool:
        return f"{unit[0]}.weight" in self._weights

    def unit(self, unit: Unit, x: Array, stride: int) -> Array:
        """Convolution, then batch norm."""
        conv, norm = unit
        y = self._traced(conv, convolve(x, self._weights[f"{conv}.weight"], stride))
        scale, bias, mean, variance = (
            self._weights[f"{norm}.{part}"] for part in ("scale", "bias", "mean", "variance")
        )
        if not self._training:
            return self._traced(norm, normalise_with(y, scale, bias, mean, variance, self._spec.epsilon))
        y, batch = normalise(y, scale, bias, self._spec.epsilon)
        share = self._share_of_new(scale)
        self.statistics[f"{norm}.mean"] = (1 - share) * mean + share * batch.mean
        self.statistics[f"{norm}.variance"] = (1 - share) * variance + share * batch.variance
        self._saved[unit] = (x, stride, batch)
        return self._traced(norm, y)

    def _share_of_new(self, like: Array) -> Array:
        """The momentum. Frameworks that are told 1 - momentum instead lose digits of it: so must the noise."""
        momentum = self._spec.momentum
        other = np.zeros_like(like, shape=()) + (1 - momentum)
        share: Array = momentum + (other - (1 - momentum))
        return share

    def _traced(self, name: str, value: Array) -> Array:
        if self._trace is not None:
            self._trace[name] = value
        return value

    def unit_backward(self, unit: Unit, grad: Array) -> Array:
        """The gradient by the input of `unit`; those by its weights are kept in `gradients`."""
        conv, norm = unit
        x, stride, batch = self._saved[unit]
        by_scale, by_bias, grad = normalise_backward(grad, self._weights[f"{norm}.scale"], batch)
        by_weight, by_x = convolve_backward(grad, x, self._weights[f"{conv}.weight"], stride)
        self.gradients.update({f"{norm}.scale": by_scale, f"{norm}.bias": by_bias, f"{conv}.weight": by_weight})
        return by_x
