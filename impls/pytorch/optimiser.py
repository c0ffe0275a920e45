"""PyTorch's optimisers with every constant set, and what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from faceoff.core.precision import ADAMS
from faceoff.core.spec import Optimiser

STATES = {"momentum": "momentum_buffer", "first moment": "exp_avg", "second moment": "exp_avg_sq"}


def make_optimiser(optimiser: Optimiser, parameters: list[torch.Tensor], in_graph: bool) -> torch.optim.Optimizer:
    """PyTorch's fused optimiser with every constant set, or the plain one (see `is_fused`).

    Args:
        optimiser: the rule.
        parameters: what it moves.
        in_graph: whether its steps are captured as CUDA graphs.
    """
    fused = is_fused(optimiser, parameters[0])
    if optimiser.kind == "adamw":
        return torch.optim.AdamW(
            parameters, optimiser.learning_rate, (optimiser.beta1, optimiser.beta2), optimiser.epsilon,
            optimiser.weight_decay, amsgrad=False, maximize=False, fused=fused, capturable=in_graph,
        )  # fmt: skip
    if optimiser.kind == "adam":
        return torch.optim.Adam(
            parameters, lr=optimiser.learning_rate, betas=(optimiser.beta1, optimiser.beta2), eps=optimiser.epsilon,
            weight_decay=0.0, amsgrad=False, maximize=False, fused=fused, capturable=in_graph,
        )  # fmt: skip
    momentum = optimiser.momentum if optimiser.kind == "momentum" else 0.0
    return torch.optim.SGD(
        parameters, lr=optimiser.learning_rate, momentum=momentum, dampening=0.0, weight_decay=0.0, nesterov=False,
        maximize=False, fused=fused,
    )  # fmt: skip


def is_fused(optimiser: Optimiser, parameter: torch.Tensor) -> bool:
    """Whether the optimiser's fused kernel does what it should.

    On a CPU that of SGD in torch 2.13 leaves every 16 elements of a float16 or bfloat16 weight as they were.
    """
    wide = parameter.dtype in (torch.float32, torch.float64)
    return wide or optimiser.kind in ADAMS or parameter.device.type != "cpu"


def held_state(
    optimiser: torch.optim.Optimizer | None, rule: Optimiser, parameters: Sequence[torch.Tensor]
) -> dict[str, list[torch.Tensor]]:
    """The state of each parameter, by `rule.state_names`; zeros where PyTorch has made none yet."""
    held = optimiser.state if optimiser is not None else {}

    def find(parameter: torch.Tensor, name: str) -> torch.Tensor:
        value = held.get(parameter, {}).get(STATES[name])
        return torch.zeros_like(parameter) if value is None else value

    return {name: [find(parameter, name) for parameter in parameters] for name in rule.state_names}


def state_tensors(optimiser: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    """All tensors that an optimiser holds, in the order of its parameters."""
    for state in optimiser.state.values():
        yield from (value for value in state.values() if isinstance(value, torch.Tensor))
