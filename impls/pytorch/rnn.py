"""Vanilla recurrent layers in torch.nn, and where their weights sit."""

from __future__ import annotations

import torch
from torch import nn

from harness.core.spec import RnnSpec

LEDGER = {"layout": "sequences (batch_size, sequence_length, input_size), weights (hidden_size, input_size)"}
# TorchDynamo does not enter nn.RNN; told to, it unrolls time: a tenth faster, but compiling grows with the time steps.
COMPILED = {"forward": "nothing", "gradients, train_step": "the loss alone"}
FREEZES = False


class Network(nn.Module):
    """RNN layers, then one dense layer on the last hidden state or on all of them.

    Args:
        spec: sizes and activation.
    """

    def __init__(self, spec: RnnSpec) -> None:
        super().__init__()
        self.recurrent = nn.RNN(
            spec.input_size, spec.hidden_size, spec.num_layers, nonlinearity=spec.activation, batch_first=True
        )
        # The fused kernels want a second bias. Trained as well, it would make one step move their sum twice.
        for name, parameter in self.recurrent.named_parameters():
            if name.startswith("bias_hh"):
                nn.init.zeros_(parameter.requires_grad_(False))
        self.head = nn.Linear(spec.hidden_size, spec.output_size)
        self.many_to_many = spec.many_to_many

    def forward(self, x: torch.Tensor, h0: torch.Tensor) -> torch.Tensor:
        """Maps a sequence and the initial state to logits.

        Args:
            x: `(batch_size, sequence_length, input_size)`.
            h0: `(num_layers, batch_size, hidden_size)`.

        Returns:
            `(batch_size, output_size)`, or `(batch_size, sequence_length, output_size)` for many-to-many.
        """
        hidden, last = self.recurrent(x, h0)
        return self.head(hidden if self.many_to_many else last[-1])


class TunedNetwork(Network):
    """The same with a backward pass through time by hand, which makes each weight's gradient in one matrix product."""

    TUNED = "backward pass through time by hand"

    def forward(self, x: torch.Tensor, h0: torch.Tensor) -> torch.Tensor:
        """As `Network.forward`; inference is left to the fused kernel."""
        if not torch.is_grad_enabled():
            return super().forward(x, h0)
        hidden = x.transpose(0, 1)
        for index in range(self.recurrent.num_layers):
            weights = (getattr(self.recurrent, f"{name}_l{index}") for name in ("weight_ih", "weight_hh", "bias_ih"))
            hidden = Layer.apply(hidden, h0[index], *weights, self.recurrent.nonlinearity)
        return self.head(hidden.transpose(0, 1) if self.many_to_many else hidden[-1])


class Layer(torch.autograd.Function):
    """One layer over all time steps, time-major."""

    @staticmethod
    def forward(ctx, x, h0, weight_ih, weight_hh, bias, activation):  # type: ignore[no-untyped-def]
        """Hidden states `(sequence_length, batch_size, hidden_size)` of the layer whose inputs are `x`."""
        activate_ = torch.tanh_ if activation == "tanh" else torch.relu_
        hidden = torch.nn.functional.linear(x, weight_ih, bias)
        h, transposed = h0, weight_hh.t()
        for at in hidden:
            h = activate_(at.addmm_(h, transposed))
        ctx.save_for_backward(x, h0, weight_ih, weight_hh, hidden)
        ctx.activation = activation
        return hidden

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        """Gradients by everything that `forward` took."""
        x, h0, weight_ih, weight_hh, hidden = ctx.saved_tensors
        slope = 1 - hidden * hidden if ctx.activation == "tanh" else (hidden > 0).to(hidden.dtype)
        sums = torch.empty_like(hidden)
        arriving = torch.zeros_like(h0)
        for step in range(len(hidden) - 1, -1, -1):
            torch.add(arriving, gradient[step], out=sums[step]).mul_(slope[step])
            arriving = sums[step] @ weight_hh
        before = torch.cat([h0[None], hidden[:-1]]).flatten(0, 1)
        flat = sums.flatten(0, 1)
        by_x = (flat @ weight_ih).view_as(x) if ctx.needs_input_grad[0] else None
        return by_x, arriving, flat.t() @ x.flatten(0, 1), flat.t() @ before, flat.sum(0), None


def weight_map(spec: RnnSpec) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Canonical name to the name in the state dict and the axes that transpose canonical to PyTorch."""
    found = {"head.weight": ("head.weight", (0, 1)), "head.bias": ("head.bias", (0,))}
    for index in range(spec.num_layers):
        found[f"layer.{index}.weight_ih"] = f"recurrent.weight_ih_l{index}", (0, 1)
        found[f"layer.{index}.weight_hh"] = f"recurrent.weight_hh_l{index}", (0, 1)
        found[f"layer.{index}.bias"] = f"recurrent.bias_ih_l{index}", (0,)
    return found


def traced_modules(spec: RnnSpec) -> dict[str, str]:
    """Module path to the canonical name of its output; nn.RNN gives the last layer's hidden states only."""
    return {"recurrent": f"layer.{spec.num_layers - 1}", "head": "head"}
