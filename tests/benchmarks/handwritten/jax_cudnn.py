"""cuDNN's LSTM in JAX by hand: all layers in one call, their weights held as the one flat vector that cuDNN reads."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import rnn as cudnn

from faceoff.core.spec import LstmSpec, ModelSpec, Workload

Arrays = dict[str, jax.Array]
FLAT = "layers.flat"


def serves(workload: Workload) -> bool:
    """Whether JAX reaches cuDNN's kernel for these layers in this dtype."""
    return isinstance(workload.model, LstmSpec) and workload.dtype == "float32"


def flatten(spec: LstmSpec, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """The kernels of all layers, canonical and so as cuDNN wants them, then two biases a layer, the second zero."""
    layers = [f"layer.{index}" for index in range(spec.num_layers)]
    kernels = [weights[f"{layer}.{part}"].ravel() for layer in layers for part in ("weight_ih", "weight_hh")]
    biases = [part for layer in layers for part in (weights[f"{layer}.bias"], np.zeros_like(weights[f"{layer}.bias"]))]
    return np.concatenate([*kernels, *biases])


def without_second_bias(spec: ModelSpec, gradients: Arrays) -> Arrays:
    """The gradients with zero for the second bias of each layer: trained as well, it would move their sum twice."""
    if not isinstance(spec, LstmSpec) or FLAT not in gradients:
        return gradients
    flat, size = gradients[FLAT], 4 * spec.hidden_size
    for index in range(spec.num_layers):
        end = flat.size - 2 * size * index
        flat = flat.at[end - size : end].set(0)
    return {**gradients, FLAT: flat}


def lstm(spec: LstmSpec, w: Arrays, inputs: Arrays, training: bool) -> tuple[jax.Array, Arrays]:
    """Logits `(batch_size, output_size)`, or with `sequence_length` in between for many-to-many."""
    x = inputs["x"]
    lengths = jnp.full(x.shape[:1], spec.sequence_length, jnp.int32)
    sizes = spec.input_size, spec.hidden_size, spec.num_layers
    hidden, last, _ = cudnn.lstm(
        x, inputs["h0"], inputs["c0"], w[FLAT], lengths, *sizes, 0.0, False, lax.Precision.HIGHEST
    )
    out = hidden if spec.many_to_many else last[-1]
    return out @ w["head.weight"] + w["head.bias"], {}
