"""What PyTorch does on a GPU alone: TF32, recurrent layers under autocast, and by cuDNN."""

from __future__ import annotations

import torch
from torch import nn

# The first that PyTorch runs recurrent layers in bfloat16 by.
CUDNN_WITH_BFLOAT16 = 91300


def reduce_products(wanted: bool) -> None:
    """Whether products of float32 may round their operands to TF32; on a CPU they never do."""
    torch.set_float32_matmul_precision("high" if wanted else "highest")
    torch.backends.cudnn.allow_tf32 = wanted


def pack_bfloat16() -> None:
    """Lets `nn.RNNBase` lay weights in bfloat16 where cuDNN wants them, as it does those in other dtypes.

    Its list of cuDNN's dtypes is older than that cuDNN. Without, all weights are copied together at every call.
    """
    if (torch.backends.cudnn.version() or 0) >= CUDNN_WITH_BFLOAT16:
        torch.backends.cudnn.CUDNN_TENSOR_DTYPES.add(torch.bfloat16)


def autocast_of_recurrent(device: torch.device) -> torch.dtype:
    """The dtype of a recurrent layer on a GPU under autocast to bfloat16: ATen has a cast of its own for cuDNN's."""
    layer, x = nn.RNN(1, 1, batch_first=True).to(device), torch.zeros((1, 1, 1), device=device)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        return layer(x)[0].dtype


def weights_of_recurrent(network: nn.Module) -> dict[str, str]:
    """Where the weights of recurrent layers on a GPU lie, for the ledger; nothing of a network that has none.

    cuDNN wants those of all layers in one chunk, which `nn.RNNBase` makes in the dtypes that it knows cuDNN to have.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.RNNBase)]
    if not layers or next(network.parameters()).device.type != "cuda":
        return {}
    whole = all(is_in_one_chunk(layer) for layer in layers)
    return {"recurrent weights": "in one chunk" if whole else "copied into one chunk at every call"}


def is_in_one_chunk(layer: nn.RNNBase) -> bool:
    """Whether all weights of stacked recurrent layers lie in the same storage."""
    return len({weight.untyped_storage().data_ptr() for weight in layer.parameters()}) == 1
