"""The kernels of `impls/low_level`, compiled as CUDA C."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import cupy
import numpy as np

SHARED = Path(__file__).resolve().parent.parent / "low_level"
GEOMETRY = json.loads((SHARED / "geometry.json").read_text(encoding="utf-8"))
C_TYPES = {"float32": "float", "float64": "double"}


class Kernels:
    """Compiled for one dtype, for the card at hand.

    Args:
        dtype: `float32` or `float64`.

    Attributes:
        build_s: how long it took to compile them, or to load what had been compiled before.
        options: that they were compiled with.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype, self.options = np.dtype(dtype), (f"-Dreal={C_TYPES[dtype]}",)
        text = (SHARED / "kernels.cl").read_text(encoding="utf-8")
        begin_s = time.perf_counter()
        module = cupy.RawModule(code=text, options=self.options)
        self._kernels = {name: module.get_function(name) for name in GEOMETRY}
        self.build_s = time.perf_counter() - begin_s

    def launch(self, name: str, *arrays: cupy.ndarray, sizes: tuple[int, ...]) -> None:
        """Queues a kernel that computes a matrix.

        Args:
            name: of the kernel.
            arrays: that it reads and writes, row by row.
            sizes: rows and columns of what it computes, then what else it takes.
        """
        group, computes = GEOMETRY[name]["group"], GEOMETRY[name]["computes"]
        # Axis 0 runs along a row.
        groups = (-(-sizes[1] // computes[0]), -(-sizes[0] // computes[1]))
        arguments: tuple[Any, ...] = (*arrays, *map(np.int32, sizes))
        self._kernels[name](groups, tuple(group), arguments)
