"""Intermediate values of PyTorch modules as NumPy arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from faceoff.core.spec import ModelSpec, RecurrentSpec


def depths(spec: ModelSpec) -> Iterator[ModelSpec]:
    """The model itself; a recurrent one with one layer, two, ... all of them, for PyTorch shows the last layer only."""
    if isinstance(spec, RecurrentSpec):
        for num_layers in range(1, spec.num_layers):
            yield dataclasses.replace(spec, num_layers=num_layers)
    yield spec


def recorder(found: dict[str, np.ndarray], name: str) -> Callable[..., None]:
    """A forward hook that keeps a module's output: images as NHWC, all time steps of a recurrent module."""

    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        value = output[0] if isinstance(module, nn.RNNBase) else output
        found[name] = to_numpy(value.permute(0, 2, 3, 1) if value.ndim == 4 else value)

    return record


def to_numpy(value: torch.Tensor) -> np.ndarray:
    """A tensor of any dtype and device as an array of its own."""
    # NumPy has no bfloat16; float32 holds all its values.
    held = value.detach().cpu()
    return np.array((held.float() if held.dtype == torch.bfloat16 else held).numpy(), order="C")
