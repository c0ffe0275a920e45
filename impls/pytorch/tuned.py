"""What the mode `tuned` does by hand: the backward pass of an RNN through time."""

from __future__ import annotations

import torch

from . import rnn


class Rnn(rnn.Network):
    """The same with a backward pass through time by hand, which makes each weight's gradient in one matrix product."""

    def forward(self, x: torch.Tensor, h0: torch.Tensor) -> torch.Tensor:
        """As `rnn.Network.forward`; inference is left to the fused kernel."""
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
