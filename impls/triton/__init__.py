"""Triton: kernels of our own, compiled and launched by Triton; PyTorch lends the memory and the clock."""

from .runtime import TritonRuntime

RUNTIME = TritonRuntime()
