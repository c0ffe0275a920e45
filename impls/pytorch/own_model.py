"""A user's own model as its workloads meet it: integer inputs, the user's loss, and stochastic arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from faceoff.core.errors import UnsupportedError
from faceoff.core.own import port_of
from faceoff.core.spec import Workload
from faceoff.core.tuning import is_tuned
from faceoff.core.weights import check_weights, float_inputs, input_shapes

from .compiling import OperationCounter
from .graphs import PlacedBatch, Step
from .optimiser import make_optimiser, state_tensors
from .own import loss_of
from .runtime import PyTorchModel
from .stochastic import Stochastic
from .tracing import to_numpy


class OwnModel(PyTorchModel):
    """A user's module with the optimiser, as `PyTorchModel`.

    Args:
        workload, weights, mode, device: as there; the mode `tuned` knows built-in models only.

    Raises:
        UnsupportedError: that mode.
    """

    def __init__(self, workload: Workload, weights: Mapping[str, np.ndarray], mode: str, device: torch.device) -> None:
        if is_tuned(mode):
            raise UnsupportedError("a model of a user's own has no tuned mode", where="pytorch.mode", got=mode)
        self._port = port_of(workload.model)
        self._places = self._port.side("pytorch").weights
        self._disturbance: Stochastic | None = None
        super().__init__(workload, weights, mode, device)
        self._inputs = float_inputs(workload.model)
        self._norms = [part for part in self._network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]

    def disturb(self, dtype: str, unit_roundoff: float | None, seed: int, alike: bool) -> None:
        if self._mode != "eager" or self._workload.dtype != "float64":
            what = "stochastic arithmetic is for eager models in float64"
            raise UnsupportedError(what, where="pytorch", got=f"{self._mode}, {self._workload.dtype}")
        self._disturbance = Stochastic(dtype, unit_roundoff, seed, alike)
        self._optimiser = None

    def left_whole(self) -> dict[str, int]:
        return dict(self._disturbance.whole) if self._disturbance else {}

    def train_step(self, batch: PlacedBatch) -> torch.Tensor:
        if self._optimiser is None and self._disturbance:
            # Fused kernels are one operation, which nothing takes apart.
            self._optimiser = make_optimiser(self._workload.optimiser, self._trained, in_graph=False, plain=True)
        return super().train_step(batch)

    def reset(self, weights: Mapping[str, np.ndarray]) -> None:
        check_weights(self._workload.model, weights)
        self._enter("inference")
        with torch.no_grad():
            for name, placed in self._places.items():
                self._held[self._map[name][0]].copy_(torch.tensor(placed.to_side(weights[name])))
        self._is_constant = False
        if self._graphs and self._optimiser:
            for value in state_tensors(self._optimiser):
                value.zero_()
        else:
            self._optimiser = None

    def _run(self, phase: str, step: Step, batch: PlacedBatch) -> Any:
        if self._disturbance is None:
            return super()._run(phase, step, batch)
        self._enter(phase, len(batch.targets))
        with self._disturbance:
            return step(batch)

    def _differentiate(self, batch: PlacedBatch) -> tuple[torch.Tensor, ...]:
        inputs = dict(batch.inputs)
        inputs.update({name: inputs[name].detach().requires_grad_() for name in self._inputs})
        with self._precision():
            loss = self._loss(self._network, inputs, batch.targets)
        wanted = [*self._trained, *(inputs[name] for name in self._inputs)]
        return loss.detach(), *torch.autograd.grad(loss, wanted, allow_unused=True)

    def _make_loss(self) -> Callable[..., torch.Tensor]:
        return loss_of(self._port)

    def _to_canonical(self, name: str, value: torch.Tensor) -> np.ndarray:
        return self._places[name].to_canonical(to_numpy(value), self._port.weights[name])

    def _kernels(self) -> dict[str, int]:
        self._enter("inference")
        inputs = {
            name: torch.zeros(shape, dtype=self._trained[0].dtype if name in self._inputs else torch.int64)
            for name, shape in input_shapes(self._workload.model, 1).items()
        }
        placed = {name: value.to(self._trained[0].device) for name, value in inputs.items()}
        with torch.no_grad(), self._precision(), OperationCounter() as counter:
            self._network(**placed)
        return dict(counter.calls)
