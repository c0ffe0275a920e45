"""OpenCL behind the harness's interface: device, threads, queue, clock and memory."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyopencl as cl
import pyopencl.tools

from faceoff.core.contract import Model, Runtime, Settings
from faceoff.core.errors import UnsupportedError
from faceoff.core.spec import DenseSpec, Workload, require_choice
from faceoff.core.tuning import TUNED, kind_of
from faceoff.core.weights import Batch

from .dense import Dense
from .kernels import C_TYPES, INSTALL, Kernels, Matrix, Memory
from .library import ClBlast, is_there

KERNELS = ("naive", "tiled", "blocked")
LIBRARY = "library"
KINDS = {"cpu": cl.device_type.CPU, "gpu": cl.device_type.GPU}
# Of the environment variables that the ledger shows.
PREFIXES = ("CL_", "OCL_", "OPENCL_", "POCL_", "PYOPENCL_", "GLIBC_", "CUDA_")


class OpenClRuntime(Runtime):
    """One device of the first platform that has such a one."""

    def __init__(self) -> None:
        self._kind, self._memory = "", None

    @property
    def memory_of_device(self) -> Memory:
        """Memory and queue of the device that `configure` chose."""
        if self._memory is None:
            raise UnsupportedError("no device yet", where="opencl", next_step="call `configure` first")
        return self._memory

    def configure(self, settings: Settings) -> None:
        """Chooses the device, and as much of a processor as `threads` says.

        Raises:
            UnsupportedError: no platform has such a device.
        """
        device = _find(settings.device)
        units = cl.device_partition_property.BY_COUNTS
        if settings.device == "cpu" and settings.threads < device.max_compute_units:
            if units not in device.partition_properties:
                raise UnsupportedError(
                    "this device takes all threads or none", where="opencl", got=settings.threads,
                    expected=str(device.max_compute_units), next_step=f"use --threads {device.max_compute_units}",
                )  # fmt: skip
            (device,) = device.create_sub_devices([units, settings.threads])
        self._kind, self._memory = settings.device, Memory(device)

    def modes(self, device: str) -> tuple[str, ...]:
        return (*KERNELS, LIBRARY) if is_there() else KERNELS

    def build(self, workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> Model:
        """Compiles the kernels, and makes the model.

        Raises:
            InputError: an unknown mode, or weights that do not fit.
            UnsupportedError: another model than a dense one, or a dtype that the kernels or the device do not have.
        """
        require_choice(kind_of(mode), (*KERNELS, LIBRARY, TUNED), "opencl.mode")
        if not isinstance(workload.model, DenseSpec):
            raise UnsupportedError(f"no {workload.model.kind} models", where="opencl")
        if workload.dtype not in C_TYPES:
            raise UnsupportedError(f"no {workload.dtype}", where="opencl", expected=", ".join(C_TYPES))
        memory = self.memory_of_device
        if workload.dtype == "float64" and not memory.device.double_fp_config:
            raise UnsupportedError("this device has no float64", where="opencl", got=memory.device.name)
        memory.pool.free_held()  # Of the model before this one.
        library = ClBlast() if mode == LIBRARY else None
        product = mode if mode in KERNELS else KERNELS[-1]
        return Dense(workload.model, weights, Kernels(memory, workload.dtype), f"product_{product}", library)

    def place(self, batch: Batch, dtype: str) -> Matrix:
        return self.memory_of_device.place(batch.inputs["x"], dtype)

    def wait(self, value: Any) -> None:
        self.memory_of_device.queue.finish()

    def fetch(self, value: Any) -> Any:
        return self.memory_of_device.fetch(value) if isinstance(value, Matrix) else value

    def memory(self) -> dict[str, int]:
        # OpenCL tells no more than what was asked of it.
        pool = self.memory_of_device.pool
        return {} if self._kind == "cpu" else {
            "device_in_use_bytes": int(pool.active_bytes), "device_peak_bytes": int(pool.managed_bytes),
        }  # fmt: skip

    def forget_peak(self) -> None:
        self.memory_of_device.pool.free_held()

    def stream(self, count: int) -> Callable[[], Any]:
        memory = self.memory_of_device
        source = memory.place(np.ones(count, np.float32), np.float32)
        target = memory.new(source.shape, source.dtype)
        return lambda: cl.enqueue_copy(memory.queue, target.buffer, source.buffer)

    def start_clock(self) -> Callable[[], float]:
        queue = self.memory_of_device.queue
        begin = cl.enqueue_marker(queue)

        def stop() -> float:
            end = cl.enqueue_marker(queue)
            queue.finish()
            return float(end.profile.end - begin.profile.end) / 1e9

        return stop

    def describe(self) -> dict[str, Any]:
        device = self.memory_of_device.device
        return {
            "versions": {name: importlib.metadata.version(name) for name in ("pyopencl", "numpy")},
            "device": device.name.strip(),
            "platform": f"{device.platform.name} ({device.platform.version})",
            "driver": device.driver_version,
            "opencl": device.version,
            "compute_units": device.max_compute_units,
            "profiling": "on",
            "environment": {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)},
        }


def _find(kind: str) -> Any:
    """The first device of a kind.

    Raises:
        UnsupportedError: no platform has one.
        RuntimeError: there is no platform.
    """
    try:
        platforms = cl.get_platforms()
    except cl.LogicError:
        raise RuntimeError(f"no OpenCL platform; {INSTALL}") from None
    for platform in platforms:
        for device in platform.get_devices(KINDS[kind]):
            return device
    raise UnsupportedError(
        f"OpenCL sees no {kind.upper()}", where="opencl", got=", ".join(platform.name for platform in platforms),
        expected="a platform with one", next_step="install the card's driver" if kind == "gpu" else INSTALL,
    )  # fmt: skip
