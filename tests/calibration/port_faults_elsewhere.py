"""Mistakes in a port, as a mistaken author would write them: in the Keras and the PyTorch side of every example.

Where PyTorch's side is the port, JAX's is the reference; what differs first is then named as JAX's side has it.
"""

from __future__ import annotations

from functools import partial

from tests.calibration.port_fault import LOSS, OUTPUTS, PortFault, after_training, faults_of, of_gradient

in_keras = partial(faults_of, framework="tensorflow")
in_pytorch = partial(faults_of, framework="pytorch")

KERAS = (
    *in_keras(
        "transformer",
        ("the first norms have Keras' own epsilon", "epsilon",
         "self.norm1 = keras.layers.LayerNormalization(epsilon=1e-5)", "self.norm1 = keras.layers.LayerNormalization()",
         OUTPUTS, "norm1"),
        ("GELU by tanh", "activation", 'activation="gelu"',
         "activation=lambda x: keras.activations.gelu(x, approximate=True)", OUTPUTS, "linear1"),
        ("positions off by one", "positions", "+ self.positions", "+ keras.ops.roll(self.positions, 1, axis=0)",
         OUTPUTS, "embedding"),
        ("a causal mask", "masks", "self.attention(normed, normed)",
         "self.attention(normed, normed, use_causal_mask=True)", OUTPUTS, "attention"),
        ("values from before the norm", "order", "self.attention(normed, normed)", "self.attention(normed, x)",
         OUTPUTS, "attention"),
        ("half as many heads", "axes", "keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS)",
         "keras.layers.MultiHeadAttention(HEADS // 2, 2 * WIDTH // HEADS)", OUTPUTS, "attention"),
        ("the last norm left out", "layers", "keras.ops.mean(self.norm(x), axis=1)",
         "keras.ops.mean(x + 0.0 * self.norm(x), axis=1)", OUTPUTS, "norm"),
        ("the embedding is not trained", "gradient", "self.embedding(tokens) +",
         "keras.ops.stop_gradient(self.embedding(tokens)) +", of_gradient("embedding"), "embedding"),
        ("the second layer left out", "layers", "for block in self.blocks:", "for block in self.blocks[:1]:",
         OUTPUTS, "layers"),
    ),
    *in_keras(
        "gru",
        ("the reset gate before the product, with one bias", "weights",
         "keras.layers.GRU(HIDDEN, return_sequences=True)",
         "keras.layers.GRU(HIDDEN, return_sequences=True, reset_after=False)", r".*gru\..*bias", "gru"),
        ("the way back not turned round again", "order",
         "x = layer(x)", "x, back = keras.ops.split(layer(x), 2, -1)\n"
         "            x = keras.ops.concatenate([x, keras.ops.flip(back, 1)], -1)", OUTPUTS, "gru"),
        ("padding counts", "masks", "x = keras.ops.where(is_padding, keras.ops.zeros_like(x), x)", "pass",
         OUTPUTS, "embedding"),
        ("another token is the padding", "masks", "keras.ops.equal(tokens, PADDING)",
         "keras.ops.equal(tokens, PADDING + 1)", OUTPUTS, "embedding"),
        ("hard sigmoid in the gates", "activation", "keras.layers.GRU(HIDDEN, return_sequences=True)",
         'keras.layers.GRU(HIDDEN, return_sequences=True, recurrent_activation="hard_sigmoid")', OUTPUTS, "gru"),
        ("Keras' own epsilon in the norm", "epsilon", "LayerNormalization(epsilon=1e-5)", "LayerNormalization()",
         OUTPUTS, "norm"),
        ("outputs one step late", "order", "self.head(self.norm(x))",
         "self.head(self.norm(keras.ops.roll(x, 1, axis=1)))", OUTPUTS, "norm"),
    ),
    *in_keras(
        "unet",
        ("a batch norm has Keras' own epsilon", "epsilon",
         "self.norm1 = BatchNorm(momentum=0.9, epsilon=1e-5)", "self.norm1 = BatchNorm(momentum=0.9)",
         OUTPUTS, "down1"),
        ("Keras' own momentum", "momentum", "self.norm1 = BatchNorm(momentum=0.9, ", "self.norm1 = BatchNorm(",
         after_training(r"weight 'down1\.1\.mean"), "down1"),
        ("the running variance over n", "scale", "(count / (count - 1))", "1.0",
         after_training(r"weight 'down1\.1\.variance"), "down1"),
        ("running statistics in training", "mode", "super().call(x, training=training)",
         "super().call(x, training=False)", LOSS, "down1"),
        ("kernels of transposed convolutions mirrored", "axes", "[middle, self.widen2(x)]",
         "[middle, self.widen2(x[:, ::-1])[:, ::-1]]", OUTPUTS, "widen2"),
        ("what is joined the other way round", "order", "[middle, self.widen2(x)]", "[self.widen2(x), middle]",
         OUTPUTS, "up2"),
        ("mean in place of the largest", "layers", "keras.layers.MaxPooling2D(2)", "keras.layers.AveragePooling2D(2)",
         OUTPUTS, "down2"),
        ("a ReLU left out", "activation", "keras.ops.relu(self.norm2(self.conv2(x), training=training))",
         "self.norm2(self.conv2(x), training=training)", OUTPUTS, "down1"),
        ("the gradient by the short way cut", "gradient", "[large, self.widen1(x)]",
         "[keras.ops.stop_gradient(large), self.widen1(x)]", of_gradient("down1"), "down1"),
    ),
    *in_keras(
        "mobilenet",
        ('"same" where a stride is', "padding", "self.pad = keras.layers.ZeroPadding2D(kernel // 2)",
         "self.pad = keras.layers.ZeroPadding2D(((kernel // 2 - (stride - 1), kernel // 2 + (stride - 1)), ) * 2)",
         OUTPUTS, "blocks.1"),
        ("swish in place of hard swish", "activation", "keras.ops.hard_swish(self.depthwise(y, training=training))",
         "keras.ops.silu(self.depthwise(y, training=training))", OUTPUTS, "depthwise"),
        ("ReLU6 in place of the last hard swish", "activation",
         "keras.ops.hard_swish(self.last(x, training=training))", "keras.ops.relu6(self.last(x, training=training))",
         OUTPUTS, "last"),
        ("no residual", "layers", "return x + y if self.is_residual else y", "return y", OUTPUTS, "blocks.0"),
        ("a momentum of 0.9901", "momentum", "momentum=0.99,", "momentum=0.9901,",
         after_training(r"weight 'stem\.1\.mean"), "stem"),
        ("sigmoid in place of hard sigmoid", "activation", 'activation="hard_sigmoid"', 'activation="sigmoid"',
         OUTPUTS, "excite"),
        ("squeezed over rows alone", "axes", "axis=(1, 2), keepdims=True", "axis=1, keepdims=True", OUTPUTS, "attend"),
    ),
    *in_keras(
        "autoencoder",
        ("Keras' own epsilon", "epsilon", "GroupNormalization(GROUPS, epsilon=1e-5)", "GroupNormalization(GROUPS)",
         OUTPUTS, "encoder"),
        ("flattened with channels last", "axes", "keras.ops.transpose(x, (0, 3, 1, 2))", "x", OUTPUTS, "mean"),
        ("the variance in place of its root", "scale", "keras.ops.exp(0.5 * self", "keras.ops.exp(self",
         OUTPUTS, "log_variance"),
        ("no gradient by the variance", "gradient", "keras.ops.exp(0.5 * self.log_variance(seen))",
         "keras.ops.exp(0.5 * keras.ops.stop_gradient(self.log_variance(seen)))", of_gradient("log_variance"),
         "log_variance"),
        ("twice as many groups", "axes", "GroupNormalization(GROUPS,", "GroupNormalization(2 * GROUPS,",
         OUTPUTS, "encoder"),
        ("pictures turned over", "axes", "keras.ops.expand_dims(picture, -1)",
         "keras.ops.expand_dims(keras.ops.swapaxes(picture, 1, 2), -1)", OUTPUTS, "encoder"),
    ),
)  # fmt: skip

