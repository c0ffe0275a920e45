"""The mode `cudnn`: LSTM layers by cuDNN's own kernel, which JAX offers in `jax.experimental.rnn`. GPUs only."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental import rnn as cudnn

from faceoff.core.spec import LstmSpec, Workload

from . import lstm

NOT_SERVED = "as jit: what JAX has of cuDNN's recurrent layers is LSTM in float32 and TF32"
LEDGER = {
    "kernel": "cuDNN's LSTM, all layers and time steps in one call, weights copied together before it; JAX waits for "
    "the device, runs inference as training, and takes four times the scratch memory that cuDNN asks for",
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
        # One call for all of them shows the hidden states of the last alone.
        self.layer_by_layer = False

    def __call__(self, x: jax.Array, h0: jax.Array, c0: jax.Array) -> jax.Array:
        """As `lstm.Network`, which shows its hidden states always."""
        lengths = jnp.full(x.shape[:1], x.shape[1], dtype=jnp.int32)
        cells = [layer.cell for layer in self.layers]
        hidden, last = x, h0
        for begin, group in enumerate([[cell] for cell in cells] if self.layer_by_layer else [cells]):
            state = h0[begin : begin + len(group)], c0[begin : begin + len(group)]
            sizes = hidden.shape[-1], self.hidden_size, len(group)
            hidden, last, _ = cudnn.lstm(hidden, *state, flat_weights(group), lengths, *sizes, 0.0, False)
            if self.layer_by_layer:
                self.sow(nnx.Intermediate, f"layer.{begin}", hidden)
        return self.head(hidden if self.many_to_many else last[-1])


def flat_weights(cells: list[lstm.Cell]) -> jax.Array:
    """Weights in a row, as cuDNN wants them: all kernels as `weight_map` holds them, then two biases a cell."""
    kernels = [part.kernel[...] for cell in cells for part in (cell.dense_i, cell.dense_h)]
    biases = [cell.dense_h.bias[...] for cell in cells]
    parts = [*kernels, *(part for bias in biases for part in (bias, jnp.zeros_like(bias)))]
    return jnp.concatenate([part.reshape(-1) for part in parts])


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
