"""A user's own model as its workloads meet it: integer inputs, the user's loss, and stochastic arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from faceoff.core.errors import UnsupportedError
from faceoff.core.own import port_of
from faceoff.core.spec import Workload
from faceoff.core.tuning import is_tuned
from faceoff.core.weights import Weights, check_weights, float_inputs, input_shapes, trainable_names

from .compiling import OperationCounter
from .graphs import PlacedBatch, Step
from .optimiser import held_state, state_tensors
from .own import WRAPPED, kind_of, loss_of
from .recording import Recorder
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
        self._side = self._port.side("pytorch")
        self._paths = list(dict.fromkeys(placed.path for placed in self._side.weights.values()))
        self._disturbance: Stochastic | None = None
        super().__init__(workload, weights, mode, device)
        # Its running variances are what PyTorch means by them.
        self._variances = None
        self._inputs = float_inputs(workload.model)
        self._whole_numbers = {given.name for given in self._port.inputs if given.dtype == "int64"}
        self._norms = [part for part in self._network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        # Several canonical weights may share one parameter.
        trained = {self._side.weights[name].path for name in trainable_names(workload.model)}
        self._trained_paths = [path for path in self._paths if path in trained]
        self._trained = [self._parameter(path) for path in self._trained_paths]

    def disturb(self, dtype: str, unit_roundoff: float | None, seed: int, alike: bool) -> None:
        if self._mode != "eager" or self._workload.dtype != "float64":
            what = "stochastic arithmetic is for eager models in float64"
            raise UnsupportedError(what, where="pytorch", got=f"{self._mode}, {self._workload.dtype}")
        self._disturbance = Stochastic(dtype, unit_roundoff, seed, alike)
        self._optimiser = None

    def left_whole(self) -> dict[str, int]:
        return dict(self._disturbance.whole) if self._disturbance else {}

    def met_limits(self) -> bool:
        return self._disturbance is None or self._disturbance.met_limits

    def layers(self, batch: PlacedBatch, training: bool, forced: Mapping[str, Any] | None) -> dict[str, Any]:
        recorder = Recorder(self._network.model, self._port.layers_of("pytorch"), kind_of, forced)
        # Training as for gradients changes no running statistic.
        self._enter("gradients" if training else "inference", len(batch.targets))
        with self._disturbance or nullcontext(), torch.no_grad(), self._precision(), recorder.recording():
            outputs = self._network(**batch.inputs)
        return {"outputs": outputs, "layers": recorder.layers()}

    def dropouts(self, batch: PlacedBatch) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []
        self._enter("gradients", len(batch.targets))
        hooks = self._network.dropouts.recording(calls)
        try:
            with torch.no_grad():
                self._network(**batch.inputs)
        finally:
            for hook in hooks:
                hook.remove()
        return calls

    def operations(self, step: str, batch: PlacedBatch) -> int | None:
        # Not before it is wanted: importing it takes time that a cold start need not spend.
        from .counting import count_products

        call = {"inference": self.forward, "gradients": self.gradients, "training": self.train_step}[step]
        return count_products(lambda: call(batch))

    def reset(self, weights: Mapping[str, np.ndarray]) -> None:
        check_weights(self._workload.model, weights)
        self._enter("inference")
        with torch.no_grad():
            for path, value in self._side.to_side(weights).items():
                self._parameter(path).copy_(torch.tensor(value))
            for path in self._side.zeros:
                self._parameter(path).requires_grad_(False).zero_()
        self._is_constant = False
        if self._graphs and self._optimiser:
            for value in state_tensors(self._optimiser):
                value.zero_()
        else:
            self._optimiser = None

    def weights(self) -> Weights:
        self._enter("inference")
        return self._canonical({path: self._parameter(path) for path in self._paths})

    def optimiser_state(self) -> dict[str, Weights]:
        held = held_state(self._optimiser, self._workload.optimiser, self._trained)
        return {
            kind: self._canonical(dict(zip(self._trained_paths, values, strict=True))) for kind, values in held.items()
        }

    def canonical(self, gradients: tuple[torch.Tensor, ...]) -> dict[str, Any]:
        count = len(self._trained_paths)
        loss, by_weights, by_inputs = gradients[0], gradients[1 : count + 1], gradients[count + 1 :]
        return {
            "loss": to_numpy(loss),
            "weights": self._canonical(dict(zip(self._trained_paths, by_weights, strict=True))),
            "inputs": {
                name: value if value is None else to_numpy(value)
                for name, value in zip(self._inputs, by_inputs, strict=True)
            },
        }

    def _parameter(self, path: str) -> torch.Tensor:
        return self._held[f"{WRAPPED}{path}"]

    def _canonical(self, values: Mapping[str, torch.Tensor | None]) -> dict[str, Any]:
        arrays = {path: None if value is None else to_numpy(value) for path, value in values.items()}
        return self._side.to_canonical(arrays, self._port.weights)

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

    def _kernels(self) -> dict[str, int]:
        self._enter("inference")
        inputs = {
            name: torch.zeros(shape, dtype=torch.int64 if name in self._whole_numbers else self._trained[0].dtype)
            # As many examples as it is run with: one alone may be none that it takes.
            for name, shape in input_shapes(self._workload.model, self._workload.batch_size).items()
        }
        placed = {name: value.to(self._trained[0].device) for name, value in inputs.items()}
        with torch.no_grad(), self._precision(), OperationCounter() as counter:
            self._network(**placed)
        return dict(counter.calls)
