"""PyTorch: torch.nn modules, run operation by operation or compiled by TorchInductor."""

from .runtime import PyTorchRuntime

RUNTIME = PyTorchRuntime()
