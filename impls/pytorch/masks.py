"""Dropout of a user's module: off in training too, or by masks that all sides are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from faceoff.core.errors import UnsupportedError

# Channels come before places, in arrays of that many axes and more.
CHANNELS, WITH_PLACES = 1, 4


class Masked(nn.Dropout):
    """Multiplies by a mask, whose kept elements are 1 over their share, in training.

    Attributes:
        mask: of the call that comes.
    """

    mask: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.mask.to(x.dtype) if self.training else x


class Dropouts:
    """The dropout layers of a module. They do nothing from now on, but for those that have a mask.

    Args:
        module: of the user.
        masked: paths of layers, by the names of their masks.
    """

    def __init__(self, module: nn.Module, masked: Mapping[str, str]) -> None:
        self._dropping: dict[str, tuple[nn.Module, float]] = {}
        for path, part in module.named_modules():
            if isinstance(part, nn.modules.dropout._DropoutNd):
                if part.p:
                    self._dropping[path] = part, part.p
                part.p = 0.0
            elif isinstance(part, (nn.RNNBase, nn.MultiheadAttention)):
                part.dropout = 0.0
        self._masked = {name: Masked() for name in masked}
        for name, path in masked.items():
            module.set_submodule(path, self._masked[name])

    def give(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Takes the masks of the next call from among its inputs."""
        for name, masked in self._masked.items():
            masked.mask = inputs[name]

    def recording(self, calls: list[dict[str, Any]]) -> list[Any]:
        """Hooks, to be removed, that note each call of a layer; see `Model.dropouts`.

        Raises:
            UnsupportedError: a layer that does more than leave elements out.
        """
        for path, (part, _) in self._dropping.items():
            if type(part) is not nn.Dropout:
                raise UnsupportedError("dropout of another kind", where=path, got=type(part).__name__)

        def hook(path: str, rate: float) -> Any:
            def note(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
                shape = list(args[0].shape)
                channels = CHANNELS if len(shape) >= WITH_PLACES else None
                calls.append({"layer": path, "shape": shape, "rate": rate, "channels": channels})

            return note

        return [part.register_forward_pre_hook(hook(path, rate)) for path, (part, rate) in self._dropping.items()]
