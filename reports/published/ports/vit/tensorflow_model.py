"""keras-hub's vision transformer, small."""

import keras
from keras_hub.models import ViTBackbone, ViTImageClassifier


def build() -> keras.Model:
    backbone = ViTBackbone((16, 16, 3), patch_size=4, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64)
    return ViTImageClassifier(backbone, num_classes=10)
