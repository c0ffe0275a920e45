"""The mode `cudnn`: LSTM layers by cuDNN's own kernel, which JAX offers in `jax.experimental.rnn`. GPUs only."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental import rnn as cudnn

from harness.core.spec import LstmSpec, Workload
from impls.jax import lstm

NOT_SERVED = "as jit: what JAX has of cuDNN's recurrent layers is LSTM in float32 and TF32"
LEDGER = {
    "kernel": "cuDNN's LSTM, all time steps of a layer in one call; JAX waits for the device before each, and "
    "inference runs as in training",
    "layout": "sequences batch-first, kernels (4 * hidden_size, input_size)",
}


class Lstm(lstm.Network):
    """The layers of `lstm.Network`, which are never called: cuDNN takes their weights.

    Args:
        spec, dtype, rngs: as for `lstm.Network`.
    """

    def __init__(self, spec: LstmSpec, dtype: Any, rngs: nnx.Rngs) -> None:
        super().__init__(spec, dtype, rngs)
        self.hidden_size = spec.hidden_size

    def __call__(self, x: jax.Array, h0: jax.Array, c0: jax.Array) -> jax.Array:
        """As `lstm.Network`."""
        lengths = jnp.full(x.shape[:1], x.shape[1], dtype=jnp.int32)
        hidden, last = x, h0
        for index, layer in enumerate(self.layers):
            state = h0[index : index + 1], c0[index : index + 1]
            sizes = hidden.shape[-1], self.hidden_size, 1
            hidden, last, _ = cudnn.lstm(hidden, *state, flat_weights(layer.cell), lengths, *sizes, 0.0, False)
            self.sow(nnx.Intermediate, f"layer.{index}", hidden)
        return self.head(hidden if self.many_to_many else last[0])


def flat_weights(cell: lstm.Cell) -> jax.Array:
    """A cell's weights in a row, as cuDNN wants them: kernels as `weight_map` holds them, then two biases."""
    bias = cell.dense_h.bias[...]
    kernels = cell.dense_i.kernel[...], cell.dense_h.kernel[...]
    return jnp.concatenate([part.reshape(-1) for part in (*kernels, bias, jnp.zeros_like(bias))])


def weight_map(spec: LstmSpec) -> dict[str, tuple[tuple[Any, ...], tuple[int, ...]]]:
    """As `lstm.weight_map`, with kernels `(4 * hidden_size, ...)`, which cuDNN takes as they are."""
    found = lstm.weight_map(spec)
    return {
        name: (path, (0, 1) if name.startswith("layer.") and len(axes) == 2 else axes)
        for name, (path, axes) in found.items()
    }


def serves(workload: Workload) -> bool:
    """Whether cuDNN has the layers of a workload in its precision, as far as JAX reaches it; else `jit` serves."""
    return workload.model.kind == "lstm" and workload.dtype in ("float32", "tf32")
