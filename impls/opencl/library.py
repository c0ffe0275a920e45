"""The matrix product of CLBlast, a tuned library for OpenCL, by its interface for C."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any

import pyopencl as cl

from .kernels import Matrix

NAME = "clblast"
# Of its header: rows lie one behind the other, and a matrix is taken as it is.
ROW_MAJOR, AS_IT_IS = 101, 111
SIZE, POINTER = ctypes.c_size_t, ctypes.c_void_p


def is_there() -> bool:
    """Whether the system has the library."""
    return ctypes.util.find_library(NAME) is not None


class ClBlast:
    """The library, loaded."""

    def __init__(self) -> None:
        library = ctypes.CDLL(ctypes.util.find_library(NAME))
        self._products = {
            "float32": (library.CLBlastSgemm, ctypes.c_float),
            "float64": (library.CLBlastDgemm, ctypes.c_double),
        }
        for function, real in self._products.values():
            matrix = [POINTER, SIZE, SIZE]
            function.argtypes = [
                ctypes.c_int, ctypes.c_int, ctypes.c_int, SIZE, SIZE, SIZE,
                real, *matrix, *matrix, real, *matrix, POINTER, POINTER,
            ]  # fmt: skip

    def multiply(self, queue: Any, a: Matrix, b: Matrix, c: Matrix) -> Any:
        """Queues c = a times b; returns the event of the last kernel that it takes.

        Raises:
            RuntimeError: the library refuses.
        """
        (rows, depth), columns = a.shape, b.shape[1]
        function, _ = self._products[a.dtype.name]
        queue_pointer, event = POINTER(queue.int_ptr), POINTER()
        status = function(
            ROW_MAJOR, AS_IT_IS, AS_IT_IS, rows, columns, depth, 1.0, a.buffer.int_ptr, 0, depth, b.buffer.int_ptr, 0,
            columns, 0.0, c.buffer.int_ptr, 0, columns, ctypes.byref(queue_pointer), ctypes.byref(event),
        )  # fmt: skip
        if status:
            raise RuntimeError(f"CLBlast's product failed with status {status}")
        return cl.Event.from_int_ptr(event.value, retain=False)
