"""Fully connected layers: the matrix product by a kernel of our own, then bias and activation in place by another."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyopencl as cl

from faceoff.core.contract import Model
from faceoff.core.errors import UnsupportedError
from faceoff.core.spec import DenseSpec
from faceoff.core.weights import Weights, check_weights

from .kernels import Kernels, Matrix

# Their indices are whole numbers of 32 bits.
LARGEST = 2**31 - 1


class Dense(Model):
    """The layers of one model.

    Args:
        spec: sizes and activation.
        weights: canonical.
        kernels: compiled for the model's dtype.
        product: the kernel of the matrix product.
    """

    def __init__(self, spec: DenseSpec, weights: Mapping[str, np.ndarray], kernels: Kernels, product: str) -> None:
        self._spec, self._kernels, self._product = spec, kernels, product
        self._after = [f"add_bias_{spec.activation}"] * (spec.num_layers - 1) + ["add_bias"]
        self.reset(weights)

    def reset(self, weights: Mapping[str, np.ndarray]) -> None:
        check_weights(self._spec, weights)
        place, dtype = self._kernels.memory.place, self._kernels.dtype
        # As (input_size, output_size): so neighbours in a work-group read neighbours.
        self._held = {name: place(value.T, dtype)._replace(host=None) for name, value in weights.items()}

    def weights(self) -> Weights:
        fetch = self._kernels.memory.fetch
        return {name: np.ascontiguousarray(fetch(matrix).T) for name, matrix in self._held.items()}

    def forward(self, batch: Matrix) -> Matrix:
        return self._layers(batch)[-1]

    def trace(self, batch: Matrix, training: bool) -> dict[str, np.ndarray]:
        fetch = self._kernels.memory.fetch
        return {f"layer.{index}": fetch(value) for index, value in enumerate(self._layers(batch))}

    def _layers(self, x: Matrix, on_launch: Callable[[Any], None] = lambda event: None) -> list[Matrix]:
        """The output of every layer; `on_launch` is told the event of every kernel."""
        launch, outputs = self._kernels.launch, []
        for index, after in enumerate(self._after):
            weight, bias = self._held[f"layer.{index}.weight"], self._held[f"layer.{index}.bias"]
            (rows, depth), columns = x.shape, weight.shape[1]
            if max(rows * columns, rows * depth, depth * columns) > LARGEST:
                raise UnsupportedError("a matrix of more elements than the kernels count", where="opencl")
            y = self._kernels.memory.new((rows, columns), x.dtype)
            on_launch(launch(self._product, x, weight, y, sizes=(rows, columns, depth)))
            on_launch(launch(after, y, bias, sizes=(rows, columns)))
            outputs.append(y)
            x = y
        return outputs

    def stages(self, batch: Matrix) -> dict[str, float]:
        memory, events = self._kernels.memory, []
        found = np.empty((batch.shape[0], self._spec.output_size), batch.dtype)
        begin_s = time.perf_counter()
        x = memory.new(batch.shape, batch.dtype)
        there = cl.enqueue_copy(memory.queue, x.buffer, batch.host, is_blocking=False)
        outputs = self._layers(x, events.append)
        back = cl.enqueue_copy(memory.queue, found, outputs[-1].buffer, is_blocking=False)
        memory.queue.finish()
        whole_s = time.perf_counter() - begin_s
        return {
            "build": self._kernels.build_s,
            "copy to device": _seconds(there),
            "kernels": sum(map(_seconds, events)),
            "copy back": _seconds(back),
            "whole": whole_s,
        }

    def describe(self) -> dict[str, Any]:
        return {
            "kernel": f"{self._product}, then {' or '.join(dict.fromkeys(self._after))}, for each layer",
            "layout": "kernels (input_size, output_size)",
            "compiled": f"OpenCL C with {' '.join(self._kernels.options)}",
        }


def _seconds(event: Any) -> float:
    """How long a command ran, by the device's clock."""
    return float(event.profile.end - event.profile.start) / 1e9
