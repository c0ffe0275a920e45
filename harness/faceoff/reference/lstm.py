"""The steps of one LSTM layer, forward and backward (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000).

Gates are stacked i, f, g, o. Time comes first: `(sequence_length, batch_size, ...)`. The input product is made before,
outside the time loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from faceoff.core.spec import LstmSpec
from faceoff.reference.arithmetic import Array
from faceoff.reference.following import for_many_products
from faceoff.reference.layers import sigmoid


def steps(spec: LstmSpec, projected: Array, weight_hh: Array, states: tuple[Array, ...]) -> tuple[Array, Any]:
    """All time steps.

    Args:
        projected: W_ih x_t + b of every step, `(sequence_length, batch_size, 4 * hidden_size)`.
        weight_hh: `(4 * hidden_size, hidden_size)`.
        states: `(h0, c0)`, each `(batch_size, hidden_size)`.

    Returns:
        The hidden states of all steps `(sequence_length, batch_size, hidden_size)`, and what `steps_backward` needs.
    """
    h, c = states
    hidden, saved = [], []
    recurrent = for_many_products(weight_hh.T)
    for t in range(len(projected)):
        i, f, g, o = _gates(projected[t] + h @ recurrent, spec.hidden_size)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        previous = c
        c = f * c + i * g
        tanh_c = np.tanh(c)
        h = o * tanh_c
        hidden.append(h)
        saved.append((i, f, g, o, previous, tanh_c))
    return np.stack(hidden), saved


def steps_backward(spec: LstmSpec, grad_hidden: Array, weight_hh: Array, saved: Any) -> tuple[Array, tuple[Array, ...]]:
    """Backpropagation through time.

    Args:
        grad_hidden: gradient by every hidden state from above, `(sequence_length, batch_size, hidden_size)`.
        saved: as `steps` returned.

    Returns:
        Gradients by `projected` and by the initial states `(h0, c0)`.
    """
    length, batch_size, hidden_size = grad_hidden.shape
    grad_projected = np.empty_like(grad_hidden, shape=(length, batch_size, 4 * hidden_size))
    dh = dc = np.zeros_like(grad_hidden[0])
    recurrent = for_many_products(weight_hh)
    for t in reversed(range(length)):
        i, f, g, o, previous, tanh_c = saved[t]
        dh = dh + grad_hidden[t]
        dc = dc + dh * o * (1 - tanh_c**2)
        di, df, dg, do = _gates(grad_projected[t], hidden_size)
        di[...] = dc * g * i * (1 - i)
        df[...] = dc * previous * f * (1 - f)
        dg[...] = dc * i * (1 - g**2)
        do[...] = dh * tanh_c * o * (1 - o)
        dc = dc * f
        dh = grad_projected[t] @ recurrent
    return grad_projected, (dh, dc)


def cells_before(saved: Any) -> Array:
    """The cell state before each time step, `(sequence_length, batch_size, hidden_size)`, from what `steps` saved."""
    return np.stack([previous for _, _, _, _, previous, _ in saved])


def _gates(stacked: Array, hidden_size: int) -> list[Array]:
    return [stacked[:, gate * hidden_size : (gate + 1) * hidden_size] for gate in range(4)]
