"""CUDA: kernels of our own and cuBLAS's product, compiled and launched by CuPy."""

from .runtime import CudaRuntime

RUNTIME = CudaRuntime()
