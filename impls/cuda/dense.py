"""Fully connected layers: the matrix product by a kernel of our own or by cuBLAS, then bias and activation in place."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import cupy
import numpy as np

from faceoff.core.contract import Model
from faceoff.core.errors import UnsupportedError
from faceoff.core.spec import DenseSpec
from faceoff.core.weights import Weights, check_weights

from .kernels import Kernels

# The kernels' indices are whole numbers of 32 bits, and a grid has so many groups along a column.
LARGEST, MOST_GROUPS = 2**31 - 1, 2**16 - 1


class Inputs(NamedTuple):
    """A batch's inputs on the device, and what they were copied from."""

    x: cupy.ndarray
    host: np.ndarray


class Dense(Model):
    """The layers of one model.

    Args:
        spec: sizes and activation.
        weights: canonical.
        kernels: compiled for the model's dtype.
        product: the kernel of the matrix product; empty for cuBLAS.
    """

    def __init__(self, spec: DenseSpec, weights: Mapping[str, np.ndarray], kernels: Kernels, product: str) -> None:
        self._spec, self._kernels, self._product = spec, kernels, product
        self._after = [f"add_bias_{spec.activation}"] * (spec.num_layers - 1) + ["add_bias"]
        self.reset(weights)

    def reset(self, weights: Mapping[str, np.ndarray]) -> None:
        check_weights(self._spec, weights)
        # As (input_size, output_size): so neighbours in a block of threads read neighbours.
        self._held = {
            name: cupy.asarray(np.ascontiguousarray(value.T, dtype=self._kernels.dtype))
            for name, value in weights.items()
        }

    def weights(self) -> Weights:
        return {name: np.ascontiguousarray(cupy.asnumpy(array).T) for name, array in self._held.items()}

    def forward(self, batch: Inputs) -> cupy.ndarray:
        return self._layers(batch.x)[-1]

    def trace(self, batch: Inputs, training: bool) -> dict[str, np.ndarray]:
        return {f"layer.{index}": cupy.asnumpy(value) for index, value in enumerate(self._layers(batch.x))}

    def _layers(self, x: cupy.ndarray, around: Callable[[], None] = lambda: None) -> list[cupy.ndarray]:
        """The output of every layer; `around` is called before every kernel and after it."""
        outputs = []
        for index, after in enumerate(self._after):
            weight, bias = self._held[f"layer.{index}.weight"], self._held[f"layer.{index}.bias"]
            (rows, depth), columns = x.shape, weight.shape[1]
            if max(rows * columns, rows * depth, depth * columns) > LARGEST or rows > 16 * MOST_GROUPS:
                raise UnsupportedError("a matrix of more elements than the kernels count", where="cuda")
            y = cupy.empty((rows, columns), x.dtype)
            around()
            if self._product:
                self._kernels.launch(self._product, x, weight, y, sizes=(rows, columns, depth))
            else:
                cupy.matmul(x, weight, out=y)
            around()
            around()
            self._kernels.launch(after, y, bias, sizes=(rows, columns))
            around()
            outputs.append(y)
            x = y
        return outputs

    def stages(self, batch: Inputs) -> dict[str, float]:
        marks: list[Any] = []

        def mark() -> None:
            marks.append(cupy.cuda.Event())
            marks[-1].record()

        found = np.empty((batch.host.shape[0], self._spec.output_size), batch.host.dtype)
        begin_s = time.perf_counter()
        x = cupy.empty(batch.host.shape, batch.host.dtype)
        mark()
        x.set(batch.host)
        mark()
        outputs = self._layers(x, mark)
        mark()
        outputs[-1].get(out=found, blocking=False)
        mark()
        marks[-1].synchronize()
        whole_s = time.perf_counter() - begin_s
        # Pairs of marks, before and behind each copy and kernel.
        there, *kernels, back = (
            cupy.cuda.get_elapsed_time(begin, end) / 1e3 for begin, end in zip(marks[::2], marks[1::2], strict=True)
        )
        return {
            "build": self._kernels.build_s,
            "copy to device": there,
            "kernels": sum(kernels),
            "copy back": back,
            "whole": whole_s,
        }

    def describe(self) -> dict[str, Any]:
        product = self._product or "cuBLAS's product"
        return {
            "kernel": f"{product}, then {' or '.join(dict.fromkeys(self._after))}, for each layer",
            "layout": "kernels (input_size, output_size)",
            "compiled": f"CUDA C with {' '.join(self._kernels.options)}",
            "time of kernels": "between events before and behind each launch",
        }
