"""torchvision's vision transformer, small."""

from torch import nn
from torchvision.models import VisionTransformer


def build() -> nn.Module:
    return VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=10
    )
