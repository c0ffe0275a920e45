"""Run by a framework's own interpreter: how far its dense models are from float64, layer by layer, at odd sizes.

    python errors_of.py FOLDER DEVICE

Prints a JSON object: `reason`, why nothing can be run here, or `shares`, by case the largest error as a share of the
bound that rounding keeps to. Needs NumPy, the framework, and `faceoff.core` on the path.
"""

import json
import sys

import numpy as np

from faceoff.core.contract import Settings
from faceoff.core.errors import UnsupportedError
from faceoff.core.spec import DenseSpec, Workload
from faceoff.core.weights import Batch, weight_shapes
from faceoff.worker.loading import load_framework

# The slides' product, one of everything, whole tiles, and edges within every kind of tile and block.
CASES = (
    (DenseSpec((5, 5)), 4),
    (DenseSpec((1, 1)), 1),
    (DenseSpec((16, 64)), 16),
    (DenseSpec((33, 65)), 17),
    (DenseSpec((19, 7, 3)), 70),
    (DenseSpec((12, 65, 8, 5), activation="tanh"), 6),
)


def largest_share(values, x, weights, spec, dtype):
    """Of the bound on the error of each layer, which starts from what the layer before it gave."""
    worst, unit = 0.0, np.finfo(dtype).eps
    for index in range(spec.num_layers):
        weight, bias = (weights[f"layer.{index}.{part}"].astype(float) for part in ("weight", "bias"))
        expected = x @ weight.T + bias
        # Of a sum of as many terms, in whatever order; then of a tanh of a few units in the last place.
        bound = (weight.shape[1] + 1) * unit * (abs(x) @ abs(weight.T) + abs(bias))
        if index < spec.num_layers - 1:
            expected = np.tanh(expected) if spec.activation == "tanh" else np.maximum(expected, 0)
            bound = bound + 8 * unit * abs(expected)
        x = np.asarray(values[f"layer.{index}"], float)
        if x.shape != expected.shape:
            raise ValueError(f"{x.shape} in place of {expected.shape}")
        worst = max(worst, float((abs(x - expected) / bound).max()))
    return worst


def main(folder, device):
    runtime = load_framework(folder).RUNTIME
    try:
        runtime.configure(Settings(device, 1))
    except UnsupportedError as error:
        return {"reason": str(error)}
    found, draw = {}, np.random.default_rng(0)
    modes = runtime.modes(device) or runtime.modes("gpu")
    for dtype in ("float32", "float64"):
        for mode in modes:
            for spec, batch_size in CASES:
                shapes = weight_shapes(spec)
                weights = {name: draw.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
                x = draw.normal(size=(batch_size, spec.input_size)).astype(dtype)
                try:
                    model = runtime.build(Workload(spec, batch_size, dtype), weights, mode)
                except UnsupportedError:
                    if dtype == "float32":
                        raise
                    continue
                batch = runtime.place(Batch({"x": x}, np.zeros(batch_size, np.int64)), dtype)
                values = model.trace(batch, False)
                outputs = runtime.fetch(model.forward(batch))
                if not np.array_equal(outputs, values[f"layer.{spec.num_layers - 1}"]):
                    raise ValueError(f"{mode}: the outputs are not the last layer's")
                share = largest_share(values, x.astype(float), weights, spec, dtype)
                found[f"{mode}, {dtype}, {spec.label}, batch {batch_size}"] = share
    return {"shares": found}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
