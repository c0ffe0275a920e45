"""Fully connected layers: the matrix product by a kernel of our own, then bias and activation in place by another."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from faceoff.core.contract import Model
from faceoff.core.spec import DenseSpec
from faceoff.core.weights import Weights, check_weights

from .kernels import launch_bias, launch_product


class Inputs(NamedTuple):
    """A batch's inputs on the device, and what they were copied from."""

    x: torch.Tensor
    host: torch.Tensor


class Dense(Model):
    """The layers of one model, in float32.

    Args:
        spec: sizes and activation.
        weights: canonical.
        device: where.
    """

    def __init__(self, spec: DenseSpec, weights: Mapping[str, np.ndarray], device: torch.device) -> None:
        self._spec, self._device = spec, device
        self._activations = [spec.activation] * (spec.num_layers - 1) + [""]
        # What is compiled at the first call, and then kept by Triton for all sizes alike.
        self._build_s = 0.0
        self.reset(weights)

    def reset(self, weights: Mapping[str, np.ndarray]) -> None:
        check_weights(self._spec, weights)
        # As (input_size, output_size): so neighbours in a program read neighbours.
        self._held = {
            name: torch.tensor(np.ascontiguousarray(value.T), dtype=torch.float32, device=self._device)
            for name, value in weights.items()
        }

    def compile(self, rows: int) -> None:
        """Compiles the kernels by a first call."""
        begin_s = time.perf_counter()
        self._layers(torch.zeros(rows, self._spec.input_size, device=self._device))
        self._wait()
        self._build_s = time.perf_counter() - begin_s

    def weights(self) -> Weights:
        return {name: np.ascontiguousarray(tensor.cpu().numpy().T) for name, tensor in self._held.items()}

    def forward(self, batch: Inputs) -> torch.Tensor:
        return self._layers(batch.x)[-1]

    def trace(self, batch: Inputs, training: bool) -> dict[str, np.ndarray]:
        return {f"layer.{index}": value.cpu().numpy() for index, value in enumerate(self._layers(batch.x))}

    def _layers(self, x: torch.Tensor, around: Callable[[], None] = lambda: None) -> list[torch.Tensor]:
        """The output of every layer; `around` is called before every kernel and after it."""
        outputs = []
        for index, activation in enumerate(self._activations):
            weight, bias = self._held[f"layer.{index}.weight"], self._held[f"layer.{index}.bias"]
            y = torch.empty(x.shape[0], weight.shape[1], device=self._device)
            around()
            launch_product(x, weight, y)
            around()
            around()
            launch_bias(y, bias, activation)
            around()
            outputs.append(y)
            x = y
        return outputs

    def stages(self, batch: Inputs) -> dict[str, float] | None:
        if self._device.type != "cuda":
            return None
        marks: list[torch.cuda.Event] = []

        def mark() -> None:
            marks.append(torch.cuda.Event(enable_timing=True))
            marks[-1].record()

        found = torch.empty(batch.host.shape[0], self._spec.output_size)
        begin_s = time.perf_counter()
        x = torch.empty_like(batch.x)
        mark()
        x.copy_(batch.host)
        mark()
        outputs = self._layers(x, mark)
        mark()
        found.copy_(outputs[-1])
        mark()
        self._wait()
        whole_s = time.perf_counter() - begin_s
        # Pairs of marks, before and behind each copy and kernel.
        pairs = zip(marks[::2], marks[1::2], strict=True)
        there, *kernels, back = (begin.elapsed_time(end) / 1e3 for begin, end in pairs)
        return {
            "build": self._build_s,
            "copy to device": there,
            "kernels": sum(kernels),
            "copy back": back,
            "whole": whole_s,
        }

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def describe(self) -> dict[str, Any]:
        return {
            "kernel": "product_blocked by tl.dot in true float32, then add_bias with the activation, for each layer",
            "layout": "kernels (input_size, output_size)",
            "compiled": "Triton's, by a first call on zeros while the model is built",
            "time of kernels": "between events before and behind each launch",
        }
