"""LSTM layers in torch.nn, and where their weights sit."""

from __future__ import annotations

import torch
from torch import nn

from faceoff.core.spec import LstmSpec

LEDGER = {
    "layout": "sequences (batch_size, sequence_length, input_size), "
    "weights (4 * hidden_size, input_size), gates i, f, g, o"
}
# TorchDynamo does not enter nn.LSTM; told to, it unrolls time where gradients are wanted, which is slower.
COMPILED = {"forward": "nothing", "gradients, train_step": "the loss alone"}
FREEZES = True


class Network(nn.Module):
    """LSTM layers, then one dense layer on the last hidden state or on all of them.

    Args:
        spec: the sizes.
    """

    def __init__(self, spec: LstmSpec) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(spec.input_size, spec.hidden_size, spec.num_layers, batch_first=True)
        # The fused kernels want a second bias. Trained as well, it would make one step move their sum twice.
        for name, parameter in self.recurrent.named_parameters():
            if name.startswith("bias_hh"):
                nn.init.zeros_(parameter.requires_grad_(False))
        self.head = nn.Linear(spec.hidden_size, spec.output_size)
        self.many_to_many = spec.many_to_many

    def forward(self, x: torch.Tensor, h0: torch.Tensor, c0: torch.Tensor) -> torch.Tensor:
        """Maps a sequence and the initial states to logits.

        Args:
            x: `(batch_size, sequence_length, input_size)`.
            h0, c0: `(num_layers, batch_size, hidden_size)`.

        Returns:
            `(batch_size, output_size)`, or `(batch_size, sequence_length, output_size)` for many-to-many.
        """
        hidden, (last, _) = self.recurrent(x, (h0, c0))
        return self.head(hidden if self.many_to_many else last[-1])


def weight_map(spec: LstmSpec) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Canonical name to the name in the state dict and the axes that transpose canonical to PyTorch."""
    found = {"head.weight": ("head.weight", (0, 1)), "head.bias": ("head.bias", (0,))}
    for index in range(spec.num_layers):
        found[f"layer.{index}.weight_ih"] = f"recurrent.weight_ih_l{index}", (0, 1)
        found[f"layer.{index}.weight_hh"] = f"recurrent.weight_hh_l{index}", (0, 1)
        found[f"layer.{index}.bias"] = f"recurrent.bias_ih_l{index}", (0,)
    return found


def traced_modules(spec: LstmSpec) -> dict[str, str]:
    """Module path to the canonical name of its output; nn.LSTM gives the last layer's hidden states only."""
    return {"recurrent": f"layer.{spec.num_layers - 1}", "head": "head"}
