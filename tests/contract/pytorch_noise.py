"""Runs PyTorch programs plainly and in stochastic arithmetic, and compares what they return."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable

import torch

from impls.pytorch.stochastic import Stochastic
from tests.contract.pytorch_programs import Program

RUNS = 8
# Small enough that nothing decides otherwise; errors are in proportion to it.
UNIT_ROUNDOFF = 2.0**-40
SCALE = 2.0**-24 / UNIT_ROUNDOFF

Values = dict[str, torch.Tensor]


class Example:
    """A program with weights and inputs that a dtype holds exactly.

    Args:
        program: what is run.
        seed: of weights, inputs and the gradients by the outputs.
        dtype: that holds weights and inputs exactly.
    """

    def __init__(self, program: Program, seed: int = 0, dtype: str = "float32") -> None:
        torch.manual_seed(seed)
        self._kind = kind = getattr(torch, dtype)
        self._module = program.make().to(kind).float()
        self._inputs = [
            torch.randint(0, 7, (shape,)) if isinstance(shape, int) else torch.randn(shape).to(kind).float()
            for shape in program.shapes
        ]
        self._seed = seed

    def run(self, dtype: torch.dtype, mode: Stochastic | None = None) -> Values:
        """Outputs, running statistics, and the gradient by every weight and input, in float64."""
        module = copy.deepcopy(self._module).to(dtype)
        inputs = [x.to(dtype).requires_grad_() if x.is_floating_point() else x for x in self._inputs]
        with mode or contextlib.nullcontext():
            result = module(*inputs)
        outputs = list(result) if isinstance(result, tuple) else [result]
        generator = torch.Generator().manual_seed(self._seed)
        drawn = [torch.randn(y.shape, generator=generator).to(self._kind) for y in outputs]
        given = [value.to(y.dtype) for value, y in zip(drawn, outputs, strict=True)]
        wanted = {f"gradient of {name}": weight for name, weight in module.named_parameters()}
        wanted |= {f"gradient of input {n}": x for n, x in enumerate(inputs) if x.requires_grad}
        with mode or contextlib.nullcontext():
            gradients = torch.autograd.grad(outputs, list(wanted.values()), given, allow_unused=True)
        found = {f"output {number}": y for number, y in enumerate(outputs)}
        found |= {name: buffer for name, buffer in module.named_buffers() if buffer.is_floating_point()}
        found |= {name: g for name, g in zip(wanted, gradients, strict=True) if g is not None}
        return {name: value.detach().double() for name, value in found.items()}


def rms(values: Iterable[torch.Tensor]) -> float:
    """Root mean square over all elements of all tensors; what is not finite counts as zero."""
    squares = [value.nan_to_num(0.0, 0.0, 0.0).square().mean() for value in values]
    return float(torch.stack(squares).mean().sqrt())


def difference(got: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference; between equal infinities there is none."""
    return float(torch.where(got == expected, 0.0, got - expected).abs().max())
