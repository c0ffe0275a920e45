"""The kernels of `impls/low_level`, compiled as OpenCL C, and the matrices that they work on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyopencl as cl

SHARED = Path(__file__).resolve().parent.parent / "low_level"
GEOMETRY = json.loads((SHARED / "geometry.json").read_text(encoding="utf-8"))
# Drivers for processors.
INSTALL = "install one: apt-get install pocl-opencl-icd, or python -m pip install pocl-binary-distribution"
C_TYPES = {"float32": "float", "float64": "double"}


class Matrix(NamedTuple):
    """A row-major matrix, or a vector, on the device.

    Attributes:
        host: what it was copied from, if that is still wanted.
    """

    buffer: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    host: np.ndarray | None = None


class Memory:
    """The memory of one device, and the queue that all its work goes through.

    Args:
        device: or a part of one.
    """

    def __init__(self, device: Any) -> None:
        # Held on to, as not every driver keeps them for the queue.
        self.device, self.context = device, cl.Context([device])
        # In order, so that memory which is given back is not written before its last reader is done. With profiling, or
        # the device's clock could not be read.
        self.queue = queue = cl.CommandQueue(self.context, properties=cl.command_queue_properties.PROFILING_ENABLE)
        # As the array libraries have one: without it, the driver is asked at every call.
        self.pool = cl.tools.MemoryPool(cl.tools.ImmediateAllocator(queue))

    def new(self, shape: tuple[int, ...], dtype: Any) -> Matrix:
        """Room for a matrix."""
        kind = np.dtype(dtype)
        return Matrix(self.pool.allocate(int(np.prod(shape)) * kind.itemsize), shape, kind)

    def place(self, values: np.ndarray, dtype: Any) -> Matrix:
        """A copy on the device that is there when this returns."""
        host = np.ascontiguousarray(values, dtype=dtype)
        matrix = self.new(host.shape, dtype)
        cl.enqueue_copy(self.queue, matrix.buffer, host)
        return matrix._replace(host=host)

    def fetch(self, matrix: Matrix) -> np.ndarray:
        """A copy on the host."""
        values = np.empty(matrix.shape, matrix.dtype)
        cl.enqueue_copy(self.queue, values, matrix.buffer)
        return values


class Kernels:
    """Compiled for one dtype.

    Args:
        memory: of the device.
        dtype: `float32` or `float64`.

    Attributes:
        build_s: how long it took to compile them, or to load what had been compiled before.
        options: that they were compiled with.
    """

    def __init__(self, memory: Memory, dtype: str) -> None:
        self.memory, self.dtype, self.options = memory, np.dtype(dtype), [f"-Dreal={C_TYPES[dtype]}"]
        text = (SHARED / "kernels.cl").read_text(encoding="utf-8")
        begin_s = time.perf_counter()
        try:
            program = cl.Program(memory.context, text).build(options=self.options)
        except cl.RuntimeError as error:
            if "unknown target CPU" not in str(error):
                raise
            # What pip installs of PoCL is of 2022.
            platform = memory.device.platform
            raise RuntimeError(
                f"{platform.name} ({platform.version}) knows no processor as new as this one; {INSTALL.split(',')[0]}"
            ) from None
        self._kernels = {name: cl.Kernel(program, name) for name in GEOMETRY}
        self.build_s = time.perf_counter() - begin_s

    def launch(self, name: str, *matrices: Matrix, sizes: tuple[int, ...]) -> Any:
        """Queues a kernel that computes a matrix; returns its event.

        Args:
            name: of the kernel.
            matrices: that it reads and writes.
            sizes: rows and columns of what it computes, then what else it takes.
        """
        group, computes = GEOMETRY[name]["group"], GEOMETRY[name]["computes"]
        # Axis 0 runs along a row.
        groups = (-(-sizes[1] // computes[0]), -(-sizes[0] // computes[1]))
        everywhere = tuple(count * items for count, items in zip(groups, group, strict=True))
        buffers = (matrix.buffer for matrix in matrices)
        return self._kernels[name](self.memory.queue, everywhere, tuple(group), *buffers, *map(np.int32, sizes))
