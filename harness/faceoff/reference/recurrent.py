"""Stacked recurrent layers and the dense head on them, forward and backward; `rnn` and `lstm` hold a layer's steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from faceoff.core.spec import LstmSpec, RecurrentSpec
from faceoff.reference import lstm, rnn
from faceoff.reference.arithmetic import Array
from faceoff.reference.layers import Backward, Forward, affine, affine_backward


def _cell(spec: RecurrentSpec) -> Any:
    return lstm if isinstance(spec, LstmSpec) else rnn


def forward(
    spec: RecurrentSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array], training: bool, fine: bool = False
) -> Forward:
    """The stack of layers, then the head.

    Args:
        inputs: `x` `(batch_size, sequence_length, input_size)`; states `(num_layers, batch_size, hidden_size)`.
        training, fine: have no effect.

    Returns:
        Logits `(batch_size, output_size)`, or `(batch_size, sequence_length, output_size)` for many-to-many.
    """
    hidden = inputs["x"].swapaxes(0, 1)
    trace, saved = {}, []
    for index in range(spec.num_layers):
        name, below = f"layer.{index}", hidden
        projected = affine(below, weights[f"{name}.weight_ih"], weights[f"{name}.bias"])
        states = tuple(inputs[state][index] for state in spec.state_names)
        hidden, steps = _cell(spec).steps(spec, projected, weights[f"{name}.weight_hh"], states)
        saved.append((below, states[0], hidden, steps))
        trace[name] = hidden.swapaxes(0, 1)
    top = hidden.swapaxes(0, 1) if spec.many_to_many else hidden[-1]
    trace["head"] = affine(top, weights["head.weight"], weights["head.bias"])
    return Forward(trace["head"], trace, saved, {})


def backward(spec: RecurrentSpec, weights: Mapping[str, Array], saved: list[Any], grad: Array) -> Backward:
    """Gradients from the one by the logits. Weight gradients are one product over all steps of all examples."""
    by_states: list[tuple[Array, ...]] = []
    gradients, grad_hidden = _head_backward(spec, weights, saved[-1][2], grad)
    for index in reversed(range(spec.num_layers)):
        name = f"layer.{index}"
        below, h0, hidden, steps = saved[index]
        weight_hh = weights[f"{name}.weight_hh"]
        grad_projected, by_state = _cell(spec).steps_backward(spec, grad_hidden, weight_hh, steps)
        previous = np.concatenate([h0[np.newaxis], hidden[:-1]])
        rows = grad_projected.reshape(-1, grad_projected.shape[-1])
        gradients[f"{name}.weight_hh"] = rows.T @ previous.reshape(-1, spec.hidden_size)
        gradients[f"{name}.weight_ih"], gradients[f"{name}.bias"], grad_hidden = affine_backward(
            grad_projected, below, weights[f"{name}.weight_ih"]
        )
        by_states.insert(0, by_state)
    by_input = {
        state: np.stack(layers) for state, layers in zip(spec.state_names, zip(*by_states, strict=True), strict=True)
    }
    return Backward(gradients, {"x": grad_hidden.swapaxes(0, 1), **by_input})


def _head_backward(
    spec: RecurrentSpec, weights: Mapping[str, Array], top: Array, grad: Array
) -> tuple[dict[str, Array], Array]:
    """Gradients by the head's weights, and by the top layer's hidden states as far as the head sees them."""
    if spec.many_to_many:
        by_weight, by_bias, grad_hidden = affine_backward(grad.swapaxes(0, 1), top, weights["head.weight"])
    else:
        grad_hidden = np.zeros_like(top)
        by_weight, by_bias, grad_hidden[-1] = affine_backward(grad, top[-1], weights["head.weight"])
    return {"head.weight": by_weight, "head.bias": by_bias}, grad_hidden


def through_time(
    spec: RecurrentSpec, weights: Mapping[str, Array], saved: list[Any], grad: Array
) -> tuple[dict[str, Array], Array]:
    """The states before each time step, and the loss's gradient by each of these hidden states, in one backward pass.

    Args:
        spec: one layer, many-to-one: then h_t acts on the loss through the later time steps alone.
        grad: by the logits.

    Returns:
        `{"h0": ..., "c0": ...}` with h_t and c_t, and dLoss/dh_t; each `(sequence_length, batch_size, hidden_size)`,
        t = 0 (the initial state) to sequence_length - 1.
    """
    ((_, h0, hidden, steps),) = saved
    states = [np.concatenate([h0[np.newaxis], hidden[:-1]])]
    if isinstance(spec, LstmSpec):
        states.append(lstm.cells_before(steps))
    _, grad_hidden = _head_backward(spec, weights, hidden, grad)
    weight_hh = weights["layer.0.weight_hh"]
    grad_projected, _ = _cell(spec).steps_backward(spec, grad_hidden, weight_hh, steps)
    return dict(zip(spec.state_names, states, strict=True)), grad_projected @ weight_hh