PYTORCH = (
    *in_pytorch(
        "transformer",
        ("GELU by tanh", "activation", 'activation="gelu"',
         'activation=lambda x: nn.functional.gelu(x, approximate="tanh")', OUTPUTS, "linear1"),
        ("ReLU, PyTorch's own", "activation", 'activation="gelu", ', "", OUTPUTS, "linear1"),
        ("norm after, PyTorch's own", "order", ", norm_first=True", "", OUTPUTS, "layers"),
        ("the last norm has an epsilon of 1e-6", "epsilon", "nn.LayerNorm(WIDTH)", "nn.LayerNorm(WIDTH, eps=1e-6)",
         OUTPUTS, "norm"),
        ("batch and time exchanged in attention", "axes", "batch_first=True", "batch_first=False",
         OUTPUTS, "attention"),
        ("twice as many heads", "axes", "WIDTH, HEADS, HIDDEN, dropout", "WIDTH, 2 * HEADS, HIDDEN, dropout",
         OUTPUTS, "attention"),
        ("a causal mask", "masks", "self.layers(self.embedding(tokens) + self.positions)",
         "self.layers(self.embedding(tokens) + self.positions, "
         "mask=nn.Transformer.generate_square_subsequent_mask(LENGTH, dtype=self.positions.dtype))",
         OUTPUTS, "attention"),
        ("positions backwards", "positions", "+ self.positions)", "+ self.positions.flip(0))", OUTPUTS, "embedding"),
        ("the largest in place of the mean", "layers", ".mean(dim=1)", ".amax(dim=1)", OUTPUTS, "norm"),
    ),
    *in_pytorch(
        "gru",
        ("directions exchanged", "order", "states, _ = self.gru(x)",
         "states, _ = self.gru(x)\n        states = torch.cat(states.chunk(2, -1)[::-1], -1)", OUTPUTS, "layers"),
        ("time and batch exchanged", "axes", "batch_first=True", "batch_first=False", OUTPUTS, "layers"),
        ("padding counts", "masks", ".masked_fill((tokens == PADDING).unsqueeze(-1), 0.0)", "", OUTPUTS, "embedding"),
        ("the gradient cut below the norm", "gradient", "self.norm(states)", "self.norm(states.detach())",
         of_gradient("layers"), "layers"),
        ("the last state everywhere", "layers", "self.norm(states)", "self.norm(states[:, -1:].expand_as(states))",
         OUTPUTS, "norm"),
    ),
    *in_pytorch(
        "unet",
        ("another epsilon in one batch norm", "epsilon",
         "nn.BatchNorm2d(outgoing),\n        nn.ReLU(),\n        nn.Conv2d",
         "nn.BatchNorm2d(outgoing, eps=1e-3),\n        nn.ReLU(),\n        nn.Conv2d", OUTPUTS, "down1"),
        ("momentum as Keras means it", "momentum",
         "nn.BatchNorm2d(outgoing),\n        nn.ReLU(),\n        nn.Conv2d",
         "nn.BatchNorm2d(outgoing, momentum=0.9),\n        nn.ReLU(),\n        nn.Conv2d",
         after_training(r"weight 'down1\.norm1\.mean"), "down1"),
        ("what is joined the other way round", "order", "[large, self.widen1(x)]", "[self.widen1(x), large]",
         OUTPUTS, "up1"),
        ("transposed convolutions a pixel aside", "padding", "return self.head(x)",
         "return self.head(x.roll(1, 2))", OUTPUTS, "head"),
        ("the gradient by the short way cut", "gradient", "[large, self.widen1(x)]", "[large.detach(), self.widen1(x)]",
         of_gradient("down1"), "down1"),
        ("padding by what is at the edge", "padding",
         "nn.Conv2d(incoming, outgoing, 3, padding=1, bias=False)",
         'nn.Conv2d(incoming, outgoing, 3, padding=1, bias=False, padding_mode="replicate")', OUTPUTS, "down1"),
    ),
    *in_pytorch(
        "mobilenet",
        ("batch norm has PyTorch's own epsilon", "epsilon", "eps=1e-3, ", "", OUTPUTS, "stem"),
        ("momentum as Keras means it", "momentum", "momentum=0.01", "momentum=0.99",
         after_training(r"weight 'stem\.norm\.mean"), "stem"),
        ("ReLU6 in place of hard swish", "activation", "y = F.hardswish(self.expand(x))", "y = F.relu6(self.expand(x))",
         OUTPUTS, "expand"),
        ("the largest in place of the mean", "layers", "F.adaptive_avg_pool2d(x, 1)", "F.adaptive_max_pool2d(x, 1)",
         OUTPUTS, "attend"),
        ("no squeeze and excite", "layers", "self.project(self.attend(y))", "self.project(y + 0.0 * self.attend(y))",
         OUTPUTS, "attend"),
        ("the stride in the wrong convolution", "stride", "(32, 16, 5, 2), (64, 16, 3, 1)",
         "(32, 16, 5, 1), (64, 16, 3, 2)", OUTPUTS, "blocks.1"),
    ),
    *in_pytorch(
        "autoencoder",
        ("the noise left out", "layers", " * noise", " * noise * 0.0", OUTPUTS, "noise"),
        ("mean and variance exchanged", "weights",
         "self.mean(seen) + torch.exp(0.5 * self.log_variance(seen)) * noise",
         "self.log_variance(seen) + torch.exp(0.5 * self.mean(seen)) * noise", OUTPUTS, "mean"),
        ("no gradient by the noise", "gradient", "* noise", "* noise.detach()", of_gradient("noise"), "noise"),
        ("tanh in place of the last sigmoid", "activation", "nn.Sigmoid()", "nn.Tanh()", OUTPUTS, "decoder"),
        ("pictures a thousandth too bright", "scale", "picture.unsqueeze(1)", "1.001 * picture.unsqueeze(1)",
         OUTPUTS, "encoder"),
    ),
)  # fmt: skip


