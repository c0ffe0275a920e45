"""Triton behind the harness's interface: card, clock and memory, which are PyTorch's."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import triton

from faceoff.core.contract import Model, Runtime, Settings
from faceoff.core.errors import UnsupportedError
from faceoff.core.spec import DenseSpec, Workload, require_choice
from faceoff.core.tuning import TUNED, kind_of
from faceoff.core.weights import Batch

from .dense import Dense, Inputs

MODES = ("blocked",)
# Of the environment variables that the ledger shows.
PREFIXES = ("TRITON_", "TORCH", "PYTORCH_", "CUDA_", "GLIBC_")
# With this, kernels run in Python on the processor: slow, and for tests alone.
INTERPRETER = "TRITON_INTERPRET"


class TritonRuntime(Runtime):
    """The card that the worker sees."""

    def __init__(self) -> None:
        self._device = torch.device("cpu")

    def configure(self, settings: Settings) -> None:
        """Chooses the card; without one, the processor where Triton's interpreter was asked for.

        Raises:
            UnsupportedError: there is no card.
        """
        if settings.device == "gpu" and torch.cuda.is_available():
            self._device = torch.device("cuda")
        elif settings.device == "gpu" or os.environ.get(INTERPRETER) != "1":
            raise UnsupportedError(
                "Triton sees no GPU", where="triton", got=f"triton {triton.__version__}", expected="a CUDA device"
            )
        torch.set_num_threads(settings.threads)

    def modes(self, device: str) -> tuple[str, ...]:
        return MODES if device == "gpu" else ()

    def build(self, workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> Model:
        """Makes the model, and compiles its kernels.

        Raises:
            InputError: an unknown mode, or weights that do not fit.
            UnsupportedError: another model than a dense one, or another dtype than float32.
        """
        require_choice(kind_of(mode), (*MODES, TUNED), "triton.mode")
        if not isinstance(workload.model, DenseSpec):
            raise UnsupportedError(f"no {workload.model.kind} models", where="triton")
        if workload.dtype != "float32":
            raise UnsupportedError(f"no {workload.dtype}", where="triton", expected="float32")
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # Of the model before this one.
        model = Dense(workload.model, weights, self._device)
        model.compile(workload.batch_size)
        return model

    def place(self, batch: Batch, dtype: str) -> Inputs:
        host = torch.tensor(batch.inputs["x"], dtype=getattr(torch, dtype))
        placed = Inputs(host.to(self._device), host)
        self.wait(placed)
        return placed

    def wait(self, value: Any) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def fetch(self, value: Any) -> Any:
        return value.cpu().numpy() if isinstance(value, torch.Tensor) else value

    def memory(self) -> dict[str, int]:
        if self._device.type != "cuda":
            return {}
        return {
            "device_in_use_bytes": torch.cuda.memory_allocated(self._device),
            "device_peak_bytes": torch.cuda.max_memory_allocated(self._device),
            "device_reserved_bytes": torch.cuda.memory_reserved(self._device),
        }

    def forget_peak(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def stream(self, count: int) -> Callable[[], torch.Tensor]:
        source = torch.ones(count, device=self._device)
        target = torch.empty_like(source)
        return lambda: target.copy_(source)

    def start_clock(self) -> Callable[[], float] | None:
        if self._device.type != "cuda":
            return None
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()

        def stop() -> float:
            end.record()
            end.synchronize()
            return begin.elapsed_time(end) / 1e3

        return stop

    def describe(self) -> dict[str, Any]:
        on_gpu = self._device.type == "cuda"
        return {
            "versions": {name: importlib.metadata.version(name) for name in ("triton", "torch", "numpy")},
            "device": torch.cuda.get_device_name(self._device) if on_gpu else "Triton's interpreter",
            "cuda": torch.version.cuda,
            "environment": {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)},
        }
