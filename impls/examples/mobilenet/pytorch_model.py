"""The network with PyTorch's own layers."""

import torch
from torch import nn
from torch.nn import functional as F

STEM, LAST, CLASSES = 8, 64, 10
# Expanded and outgoing channels, size of the depthwise kernel, stride.
BLOCKS = ((24, 8, 3, 1), (32, 16, 5, 2), (64, 16, 3, 1))


def convolution(incoming: int, outgoing: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution and batch norm."""
    return nn.Sequential(
        nn.Conv2d(incoming, outgoing, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outgoing, eps=1e-3, momentum=0.01),
    )


class SqueezeExcitation(nn.Module):
    """Scales each channel by what all of them are on average."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // 4, 1)
        self.excite = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = F.adaptive_avg_pool2d(x, 1)
        return x * F.hardsigmoid(self.excite(F.relu(self.squeeze(scale))))


class Block(nn.Module):
    """An inverted residual: expand, depthwise, squeeze and excite, project; the input added where it fits."""

    def __init__(self, incoming: int, expanded: int, outgoing: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.expand = convolution(incoming, expanded)
        self.depthwise = convolution(expanded, expanded, kernel, stride, groups=expanded)
        self.attend = SqueezeExcitation(expanded)
        self.project = convolution(expanded, outgoing)
        self.is_residual = stride == 1 and incoming == outgoing

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.hardswish(self.expand(x))
        y = F.hardswish(self.depthwise(y))
        y = self.project(self.attend(y))
        return x + y if self.is_residual else y


class MobileNet(nn.Module):
    """Stem, inverted residuals, a last wide convolution, mean over all places, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(3, STEM, 3, 1)
        outgoing = [STEM, *(block[1] for block in BLOCKS)]
        self.blocks = nn.Sequential(*(Block(size, *block) for size, block in zip(outgoing[:-1], BLOCKS, strict=True)))
        self.last = convolution(outgoing[-1], LAST)
        self.head = nn.Linear(LAST, CLASSES)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Logits `(batch_size, classes)` of pictures `(batch_size, channels, height, width)`."""
        x = self.blocks(F.hardswish(self.stem(picture)))
        return self.head(F.hardswish(self.last(x)).mean((2, 3)))


def build() -> nn.Module:
    return MobileNet()
