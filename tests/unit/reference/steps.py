"""One step of the reference's LSTM, stored in any order of gates, as a framework would store it."""

import numpy as np

from faceoff.core.spec import LstmSpec
from faceoff.core.weights import Batch, seeded_weights
from faceoff.reference import ReferenceModel


def lstm_step(order: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Weights with their gates in `order` and two biases, inputs, and the hidden state after one step."""
    spec = LstmSpec(3, 4, 2, 1)
    weights = seeded_weights(spec, 0)
    rng = np.random.default_rng(0)
    x, h, c = rng.standard_normal((8, 3)), rng.standard_normal((8, 4)), rng.standard_normal((8, 4))
    batch = Batch({"x": x[:, np.newaxis], "h0": h[np.newaxis], "c0": c[np.newaxis]}, np.zeros(8, dtype=np.int64))
    hidden = ReferenceModel(spec, weights).trace(batch, training=False)["layer.0"][:, 0]

    def stored(name: str) -> np.ndarray:
        blocks = dict(zip("ifgo", np.split(weights[f"layer.0.{name}"], 4), strict=True))
        return np.concatenate([blocks[gate] for gate in order])

    bias = stored("bias")
    return {
        "x": x, "h": h, "c": c, "hidden": hidden, "input_kernel": stored("weight_ih"),
        "recurrent_kernel": stored("weight_hh"), "bias.0": 0.25 * bias, "bias.1": 0.75 * bias,
    }  # fmt: skip