def _of_optimiser(name: str, framework: str, rule: str, place: str, there: str, written: str) -> PortFault:
    file = f"impls/{framework}/optimiser.py"
    return PortFault(name, "autoencoder", "optimiser", ((file, there, written),), place, "", rule, framework)


OPTIMISER = (
    _of_optimiser("a rate a thousandth too high", "tensorflow", "sgd", after_training("weight"),
                  "rate = tf.constant(self.learning_rate, grads[0].dtype)",
                  "rate = tf.constant(1.001 * self.learning_rate, grads[0].dtype)"),
    _of_optimiser("Adam's power of a step too few", "tensorflow", "adam", after_training("weight"),
                  "step = tf.cast(self.iterations.value + 1, dtype)",
                  "step = tf.cast(self.iterations.value + 2, dtype)"),
    _of_optimiser("dampening of a thousandth", "pytorch", "momentum", after_training("(momentum of|weight)"),
                  "dampening=0.0", "dampening=0.001"),
    _of_optimiser("Adam's second decay rate 0.99", "pytorch", "adam", after_training("second moment of"),
                  "betas=(optimiser.beta1, optimiser.beta2), eps", "betas=(optimiser.beta1, 0.99), eps"),
)  # fmt: skip

ELSEWHERE = (*KERAS, *PYTORCH, *OPTIMISER)
