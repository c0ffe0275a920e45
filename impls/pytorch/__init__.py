"""PyTorch: torch.nn modules, run operation by operation or compiled by TorchInductor."""

from impls.pytorch.runtime import PyTorchRuntime

RUNTIME = PyTorchRuntime()
