"""Fully connected layers, forward and backward."""

from __future__ import annotations

from collections.abc import Mapping

from faceoff.core.spec import DenseSpec
from faceoff.reference.arithmetic import Array
from faceoff.reference.layers import Backward, Forward, activate, activate_backward, affine, affine_backward


def forward(
    spec: DenseSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array], training: bool, fine: bool = False
) -> Forward:
    """Logits `(batch_size, output_size)` from `inputs["x"]` `(batch_size, input_size)`.

    Neither `training` nor `fine` has an effect.
    """
    values = [inputs["x"]]
    for index in range(spec.num_layers):
        y = affine(values[-1], weights[f"layer.{index}.weight"], weights[f"layer.{index}.bias"])
        last = index == spec.num_layers - 1
        values.append(y if last else activate(spec.activation, y))
    trace = {f"layer.{index}": values[index + 1] for index in range(spec.num_layers)}
    return Forward(values[-1], trace, values, {})


def backward(spec: DenseSpec, weights: Mapping[str, Array], values: list[Array], grad: Array) -> Backward:
    """Gradients from the one by the logits; `values` are the input and the output of every layer."""
    gradients: dict[str, Array] = {}
    for index in reversed(range(spec.num_layers)):
        if index < spec.num_layers - 1:
            grad = activate_backward(spec.activation, grad, values[index + 1])
        name = f"layer.{index}"
        gradients[f"{name}.weight"], gradients[f"{name}.bias"], grad = affine_backward(
            grad, values[index], weights[f"{name}.weight"]
        )
    return Backward(gradients, {"x": grad})
