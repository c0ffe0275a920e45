"""The U-Net with PyTorch's own layers."""

import torch
from torch import nn

CHANNELS, CLASSES = (3, 8, 16, 32), 4


def double_convolution(incoming: int, outgoing: int) -> nn.Sequential:
    """Two convolutions, each with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(incoming, outgoing, 3, padding=1, bias=False),
        nn.BatchNorm2d(outgoing),
        nn.ReLU(),
        nn.Conv2d(outgoing, outgoing, 3, padding=1, bias=False),
        nn.BatchNorm2d(outgoing),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """Down by max pooling, up by transposed convolutions, with what was seen on the way down at every size."""

    def __init__(self) -> None:
        super().__init__()
        colours, first, second, third = CHANNELS
        self.down1 = double_convolution(colours, first)
        self.down2 = double_convolution(first, second)
        self.bottom = double_convolution(second, third)
        self.widen2 = nn.ConvTranspose2d(third, second, 4, stride=2, padding=1)
        self.up2 = double_convolution(2 * second, second)
        self.widen1 = nn.ConvTranspose2d(second, first, 4, stride=2, padding=1)
        self.up1 = double_convolution(2 * first, first)
        self.head = nn.Conv2d(first, CLASSES, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Logits `(batch_size, classes, height, width)` of pictures `(batch_size, channels, height, width)`."""
        large = self.down1(picture)
        middle = self.down2(self.pool(large))
        x = self.bottom(self.pool(middle))
        x = self.up2(torch.cat([middle, self.widen2(x)], dim=1))
        x = self.up1(torch.cat([large, self.widen1(x)], dim=1))
        return self.head(x)


def build() -> nn.Module:
    return UNet()
