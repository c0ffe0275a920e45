"""`python causes.py`: how far the two MobileNetV2s are apart in float64, as each of their settings is made alike.

The weights are carried over in the order of the layers. Differences are the largest, over the largest value.
"""

import keras
import numpy as np
import tensorflow as tf
import torch
from pytorch_alike import BatchNorm
from torch import nn
from torch.nn import functional
from torchvision.models import mobilenet_v2

CLASSES, EXAMPLES = 10, 4


def apart(got: np.ndarray, expected: torch.Tensor) -> float:
    return float(np.abs(got - expected.detach().numpy()).max() / np.abs(expected.detach().numpy()).max())


def native(layer: keras.Layer, module: nn.Module, arrays: list[torch.Tensor]) -> list[np.ndarray]:
    """A module's arrays as Keras' layer keeps them."""
    found = [array.detach().numpy() for array in arrays]
    if isinstance(module, nn.Conv2d):
        axes = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (2, 3, 1, 0)
        return [found[0].transpose(axes)]
    return [found[0].T, found[1]] if isinstance(module, nn.Linear) else found


def held(module: nn.Module) -> list[torch.Tensor]:
    statistics = [module.running_mean, module.running_var] if isinstance(module, nn.BatchNorm2d) else []
    return [*module.parameters(), *statistics]


def compare(side: int, norm: type[nn.Module]) -> list[float]:
    """Outputs in inference, outputs and largest gradient in training, and the largest of the running statistics."""
    torch.manual_seed(0)
    ours = mobilenet_v2(num_classes=CLASSES, width_mult=0.35, dropout=0.0, norm_layer=norm)
    theirs = keras.applications.MobileNetV2(
        (side, side, 3), alpha=0.35, weights=None, classes=CLASSES, classifier_activation=None
    )
    modules = [part for part in ours.modules() if isinstance(part, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]
    layers = [layer for layer in theirs.layers if layer.weights]
    pairs = list(zip(layers, modules, strict=True))
    for layer, module in pairs:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.1)
            nn.init.normal_(module.bias, 0.0, 0.1)
        layer.set_weights(native(layer, module, held(module)))
    picture, classes = torch.randn(EXAMPLES, 3, side, side), torch.randint(CLASSES, (EXAMPLES,))
    turned = picture.permute(0, 2, 3, 1).numpy()
    found = [apart(theirs(turned, training=False).numpy(), ours.eval()(picture))]
    outputs = ours.train()(picture)
    functional.cross_entropy(outputs, classes).backward()
    with tf.GradientTape() as tape:
        got = theirs(turned, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(classes.numpy(), got))
    variables = [layer.trainable_variables for layer in layers]
    gradients, statistics = [], []
    for (layer, module), own in zip(pairs, tape.gradient(loss, variables), strict=True):
        expected = native(layer, module, [array.grad for array in module.parameters()])
        gradients += [(one.numpy(), other) for one, other in zip(own, expected, strict=True)]
        if isinstance(module, nn.BatchNorm2d):
            moving = layer.moving_mean, layer.moving_variance
            statistics += [apart(one.numpy(), two) for one, two in zip(moving, held(module)[2:], strict=True)]
    # Gradients of which some are zero but for rounding: over the largest of all.
    largest = max(np.abs(other).max() for _, other in gradients)
    off = max(np.abs(one - other).max() for one, other in gradients)
    return [*found, apart(got.numpy(), outputs), off / largest, max(statistics)]


class SettingsAlone(nn.BatchNorm2d):
    """With Keras' epsilon and momentum, and PyTorch's running variance."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.001)


if __name__ == "__main__":
    keras.config.set_floatx("float64")
    torch.set_default_dtype(torch.float64)
    print(f"{'side of the picture, batch norm':36} inference  training  gradients  running statistics")
    for size in (32, 33):
        for kind in (nn.BatchNorm2d, SettingsAlone, BatchNorm):
            print(f"{size} {kind.__name__:33}", *(f"{number:10.1e}" for number in compare(size, kind)))
