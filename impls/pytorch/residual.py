"""The residual network of He et al. 2016, section 4.2, in torch.nn, and where its weights sit."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from faceoff.core.errors import UnsupportedError
from faceoff.core.spec import ResidualSpec
from faceoff.core.weights import trace_names, weight_shapes

LEDGER = {"layout": "channels_last: images NHWC and kernels OHWI in memory"}
COMPILED = {"forward": "whole", "gradients, train_step": "network and loss, forward and backward, in one graph each"}
FREEZES = True


class RunningVariances:
    """Averages of biased variances, divided by n, from PyTorch's own, which are those of variances divided by n - 1.

    An average is linear: one that begins at n / (n - 1) times another one stays at as many times it. So a training step
    has nothing to correct; what the running variances hold is converted before the first one, and before they are read.

    Args:
        norms: of a network, in the order of its modules, with biased variances.
        spec: its sizes.
    """

    def __init__(self, norms: list[nn.BatchNorm2d], spec: ResidualSpec) -> None:
        self._spec = spec
        self._held = [norm.running_var for norm in norms]
        self._shares: list[float] = []
        self._batch_size = 0

    def make_unbiased(self, batch_size: int) -> None:
        """Makes the running variances those that training with this batch size goes on from."""
        if batch_size != self._batch_size:
            self.make_biased()
            self._shares = [(n - 1) / n for n in values_per_channel(self._spec, batch_size)]
            torch._foreach_div_(self._held, self._shares)
            self._batch_size = batch_size

    def make_biased(self) -> None:
        """Makes them biased ones, from which nothing changes them but training."""
        if self._batch_size:
            torch._foreach_mul_(self._held, self._shares)
            self._batch_size = 0


def convolution(incoming: int, outgoing: int, kernel: int, stride: int) -> nn.Conv2d:
    """A convolution without bias that keeps the size at stride 1."""
    return nn.Conv2d(incoming, outgoing, kernel, stride, padding=kernel // 2, bias=False)


class GlobalAveragePool(nn.Module):
    """`nn.AdaptiveAvgPool2d(1)` and `nn.Flatten`, without the copies that the first one makes of images NHWC."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps `(batch_size, channels, height, width)` to `(batch_size, channels)`."""
        return x.mean((2, 3))


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut: a 1x1 projection where stride or width change.

    Args:
        incoming, outgoing: channels.
        stride: of the first convolution and of the projection.
        constants: epsilon and momentum of batch norm.
    """

    def __init__(self, incoming: int, outgoing: int, stride: int, constants: dict[str, float]) -> None:
        super().__init__()
        self.conv1 = convolution(incoming, outgoing, 3, stride)
        self.norm1 = nn.BatchNorm2d(outgoing, **constants)
        self.conv2 = convolution(outgoing, outgoing, 3, 1)
        self.norm2 = nn.BatchNorm2d(outgoing, **constants)
        self.shortcut = nn.Sequential()
        if stride != 1 or incoming != outgoing:
            self.shortcut.add_module("conv", convolution(incoming, outgoing, 1, stride))
            self.shortcut.add_module("norm", nn.BatchNorm2d(outgoing, **constants))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps `(batch_size, incoming, height, width)` to `(batch_size, outgoing, height', width')`."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        y += self.shortcut(x)
        return F.relu(y, inplace=True)


class Network(nn.Module):
    """Stem, basic blocks, global average pooling, dense layer.

    Args:
        spec: sizes and batch norm's constants.
    """

    def __init__(self, spec: ResidualSpec) -> None:
        super().__init__()
        constants = {"eps": spec.epsilon, "momentum": spec.momentum}
        width = spec.stage_widths[0]
        self.stem = nn.Sequential()
        self.stem.add_module("conv", convolution(spec.channels, width, 3, 1))
        self.stem.add_module("norm", nn.BatchNorm2d(width, **constants))
        self.stem.add_module("relu", nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(*(Block(*sizes, constants) for _, *sizes in spec.blocks()))
        self.pool = GlobalAveragePool()
        self.head = nn.Linear(spec.stage_widths[-1], spec.output_size)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps `x` `(batch_size, height, width, channels)` to logits `(batch_size, output_size)`."""
        # A view, and already channels_last.
        x = x.permute(0, 3, 1, 2)
        return self.head(self.pool(self.blocks(self.stem(x))))


def weight_map(spec: ResidualSpec) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Canonical name to the name in the state dict and the axes that transpose canonical to PyTorch."""
    axes = {1: (0,), 2: (0, 1), 4: (0, 3, 1, 2)}
    leaves = {"scale": "weight", "mean": "running_mean", "variance": "running_var"}
    blocks = {name: f"blocks.{index}" for index, (name, *_) in enumerate(spec.blocks())}
    found = {}
    for name, shape in weight_shapes(spec).items():
        owner, _, leaf = name.rpartition(".")
        block = ".".join(name.split(".")[:4])
        owner = owner.replace(block, blocks[block]) if block in blocks else owner
        found[name] = f"{owner}.{leaves.get(leaf, leaf)}", axes[len(shape)]
    return found


def traced_modules(spec: ResidualSpec) -> dict[str, str]:
    """Module path to the canonical name of its output."""
    blocks = {name: f"blocks.{index}" for index, (name, *_) in enumerate(spec.blocks())}
    found = {}
    for name in trace_names(spec, fine=True):
        block = ".".join(name.split(".")[:4])
        found[name.replace(block, blocks.get(block, block))] = name
    return found


def values_per_channel(spec: ResidualSpec, batch_size: int) -> list[int]:
    """How many values of a channel each batch norm normalises; a shortcut's comes after its block's."""
    height, width = spec.height, spec.width
    found = [batch_size * height * width]
    for _, incoming, outgoing, stride in spec.blocks():
        # Each strided convolution rounds its size up.
        height, width = -(-height // stride), -(-width // stride)
        found += [batch_size * height * width] * (3 if stride != 1 or incoming != outgoing else 2)
    return found


def check_batch_norm(spec: ResidualSpec, batch_size: int) -> None:
    """Raises UnsupportedError where the last stage holds a single value a channel, on which PyTorch does not train."""
    if min(values_per_channel(spec, batch_size)) == 1:
        raise UnsupportedError(
            "batch norm cannot train on a single value per channel",
            where="pytorch",
            got=f"batch size 1 and 1x1 pixels in the last stage of {spec.label}",
            next_step="use a larger batch or larger images",
        )
