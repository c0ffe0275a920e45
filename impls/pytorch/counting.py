"""How many operations the matrix products and convolutions of an eager call take, by PyTorch's own formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry

# Operations with products in them of which there is no formula.
UNCOUNTED = {
    "mv", "dot", "vdot", "addmv", "addbmm", "_trilinear", "_cdist_forward", "mkldnn_rnn_layer",
    "_scaled_dot_product_flash_attention_for_cpu", "_native_multi_head_attention", "_transformer_encoder_layer_fwd",
}  # fmt: skip


def count_products(call: Callable[[], object]) -> int | None:
    """Multiplications and additions of all matrix products and convolutions that an eager call runs.

    None where it runs something that holds products, and that has no formula.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _Counter() as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return None if counter.lacks_some else counter.flops


class _Counter(TorchDispatchMode):
    """As `FlopCounterMode`, whose hooks for modules fail in inference mode and in `torch.autograd.grad`.

    Attributes:
        flops: counted so far.
        lacks_some: there was something that could not be counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops, self.lacks_some = 0, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, packet = kwargs or {}, func.overloadpacket
        if packet not in flop_registry:
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        value = func(*args, **kwargs)
        if packet is torch.ops.aten.convolution_backward:
            self.flops += _of_convolution_backward(*args, **kwargs)
        elif packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=value)
        self.lacks_some |= packet.__name__ in UNCOUNTED
        return value


def _of_convolution_backward(
    by_output: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias_sizes: Any, stride: Any, padding: Any,
    dilation: Any, transposed: bool, output_padding: Any, groups: int, output_mask: Any,
) -> int:  # fmt: skip
    """Each gradient costs what forward does; PyTorch's formula forgets that groups do not meet."""
    forward = conv_flop_count(list(x.shape), list(weight.shape), list(by_output.shape), transposed=transposed)
    return int(forward) * sum(bool(wanted) for wanted in output_mask[:2])
