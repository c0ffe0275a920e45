"""Networks of the mode `tuned`: recurrent layers with their backward pass through time by hand."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from harness.core.spec import RnnSpec
from impls.jax import lstm, rnn, through_time


class Rnn(rnn.Network):
    """The same layers with a backward pass through time by hand."""

    TUNED = "backward pass through time by hand"

    def __init__(self, spec: RnnSpec, dtype: Any, rngs: nnx.Rngs) -> None:
        super().__init__(spec, dtype, rngs)
        self.activation = spec.activation

    def __call__(self, x: jax.Array, h0: jax.Array) -> jax.Array:
        """As `rnn.Network`."""
        hidden = x.swapaxes(0, 1)
        for index, layer in enumerate(self.layers):
            cell = layer.cell
            weights = cell.dense_i.kernel[...], cell.dense_h.kernel[...], cell.dense_i.bias[...]
            hidden = through_time.rnn(self.activation, hidden, h0[index], *weights)
            self.sow(nnx.Intermediate, f"layer.{index}", hidden.swapaxes(0, 1))
        return self.head(hidden.swapaxes(0, 1) if self.many_to_many else hidden[-1])


class Lstm(lstm.Network):
    """The same layers with a backward pass through time by hand, and one tanh for all gates."""

    TUNED = "backward pass through time by hand, one tanh for all gates"

    def __call__(self, x: jax.Array, h0: jax.Array, c0: jax.Array) -> jax.Array:
        """As `lstm.Network`."""
        hidden = x.swapaxes(0, 1)
        for index, layer in enumerate(self.layers):
            cell = layer.cell
            weights = cell.dense_i.kernel[...], cell.dense_h.kernel[...], cell.dense_h.bias[...]
            hidden = through_time.lstm(hidden, h0[index], c0[index], *weights)
            self.sow(nnx.Intermediate, f"layer.{index}", hidden.swapaxes(0, 1))
        return self.head(hidden.swapaxes(0, 1) if self.many_to_many else hidden[-1])


NETWORKS: dict[str, type[nnx.Module]] = {"rnn": Rnn, "lstm": Lstm}
