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
from .library import ClBlast

# Their indices are whole numbers of 32 bits.
LARGEST = 2**31 - 1


class Dense(Model):
    """The layers of one model.

    Args:
        spec: sizes and activation.
        weights: canonical.
        kernels: compiled for the model's dtype.
        product: the kernel of the matrix product.
        library: whose product is taken instead of the kernel; None for none.
    """

    def __init__(
        self,
        spec: DenseSpec,
        weights: Mapping[str, np.ndarray],
        kernels: Kernels,
        product: str,
        library: ClBlast | None = None,
    ) -> None:
        self._spec, self._kernels, self._product, self._library = spec, kernels, product, library
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

    def _layers(self, x: Matrix, on_launch: Callable[[Any, Any], None] | None = None) -> list[Matrix]:
        """The output of every layer; `on_launch` is told the first and the last event of every product and kernel."""
        launch, outputs = self._kernels.launch, []
        for index, after in enumerate(self._after):
            weight, bias = self._held[f"layer.{index}.weight"], self._held[f"layer.{index}.bias"]
            (rows, depth), columns = x.shape, weight.shape[1]
            if max(rows * columns, rows * depth, depth * columns) > LARGEST:
                raise UnsupportedError("a matrix of more elements than the kernels count", where="opencl")
            y = self._kernels.memory.new((rows, columns), x.dtype)
            if self._library is None:
                begin = end = launch(self._product, x, weight, y, sizes=(rows, columns, depth))
            else:
                # It may launch several, and tells of the last alone.
                begin = cl.enqueue_marker(self._kernels.memory.queue) if on_launch else None
                end = self._library.multiply(self._kernels.memory.queue, x, weight, y)
            added = launch(after, y, bias, sizes=(rows, columns))
            if on_launch:
                on_launch(begin, end)
                on_launch(added, added)
            outputs.append(y)
            x = y
        return outputs

    def stages(self, batch: Matrix) -> dict[str, float]:
        memory, spans = self._kernels.memory, []
        found = np.empty((batch.shape[0], self._spec.output_size), batch.dtype)
        begin_s = time.perf_counter()
        x = memory.new(batch.shape, batch.dtype)
        there = cl.enqueue_copy(memory.queue, x.buffer, batch.host, is_blocking=False)
        outputs = self._layers(x, lambda begin, end: spans.append((begin, end)))
        back = cl.enqueue_copy(memory.queue, found, outputs[-1].buffer, is_blocking=False)
        memory.queue.finish()
        whole_s = time.perf_counter() - begin_s
        return {
            "build": self._kernels.build_s,
            "copy to device": _seconds(there, there),
            "kernels": sum(_seconds(begin, end) for begin, end in spans),
            "copy back": _seconds(back, back),
            "whole": whole_s,
        }

    def describe(self) -> dict[str, Any]:
        product = self._product if self._library is None else "the product of CLBlast"
        return {
            "kernel": f"{product}, then {' or '.join(dict.fromkeys(self._after))}, for each layer",
            "layout": "kernels (input_size, output_size)",
            "compiled": f"OpenCL C with {' '.join(self._kernels.options)}",
        }


def _seconds(begin: Any, end: Any) -> float:
    """From the start of a command to the end of one, by the device's clock."""
    return float(end.profile.end - begin.profile.start) / 1e9
