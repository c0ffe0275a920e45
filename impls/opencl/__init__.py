"""OpenCL: kernels of our own, compiled and launched by PyOpenCL."""

from .runtime import OpenClRuntime

RUNTIME = OpenClRuntime()
