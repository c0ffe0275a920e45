"""CUDA's libraries: what TensorFlow does not find by itself, and what it has loaded, which it does not tell."""

from __future__ import annotations

import ctypes
import sysconfig
from pathlib import Path


def load_missing() -> None:
    """Loads cuSOLVER from where pip has put it: TensorFlow 2.21 does not look there, and without it sees no GPU."""
    for found in Path(sysconfig.get_path("purelib")).glob("nvidia/cusolver/lib/libcusolver.so.*"):
        try:
            ctypes.CDLL(str(found))
        except OSError:
            return  # TensorFlow says itself what it lacks.


def loaded() -> dict[str, str]:
    """Versions of the CUDA runtime and of cuDNN in this process."""
    found: dict[str, str] = {}
    try:
        version = ctypes.c_int()
        ctypes.CDLL("libcudart.so.12").cudaRuntimeGetVersion(ctypes.byref(version))
        found["cuda"] = f"{version.value // 1000}.{version.value % 1000 // 10}"
        cudnn = ctypes.CDLL("libcudnn.so.9").cudnnGetVersion
        cudnn.restype = ctypes.c_size_t
        number = cudnn()
        found["cudnn"] = f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    except (AttributeError, OSError):
        return found  # Under other names, which nobody can guess.
    return found
