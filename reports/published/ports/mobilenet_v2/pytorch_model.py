"""torchvision's MobileNetV2, without its dropout."""

from torch import nn
from torchvision.models import mobilenet_v2


def build() -> nn.Module:
    return mobilenet_v2(num_classes=10, width_mult=0.35, dropout=0.0)
