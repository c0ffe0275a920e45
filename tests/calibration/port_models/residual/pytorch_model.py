"""He's residual network for CIFAR with PyTorch's own layers."""

import torch
from torch import nn

COLOURS, WIDTHS, BLOCKS, CLASSES = 3, (4, 8), 1, 10


def convolution(incoming: int, outgoing: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution and batch norm."""
    return nn.Sequential(
        nn.Conv2d(incoming, outgoing, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outgoing)
    )


class Block(nn.Module):
    """A basic block; a projection where height, width or channels change."""

    def __init__(self, incoming: int, outgoing: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(incoming, outgoing, 3, stride)
        self.second = convolution(outgoing, outgoing, 3)
        changes = stride != 1 or incoming != outgoing
        self.shortcut = convolution(incoming, outgoing, 1, stride) if changes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class Residual(nn.Module):
    """Stem, stages of basic blocks, mean over all places, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(COLOURS, WIDTHS[0], 3)
        blocks, incoming = [], WIDTHS[0]
        for stage, outgoing in enumerate(WIDTHS):
            for block in range(BLOCKS):
                blocks.append(Block(incoming, outgoing, 2 if stage > 0 and block == 0 else 1))
                incoming = outgoing
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(incoming, CLASSES)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Logits `(batch_size, classes)` of pictures `(batch_size, channels, height, width)`."""
        return self.head(self.blocks(torch.relu(self.stem(picture))).mean(dim=(2, 3)))


def build() -> nn.Module:
    return Residual()
