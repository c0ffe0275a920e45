"""torchvision's MobileNetV2 with the batch norms of Keras'."""

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import mobilenet_v2


class BatchNorm(nn.BatchNorm2d):
    """Keras' epsilon and momentum; and the running variance over n as Keras keeps it, not over n - 1."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        kept, count = self.running_var * (1 - self.momentum), x.numel() // x.shape[1]
        variance = self.running_var.clone()
        y = functional.batch_norm(x, self.running_mean, variance, self.weight, self.bias, True, self.momentum, self.eps)
        self.running_var.copy_(kept + (variance - kept) * ((count - 1) / count))
        return y


def build() -> nn.Module:
    return mobilenet_v2(num_classes=10, width_mult=0.35, dropout=0.0, norm_layer=BatchNorm)
