"""Fully connected layers in torch.nn, and where their weights sit."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from faceoff.core.spec import DenseSpec

LEDGER = {"layout": "weights (output_size, input_size)"}
COMPILED = {"forward": "whole", "gradients, train_step": "network and loss, forward and backward, in one graph each"}
FREEZES = False

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


class Network(nn.Module):
    """Linear layers with an activation after each but the last.

    Args:
        spec: sizes and activation.
    """

    def __init__(self, spec: DenseSpec) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for incoming, outgoing in itertools.pairwise(spec.layer_sizes):
            layers += [nn.Linear(incoming, outgoing), ACTIVATIONS[spec.activation]()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps `x` `(batch_size, input_size)` to logits `(batch_size, output_size)`."""
        return self.layers(x)


def weight_map(spec: DenseSpec) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Canonical name to the name in the state dict and the axes that transpose canonical to PyTorch."""
    found = {}
    for index in range(spec.num_layers):
        found[f"layer.{index}.weight"] = f"layers.{2 * index}.weight", (0, 1)
        found[f"layer.{index}.bias"] = f"layers.{2 * index}.bias", (0,)
    return found


def traced_modules(spec: DenseSpec) -> dict[str, str]:
    """Module path to the canonical name of its output."""
    found = {f"layers.{2 * index + 1}": f"layer.{index}" for index in range(spec.num_layers - 1)}
    return {**found, f"layers.{2 * spec.num_layers - 2}": f"layer.{spec.num_layers - 1}"}
