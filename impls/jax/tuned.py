"""Networks of the mode `tuned`: a backward pass through time by hand, and one tanh for all gates of an LSTM."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from faceoff.core.spec import LstmSpec, RnnSpec
from faceoff.core.tuning import BACKWARD, ONE_TANH, does

from . import lstm, rnn, through_time
from .gpu import on_gpu


class Rnn(rnn.Network):
    """The same layers with a backward pass through time by hand."""

    # What `Module.train` and `Module.eval` set.
    deterministic = True

    def __init__(self, spec: RnnSpec, dtype: Any, rngs: nnx.Rngs) -> None:
        super().__init__(spec, dtype, rngs)
        self.activation = spec.activation

    def __call__(self, x: jax.Array, h0: jax.Array) -> jax.Array:
        """As `rnn.Network`."""
        if self.deterministic:
            return super().__call__(x, h0)
        hidden = x.swapaxes(0, 1)
        for index, layer in enumerate(self.layers):
            cell = layer.cell
            weights = cell.dense_i.kernel[...], cell.dense_h.kernel[...], cell.dense_i.bias[...]
            hidden = through_time.rnn(self.activation, hidden, h0[index], *weights)
            self.sow(nnx.Intermediate, f"layer.{index}", hidden.swapaxes(0, 1))
        return self.head(hidden.swapaxes(0, 1) if self.many_to_many else hidden[-1])


class OneTanhCell(lstm.Cell):
    """The same cell with one tanh for all gates."""

    def __call__(
        self, carry: tuple[jax.Array, jax.Array], inputs: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        """As `lstm.Cell`."""
        c, h = carry
        i, f, g, o = through_time.by_one_tanh(self.sums(inputs, h))
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (c, h), h


class OneTanhCellLstm(lstm.Network):
    """The same layers with one tanh for all gates, and the backward pass that JAX derives."""

    CELL = OneTanhCell


class Lstm(lstm.Network):
    """The same layers with a backward pass through time by hand."""

    GATES = staticmethod(through_time.separately)
    deterministic = True

    def __call__(self, x: jax.Array, h0: jax.Array, c0: jax.Array) -> jax.Array:
        """As `lstm.Network`."""
        if self.deterministic:
            return super().__call__(x, h0, c0)
        hidden = x.swapaxes(0, 1)
        for index, layer in enumerate(self.layers):
            cell = layer.cell
            weights = cell.dense_i.kernel[...], cell.dense_h.kernel[...], cell.dense_h.bias[...]
            hidden = through_time.lstm(self.GATES, hidden, h0[index], c0[index], *weights)
            self.sow(nnx.Intermediate, f"layer.{index}", hidden.swapaxes(0, 1))
        return self.head(hidden.swapaxes(0, 1) if self.many_to_many else hidden[-1])


class OneTanhLstm(Lstm):
    """The same with one tanh for all gates."""

    CELL = OneTanhCell
    GATES = staticmethod(through_time.by_one_tanh)


def choose_network(spec: RnnSpec | LstmSpec, mode: str) -> type[nnx.Module]:
    """The network of a recurrent model in the mode `tuned`, whole or without one of its settings."""
    by_hand, one_tanh = does(mode, BACKWARD), does(mode, ONE_TANH) and not on_gpu()
    if isinstance(spec, RnnSpec):
        return Rnn if by_hand else rnn.Network
    networks: dict[tuple[bool, bool], type[nnx.Module]] = {
        (True, True): OneTanhLstm,
        (True, False): Lstm,
        (False, True): OneTanhCellLstm,
        (False, False): lstm.Network,
    }
    return networks[by_hand, one_tanh]
