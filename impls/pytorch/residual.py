"""The residual network of He et al. 2016, section 4.2, in torch.nn, and where its weights sit."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from harness.core.errors import UnsupportedError
from harness.core.spec import ResidualSpec
from harness.core.weights import weight_shapes

LEDGER = {"layout": "channels_last: images NHWC and kernels OHWI in memory"}
COMPILED = {"forward": "whole", "gradients, train_step": "network and loss, forward and backward, in one graph each"}
FREEZES = True


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that keeps the biased running variance, divided by n; PyTorch's own is the unbiased one.

    The update is linear, so PyTorch may make it on the variance times n / (n - 1). That is another tensor because the
    backward pass refuses one that has changed since.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalises `(batch_size, channels, height, width)` over all axes but the channels."""
        if not (self.training and self.track_running_stats):
            return super().forward(input)
        n = input.numel() // input.shape[1]
        unbiased = self.running_var * (n / (n - 1))
        output = F.batch_norm(input, self.running_mean, unbiased, self.weight, self.bias, True, self.momentum, self.eps)
        self.running_var.copy_(unbiased * ((n - 1) / n))
        return output


def convolution(incoming: int, outgoing: int, kernel: int, stride: int) -> nn.Conv2d:
    """A convolution without bias that keeps the size at stride 1."""
    return nn.Conv2d(incoming, outgoing, kernel, stride, padding=kernel // 2, bias=False)


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
        self.norm1 = BatchNorm2d(outgoing, **constants)
        self.conv2 = convolution(outgoing, outgoing, 3, 1)
        self.norm2 = BatchNorm2d(outgoing, **constants)
        self.shortcut = nn.Sequential()
        if stride != 1 or incoming != outgoing:
            self.shortcut.add_module("conv", convolution(incoming, outgoing, 1, stride))
            self.shortcut.add_module("norm", BatchNorm2d(outgoing, **constants))

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
        self.stem.add_module("norm", BatchNorm2d(width, **constants))
        self.stem.add_module("relu", nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(*(Block(*sizes, constants) for _, *sizes in spec.blocks()))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
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
    blocks = {f"blocks.{index}": name for index, (name, *_) in enumerate(spec.blocks())}
    return {"stem": "stem", **blocks, "pool": "pool", "head": "head"}


def check_batch_norm(spec: ResidualSpec, batch_size: int) -> None:
    """Raises UnsupportedError where the last stage holds a single value a channel, on which PyTorch does not train."""
    shrink = 2 ** (len(spec.stage_widths) - 1)
    # Each strided convolution rounds its size up.
    height, width = -(-spec.height // shrink), -(-spec.width // shrink)
    if batch_size * height * width == 1:
        raise UnsupportedError(
            "batch norm cannot train on a single value per channel",
            where="pytorch",
            got=f"batch size 1 and 1x1 pixels in the last stage of {spec.label}",
            next_step="use a larger batch or larger images",
        )
