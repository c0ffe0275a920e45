"""CUDA behind the harness's interface: card, clock and memory."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Mapping
from typing import Any

import cupy
import numpy as np

from faceoff.core.contract import Model, Runtime, Settings
from faceoff.core.errors import UnsupportedError
from faceoff.core.spec import DenseSpec, Workload, require_choice
from faceoff.core.tuning import TUNED, kind_of
from faceoff.core.weights import Batch

from .dense import Dense, Inputs
from .kernels import C_TYPES, Kernels

MODES = ("naive", "tiled", "blocked", "library")
# Of the environment variables that the ledger shows.
PREFIXES = ("CUPY_", "CUDA_", "GLIBC_")


class CudaRuntime(Runtime):
    """The card that the worker sees."""

    def configure(self, settings: Settings) -> None:
        """Chooses the card. Raises UnsupportedError where CuPy sees none."""
        if settings.device != "gpu":
            raise UnsupportedError("CUDA runs on a GPU", where="cuda", got=settings.device)
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise UnsupportedError("CuPy sees no GPU", where="cuda", got=str(error)) from None
        if not count:
            raise UnsupportedError("CuPy sees no GPU", where="cuda")
        cupy.cuda.Device(0).use()

    def modes(self, device: str) -> tuple[str, ...]:
        return MODES if device == "gpu" else ()

    def build(self, workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> Model:
        """Compiles the kernels, and makes the model.

        Raises:
            InputError: an unknown mode, or weights that do not fit.
            UnsupportedError: another model than a dense one, or a dtype that the kernels do not have.
        """
        require_choice(kind_of(mode), (*MODES, TUNED), "cuda.mode")
        if not isinstance(workload.model, DenseSpec):
            raise UnsupportedError(f"no {workload.model.kind} models", where="cuda")
        if workload.dtype not in C_TYPES:
            raise UnsupportedError(f"no {workload.dtype}", where="cuda", expected=", ".join(C_TYPES))
        cupy.get_default_memory_pool().free_all_blocks()  # Of the model before this one.
        by_library = kind_of(mode) in ("library", TUNED)
        return Dense(workload.model, weights, Kernels(workload.dtype), "" if by_library else f"product_{mode}")

    def place(self, batch: Batch, dtype: str) -> Inputs:
        host = np.ascontiguousarray(batch.inputs["x"], dtype=dtype)
        placed = Inputs(cupy.asarray(host), host)
        self.wait(placed)
        return placed

    def wait(self, value: Any) -> None:
        cupy.cuda.get_current_stream().synchronize()

    def fetch(self, value: Any) -> Any:
        return cupy.asnumpy(value) if isinstance(value, cupy.ndarray) else value

    def memory(self) -> dict[str, int]:
        pool = cupy.get_default_memory_pool()
        return {"device_in_use_bytes": int(pool.used_bytes()), "device_peak_bytes": int(pool.total_bytes())}

    def forget_peak(self) -> None:
        cupy.get_default_memory_pool().free_all_blocks()

    def stream(self, count: int) -> Callable[[], Any]:
        source = cupy.ones(count, np.float32)
        target = cupy.empty_like(source)
        return lambda: cupy.copyto(target, source)

    def start_clock(self) -> Callable[[], float]:
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()

        def stop() -> float:
            end.record()
            end.synchronize()
            return float(cupy.cuda.get_elapsed_time(begin, end)) / 1e3

        return stop

    def describe(self) -> dict[str, Any]:
        properties = cupy.cuda.runtime.getDeviceProperties(0)
        # Under one of its names.
        found = {name: _version(name) for name in ("cupy-cuda12x", "cupy-cuda13x", "cupy", "numpy")}
        return {
            "versions": {name: version for name, version in found.items() if version},
            "device": properties["name"].decode(),
            "compute_capability": f"{properties['major']}.{properties['minor']}",
            "cuda": cupy.cuda.runtime.runtimeGetVersion(),
            "driver": cupy.cuda.runtime.driverGetVersion(),
            # CuPy takes it from this variable, which no worker gets.
            "cublas_tf32": os.environ.get("CUPY_TF32", "0") == "1",
            "environment": {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)},
        }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
