"""The steps of one vanilla recurrent layer, h_t = activation(W_ih x_t + W_hh h_{t-1} + b), forward and backward.

Time comes first: `(sequence_length, batch_size, hidden_size)`. The input product is made before, outside the time loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from faceoff.core.spec import RnnSpec
from faceoff.reference.arithmetic import Array
from faceoff.reference.following import for_many_products
from faceoff.reference.layers import activate, activate_backward


def steps(spec: RnnSpec, projected: Array, weight_hh: Array, states: tuple[Array, ...]) -> tuple[Array, Any]:
    """All time steps.

    Args:
        projected: W_ih x_t + b of every step, `(sequence_length, batch_size, hidden_size)`.
        weight_hh: `(hidden_size, hidden_size)`.
        states: `(h0,)`, `(batch_size, hidden_size)`.

    Returns:
        The hidden states of all steps, and what `steps_backward` needs.
    """
    (h,) = states
    outputs = []
    recurrent = for_many_products(weight_hh.T)
    for t in range(len(projected)):
        h = activate(spec.activation, projected[t] + h @ recurrent)
        outputs.append(h)
    hidden = np.stack(outputs)
    return hidden, hidden


def steps_backward(
    spec: RnnSpec, grad_hidden: Array, weight_hh: Array, hidden: Array
) -> tuple[Array, tuple[Array, ...]]:
    """Backpropagation through time (Werbos 1990).

    Args:
        grad_hidden: gradient by every hidden state from above, `(sequence_length, batch_size, hidden_size)`.
        hidden: as `steps` returned.

    Returns:
        Gradients by `projected` and by the initial states.
    """
    grad_projected = np.empty_like(grad_hidden)
    dh = np.zeros_like(grad_hidden[0])
    recurrent = for_many_products(weight_hh)
    for t in reversed(range(len(grad_hidden))):
        grad_projected[t] = activate_backward(spec.activation, dh + grad_hidden[t], hidden[t])
        dh = grad_projected[t] @ recurrent
    return grad_projected, (dh,)
