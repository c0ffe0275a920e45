"""How many operations the matrix products and convolutions of an eager call take, by PyTorch's own counter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .compiling import OperationCounter

# Operations with products in them that `FlopCounterMode` takes for none.
UNCOUNTED = {
    "mv", "dot", "vdot", "addmv", "addbmm", "_trilinear", "_cdist_forward", "mkldnn_rnn_layer",
    "_scaled_dot_product_flash_attention_for_cpu", "_native_multi_head_attention", "_transformer_encoder_layer_fwd",
}  # fmt: skip


def count_products(call: Callable[[], object]) -> int | None:
    """Multiplications and additions of all matrix products and convolutions that an eager call runs.

    None where it runs something that holds products, and that the counter has no count of.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), OperationCounter() as seen, FlopCounterMode(display=False) as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return None if UNCOUNTED & seen.calls.keys() else counter.get_total_flops()
