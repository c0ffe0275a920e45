"""What torch.compile needs to serve every model of a process, and networks with their weights as constants."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


def allow_many_sizes() -> None:
    """Lets one function be compiled for every model of this process; running it eagerly instead would be silent."""
    # Not before something is compiled, for the import costs a second.
    torch._dynamo.config.recompile_limit = 10_000
    torch._dynamo.config.accumulated_recompile_limit = 10_000
    torch._dynamo.config.fail_on_recompile_limit_hit = True


class FrozenNetwork:
    """A network compiled for inference with its present weights as constants (TorchInductor's `freezing`).

    Batch norm is folded into the convolutions, weights are packed for oneDNN once instead of at every call, and an LSTM
    becomes one oneDNN kernel a layer. The weights must not change afterwards. float32 only: oneDNN packs nothing wider.

    Args:
        network: in inference mode when called.
    """

    def __init__(self, network: nn.Module) -> None:
        def frozen(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            return network(**inputs)

        # While Inductor freezes, Dynamo guards the identity of every weight: another model's constants serve no other.
        self._compiled = torch.compile(frozen, dynamic=False, fullgraph=True)
        self._shapes: set[torch.Size] = set()

    def __call__(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The logits."""
        if inputs["x"].shape in self._shapes:
            return self._compiled(inputs)
        # The switches count while a shape is compiled, and must not reach graphs whose weights change.
        with torch._inductor.config.patch(freezing=True), torch._dynamo.config.patch(allow_rnn=True):
            logits = self._compiled(inputs)
        self._shapes.add(inputs["x"].shape)
        return logits


class OperationCounter(TorchDispatchMode):
    """Counts the operations that reach a device's kernels; views left out.

    Attributes:
        calls: how often each was called, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))
