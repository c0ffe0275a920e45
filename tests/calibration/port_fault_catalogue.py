"""Mistakes in a port, as a mistaken author would write them: here in the JAX side of every example."""

from __future__ import annotations

from tests.calibration.port_fault import (
    LOSS,
    OUTPUTS,
    PortFault,
    after_training,
    fault_of_optimiser,
    faults_of,
    of_gradient,
)
from tests.calibration.port_faults_elsewhere import ELSEWHERE


def _cell(*lines: str) -> str:
    """A GRU cell's step in place of Flax's."""
    head = (
        "self.dense_h = nnx.Linear(HIDDEN, 3 * HIDDEN, rngs=rngs)\n\n"
        "    def __call__(self, carry, inputs):\n"
        "        xr, xz, xn = jnp.split(self.dense_i(inputs), 3, axis=-1)\n"
        "        hr, hz, hn = jnp.split(self.dense_h(carry), 3, axis=-1)\n"
    )
    return head + "".join(f"        {line}\n" for line in lines) + "        return carry, carry"


DENSE_H = "self.dense_h = nnx.Linear(HIDDEN, 3 * HIDDEN, rngs=rngs)"
ATTEND = "self.attention(self.norm1(x))"
HEAD_0_AS_1 = (
    "        kernel = self.attention.{0}.kernel[...]\n"
    "        self.attention.{0}.kernel[...] = kernel.at[:, 0].set(kernel[:, 1]).at[:, 1].set(kernel[:, 0])\n"
)
ADD_ATTENTION = "        x = x + self.attention(self.norm1(x))"

TRANSFORMER = faults_of(
    "transformer",
    ("the first norms have Flax's own epsilon", "epsilon", "self.norm1 = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)",
     "self.norm1 = nnx.LayerNorm(WIDTH, rngs=rngs)", OUTPUTS, "norm1"),
    ("the last norm has an epsilon of 1e-6", "epsilon", "self.norm = nnx.LayerNorm(WIDTH, epsilon=1e-5",
     "self.norm = nnx.LayerNorm(WIDTH, epsilon=1e-6", OUTPUTS, "norm"),
    ("GELU by tanh", "activation", "approximate=False", "approximate=True", OUTPUTS, "linear1"),
    ("ReLU in place of GELU", "activation", "nnx.gelu(self.linear1(self.norm2(x)), approximate=False)",
     "nnx.relu(self.linear1(self.norm2(x)))", OUTPUTS, "linear1"),
    ("GELU's slope as of a sigmoid", "activation", "nnx.gelu(self.linear1(self.norm2(x)), approximate=False)",
     "jax.nn.silu(1.702 * (y := self.linear1(self.norm2(x)))) / 1.702", OUTPUTS, "linear1"),
    ("positions off by one", "positions", "self.positions[...]", "jnp.roll(self.positions[...], 1, axis=0)",
     OUTPUTS, "positions"),
    ("positions backwards", "positions", "self.positions[...]", "self.positions[...][::-1]", OUTPUTS, "positions"),
    ("no positions", "positions", "+ self.positions[...]", "+ 0.0 * self.positions[...]", OUTPUTS, "positions"),
    ("the first two heads of the query swapped", "head swapped", ADD_ATTENTION,
     HEAD_0_AS_1.format("query") + ADD_ATTENTION, OUTPUTS, "attention"),
    ("the first two heads of the value swapped", "head swapped", ADD_ATTENTION,
     HEAD_0_AS_1.format("value") + ADD_ATTENTION, OUTPUTS, "attention"),
    ("half as many heads", "axes", "nnx.MultiHeadAttention(HEADS, WIDTH", "nnx.MultiHeadAttention(HEADS // 2, WIDTH",
     OUTPUTS, "attention"),
    ("no residual around attention", "layers", "x = x + self.attention(", "x = self.attention(", OUTPUTS, "attention"),
    ("norm after attention, not before", "order", f"x = x + {ATTEND}", "x = self.norm1(x + self.attention(x))",
     OUTPUTS, "norm1"),
    ("the first norm in both places", "weights", "self.norm2(x)", "self.norm1(x)", OUTPUTS, "norm2"),
    ("the first token in place of the mean", "layers", "jnp.mean(self.norm(x), axis=1)", "self.norm(x)[:, 0]",
     OUTPUTS, "head"),
    ("a causal mask", "masks", ATTEND, "self.attention(self.norm1(x), mask=nnx.make_causal_mask(x[..., 0]))",
     OUTPUTS, "attention"),
    ("a mask that hides the last token", "masks", ATTEND,
     "self.attention(self.norm1(x), mask=(jnp.arange(LENGTH) < LENGTH - 1)[None, None, None])", OUTPUTS, "attention"),
    ("scores not divided as they should be", "scale", "nnx.MultiHeadAttention(HEADS, WIDTH, decode=False",
     "nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, "
     "attention_fn=lambda q, k, v, **more: nnx.dot_product_attention(q * (HEADS / WIDTH) ** 0.5, k, v, **more)",
     OUTPUTS, "attention"),
    ("outputs a thousandth too large", "scale", "return self.head(", "return 1.001 * self.head(", OUTPUTS, "head"),
    ("bfloat16 before the mean", "precision", "jnp.mean(self.norm(x), axis=1)",
     "jnp.mean(self.norm(x).astype(jnp.bfloat16).astype(x.dtype), axis=1)", OUTPUTS, "norm"),
    ("the gradient past the second half of a layer cut", "gradient", "return x + self.linear2(",
     "return jax.lax.stop_gradient(x) + self.linear2(", of_gradient(r"layers.layers.1.norm1"), "layers.1"),
    ("the embedding is not trained", "gradient", "self.embedding(tokens)",
     "jax.lax.stop_gradient(self.embedding(tokens))",
     of_gradient("embedding"), "embedding"),
    ("tokens off by one", "order", "self.embedding(tokens)", "self.embedding((tokens + 1) % TOKENS)",
     OUTPUTS, "embedding"),
    ("the second layer left out", "layers", "in self.layers:", "in list(self.layers)[:1]:", OUTPUTS, "layers"),
    ("layers the other way round", "order", "in self.layers:", "in reversed(list(self.layers)):", OUTPUTS, "layers"),
    ("a head without a bias", "weights", "nnx.Linear(WIDTH, CLASSES, rngs=rngs)",
     "nnx.Linear(WIDTH, CLASSES, use_bias=False, rngs=rngs)", r".*head\.bias", "head"),
)  # fmt: skip

GRU = faults_of(
    "gru",
    ("the norm has Flax's own epsilon", "epsilon", "nnx.LayerNorm(2 * HIDDEN, epsilon=1e-5", "nnx.LayerNorm(2 * HIDDEN",
     OUTPUTS, "norm"),
    ("reset and update gate exchanged", "order", DENSE_H,
     _cell("r, z = nnx.sigmoid(xz + hz), nnx.sigmoid(xr + hr)", "carry = (1 - z) * jnp.tanh(xn + r * hn) + z * carry"),
     OUTPUTS, "layers.0"),
    ("the update gate the other way round", "order", DENSE_H,
     _cell("r, z = nnx.sigmoid(xr + hr), nnx.sigmoid(xz + hz)", "carry = z * jnp.tanh(xn + r * hn) + (1 - z) * carry"),
     OUTPUTS, "layers.0"),
    ("the reset gate before the product", "order", DENSE_H,
     _cell("r, z = nnx.sigmoid(xr + hr), nnx.sigmoid(xz + hz)",
           "hn = jnp.split(self.dense_h(r * carry), 3, axis=-1)[2]",
           "carry = (1 - z) * jnp.tanh(xn + hn) + z * carry"),
     OUTPUTS, "layers.0"),
    ("the second bias not under the reset gate", "weights", DENSE_H,
     _cell("r, z = nnx.sigmoid(xr + hr), nnx.sigmoid(xz + hz)", "bias = self.dense_h.bias[...][2 * HIDDEN :]",
           "carry = (1 - z) * jnp.tanh(xn + r * (hn - bias) + bias) + z * carry"),
     OUTPUTS, "layers.0"),
    ("one bias, as Flax has it", "weights", DENSE_H, "pass", r".*gru\.hh_l0.*bias", "gru"),
    ("gates by hard sigmoid", "activation", "super().__init__(in_features, HIDDEN, rngs=rngs)",
     "super().__init__(in_features, HIDDEN, gate_fn=nnx.hard_sigmoid, rngs=rngs)", OUTPUTS, "layers.0"),
    ("the way back not turned round again", "order", "nnx.RNN(GRUCell(size, rngs)))",
     "nnx.RNN(GRUCell(size, rngs)), merge_fn=lambda a, b: jnp.concatenate([a, b[:, ::-1]], axis=-1))",
     OUTPUTS, "layers.0"),
    ("directions exchanged", "order", "nnx.RNN(GRUCell(size, rngs)))",
     "nnx.RNN(GRUCell(size, rngs)), merge_fn=lambda a, b: jnp.concatenate([b, a], axis=-1))", OUTPUTS, "layers.0"),
    ("another token is the padding", "masks", "tokens == PADDING", "tokens == PADDING + 1", OUTPUTS, "embedding"),
    ("padding counts", "masks", "jnp.where((tokens == PADDING)[..., None], 0.0, self.embedding(tokens))",
     "self.embedding(tokens)", OUTPUTS, "embedding"),
    ("the mask one step late", "masks", "(tokens == PADDING)[", "(jnp.roll(tokens, 1, axis=1) == PADDING)[",
     OUTPUTS, "embedding"),
    ("a thousandth of the padding comes through", "masks", "[..., None], 0.0, self.embedding(tokens))",
     "[..., None], 0.001 * (y := self.embedding(tokens)), y)", OUTPUTS, "embedding"),
    ("the gradient cut below every layer", "gradient", "x = layer(x)", "x = layer(jax.lax.stop_gradient(x))",
     of_gradient(r"gru.*l0"), "gru"),
    ("no gradient through time", "gradient", DENSE_H,
     DENSE_H + "\n\n    def __call__(self, carry, inputs):\n"
     "        return super().__call__(jax.lax.stop_gradient(carry), inputs)", of_gradient(r"gru.*l1"), "gru"),
    ("the state begins at a thousandth", "scale", DENSE_H,
     DENSE_H + "\n\n    def initialize_carry(self, *args, **more):\n"
     "        return super().initialize_carry(*args, **more) + 0.001", OUTPUTS, "layers.0"),
    ("outputs one step late", "order", "self.norm(x)", "self.norm(jnp.roll(x, 1, axis=1))", OUTPUTS, "norm"),
    ("the norm left out", "layers", "self.norm(x)", "x + 0.0 * self.norm(x)", OUTPUTS, "norm"),
)  # fmt: skip

RIGHT_PADDING = "padding=2"
BOTTOM = "x = self.bottom(nnx.max_pool(middle, (2, 2), strides=(2, 2)))"

UNET = faults_of(
    "unet",
    ("batch norm has Keras' epsilon", "epsilon", "epsilon=1e-5", "epsilon=1e-3", OUTPUTS, "down1"),
    ("batch norm's epsilon is 2e-5", "epsilon", "epsilon=1e-5", "epsilon=2e-5", OUTPUTS, "down1"),
    ("Flax's own momentum", "momentum", "momentum=0.9, ", "", after_training(r"weight 'down1\.1\.mean"), "down1"),
    ("momentum as PyTorch means it", "momentum", "momentum=0.9", "momentum=0.1",
     after_training(r"weight 'down1\.1\.mean"), "down1"),
    ("the running variance over n", "scale", "count / (count - 1)", "1.0",
     after_training(r"weight 'down1\.1\.variance"), "down1"),
    ("running statistics in training", "mode", "super().__call__(x)", "super().__call__(x, use_running_average=True)",
     LOSS, "down1"),
    ("batch statistics in inference", "mode", "super().__call__(x)", "super().__call__(x, use_running_average=False)",
     OUTPUTS, "down1"),
    ("the batch's variance over n - 1 in the output", "scale", "        return y\n",
     "        return y * (1 - 0.5 / (x.size // x.shape[-1]) * (not self.use_running_average))\n", LOSS, "down1"),
    ("transposed convolutions a pixel aside", "padding", RIGHT_PADDING, "padding=((1, 3), (1, 3))", OUTPUTS, "widen2"),
    ("kernels of transposed convolutions not turned", "axes", "transpose_kernel=True", "transpose_kernel=False",
     OUTPUTS, "widen2"),
    ("convolutions around the edge", "padding", "nnx.Conv(incoming, outgoing, (3, 3), use_bias=False",
     'nnx.Conv(incoming, outgoing, (3, 3), padding="CIRCULAR", use_bias=False', OUTPUTS, "down1"),
    ("mean in place of the largest", "layers", BOTTOM, BOTTOM.replace("max_pool", "avg_pool"), OUTPUTS, "bottom"),
    ("what is joined the other way round", "order", "[middle, self.widen2(x)]", "[self.widen2(x), middle]",
     OUTPUTS, "up2"),
    ("the gradient by the short way cut", "gradient", "[large, self.widen1(x)]",
     "[jax.lax.stop_gradient(large), self.widen1(x)]", of_gradient("down1"), "down1"),
    ("leaky ReLU", "activation", "x = nnx.relu(self.norm1(", "x = nnx.leaky_relu(self.norm1(", OUTPUTS, "down1"),
    ("the second ReLU left out", "activation", "return nnx.relu(self.norm2(self.conv2(x)))",
     "return self.norm2(self.conv2(x))", OUTPUTS, "down1"),
    ("ReLU before batch norm", "order", "x = nnx.relu(self.norm1(self.conv1(x)))",
     "x = self.norm1(nnx.relu(self.conv1(x)))", OUTPUTS, "down1"),
    ("outputs turned over", "axes", "jnp.moveaxis(self.head(x), -1, 1)", "jnp.transpose(self.head(x), (0, 3, 2, 1))",
     OUTPUTS, "head"),
    ("transposed convolutions without bias", "weights", "transpose_kernel=True,",
     "transpose_kernel=True, use_bias=False,",
     r".*widen\d\.bias", "widen"),
)  # fmt: skip
TURNED_PICTURES = PortFault(
    "pictures turned over", "unet", "axes", (("port.toml", "[0, 2, 3, 1]  ", "[0, 3, 2, 1]  "),), OUTPUTS, "down1"
)

MOBILENET = faults_of(
    "mobilenet",
    ("batch norm has PyTorch's own epsilon", "epsilon", "epsilon=1e-3", "epsilon=1e-5", OUTPUTS, "stem"),
    ("batch norm has PyTorch's own momentum", "momentum", "momentum=0.99", "momentum=0.9",
     after_training(r"weight 'stem\.1\.mean"), "stem"),
    ("a momentum of 0.9901", "momentum", "momentum=0.99", "momentum=0.9901",
     after_training(r"weight 'stem\.1\.mean"), "stem"),
    ("swish in place of hard swish", "activation", "nnx.hard_swish(self.depthwise(y))", "nnx.swish(self.depthwise(y))",
     OUTPUTS, "depthwise"),
    ("hard swish by a sixth that is a little off", "activation", "y = nnx.hard_swish(self.expand(x))",
     "y = self.expand(x)\n        y = y * jnp.clip(y + 3, 0, 6) * 0.1667", OUTPUTS, "expand"),
    ("sigmoid in place of hard sigmoid", "activation", "nnx.hard_sigmoid(", "nnx.sigmoid(", OUTPUTS, "attend"),
    ("no ReLU in squeeze and excite", "activation", "nnx.relu(self.squeeze(scale))", "self.squeeze(scale)",
     OUTPUTS, "attend"),
    ('"SAME" where a stride is', "padding", "padding=kernel // 2,", 'padding="SAME",', OUTPUTS, "blocks.1"),
    ("the stride forgotten", "stride", "strides=stride,", "strides=1,", OUTPUTS, "blocks.1"),
    ("strides of one block at the next one", "stride", "(32, 16, 5, 2), (64, 16, 3, 1)",
     "(32, 16, 5, 1), (64, 16, 3, 2)",
     OUTPUTS, "blocks.1"),
    ("squeezed over rows alone", "axes", "axis=(1, 2), keepdims=True", "axis=1, keepdims=True", OUTPUTS, "attend"),
    ("no squeeze and excite", "layers", "self.project(self.attend(y))", "self.project(y + 0.0 * self.attend(y))",
     OUTPUTS, "attend"),
    ("no residual", "layers", "return x + y if self.is_residual else y", "return y", OUTPUTS, "blocks.0"),
    ("kernels upside down", "axes", "self.norm(self.conv(x))", "self.norm(self.conv(x[:, ::-1])[:, ::-1])",
     OUTPUTS, "stem"),
    ("the gradient through the squeeze cut", "gradient", "scale = jnp.mean(x, axis=(1, 2), keepdims=True)",
     "scale = jax.lax.stop_gradient(jnp.mean(x, axis=(1, 2), keepdims=True))", of_gradient(r"blocks\.2"), "blocks.2"),
    ("the largest in place of the mean", "layers", "jnp.mean(nnx.hard_swish(self.last(x)), axis=(1, 2))",
     "jnp.max(nnx.hard_swish(self.last(x)), axis=(1, 2))", OUTPUTS, "last"),
    ("the running variance over n", "scale", "count / (count - 1)", "1.0",
     after_training(r"weight 'stem\.1\.variance"), "stem"),
    ("running statistics in training", "mode", "super().__call__(x)", "super().__call__(x, use_running_average=True)",
     LOSS, "stem"),
    ("two channels of the stem exchanged", "weights", "x = nnx.hard_swish(self.stem(picture))",
     "x = nnx.hard_swish(self.stem(picture))[..., jnp.array([1, 0, *range(2, STEM)])]", OUTPUTS, "stem"),
)  # fmt: skip

CODE = "self.mean(seen) + jnp.exp(0.5 * self.log_variance(seen)) * noise"
NORM_2 = "nnx.GroupNorm(many, GROUPS, epsilon=1e-5"

AUTOENCODER = faults_of(
    "autoencoder",
    ("a group norm has Flax's own epsilon", "epsilon", NORM_2, "nnx.GroupNorm(many, GROUPS", OUTPUTS, "norm2"),
    ("twice as many groups", "axes", NORM_2, "nnx.GroupNorm(many, 2 * GROUPS, epsilon=1e-5", OUTPUTS, "norm2"),
    ("the variance in place of its root", "scale", "jnp.exp(0.5 * self", "jnp.exp(self", OUTPUTS, "log_variance"),
    ("mean and variance exchanged", "weights", CODE, "self.log_variance(seen) + jnp.exp(0.5 * self.mean(seen)) * noise",
     OUTPUTS, "mean"),
    ("flattened with channels last", "axes", "x.transpose(0, 3, 1, 2).reshape(len(x), -1)", "x.reshape(len(x), -1)",
     OUTPUTS, "mean"),
    ("spread out with channels last", "axes", "x.reshape(len(x), -1, SIDE, SIDE).transpose(0, 2, 3, 1)",
     "x.reshape(len(x), SIDE, SIDE, -1)", OUTPUTS, "decoder.conv1"),
    ("no gradient by the noise", "gradient", "* noise", "* jax.lax.stop_gradient(noise)",
     of_gradient("noise"), "noise"),
    ("no gradient by the variance", "gradient", "self.log_variance(seen)",
     "jax.lax.stop_gradient(self.log_variance(seen))",
     of_gradient("log_variance"), "log_variance"),
    ("the decoder alone is trained", "gradient", "self.expand(code)", "self.expand(jax.lax.stop_gradient(code))",
     of_gradient(r"(log_variance|mean)"), "log_variance"),
    ("the noise left out", "layers", CODE, CODE + " * 0.0", OUTPUTS, "noise"),
    ("another example's noise", "order", "* noise", "* jnp.roll(noise, 1, axis=0)", OUTPUTS, "noise"),
    ('"SAME" where a stride is', "padding", "nnx.Conv(one, few, (3, 3), strides=2, padding=1",
     "nnx.Conv(one, few, (3, 3), strides=2",
     OUTPUTS, "encoder.conv1"),
    ("a transposed convolution a pixel aside", "padding", "nnx.ConvTranspose(few, one, (4, 4), strides=2, padding=2",
     "nnx.ConvTranspose(few, one, (4, 4), strides=2, padding=((1, 3), (2, 2))", OUTPUTS, "decoder.conv2"),
    ("ReLU in place of SiLU", "activation", "x = nnx.silu(self.norm2(self.conv2(x)))",
     "x = nnx.relu(self.norm2(self.conv2(x)))",
     OUTPUTS, "norm2"),
    ("tanh in place of the last sigmoid", "activation", "nnx.sigmoid(self.conv2(x))",
     "0.5 + 0.5 * jnp.tanh(self.conv2(x))",
     OUTPUTS, "decoder.conv2"),
    ("pictures turned over", "axes", "self.encoder(picture[..., None])", "self.encoder(picture.mT[..., None])",
     OUTPUTS, "encoder.conv1"),
    ("pictures a thousandth too bright", "scale", "self.encoder(picture[..., None])",
     "self.encoder(1.001 * picture[..., None])", OUTPUTS, "encoder.conv1"),
)  # fmt: skip


OPTIMISER = (
    fault_of_optimiser("a rate a thousandth too high", "jax", "sgd", after_training("weight"),
                  "optax.sgd(optimiser.learning_rate", "optax.sgd(1.001 * optimiser.learning_rate"),
    fault_of_optimiser("a momentum that is a thousandth too small", "jax", "momentum", after_training("momentum of"),
                  "optimiser.momentum if", "0.999 * optimiser.momentum if"),
    fault_of_optimiser("Nesterov's momentum", "jax", "momentum", after_training("(momentum of|weight)"),
                  "momentum=momentum, nesterov=False", "momentum=momentum, nesterov=True"),
    fault_of_optimiser("Adam's epsilon as in Keras", "jax", "adam", after_training("weight"),
                       "eps=optimiser.epsilon", "eps=1e-7"),
    fault_of_optimiser("Adam's epsilon under the root", "jax", "adam", after_training("weight"),
                       "eps_root=0.0", "eps_root=1e-8"),
    fault_of_optimiser("Adam's second decay rate 0.99", "jax", "adam", after_training("second moment of"),
                  "b2=optimiser.beta2", "b2=0.99"),
    fault_of_optimiser("Adam's first decay rate 0.899", "jax", "adam", after_training("first moment of"),
                  "b1=optimiser.beta1", "b1=0.899"),
)  # fmt: skip

FAULTS = (*TRANSFORMER, *GRU, *UNET, TURNED_PICTURES, *MOBILENET, *AUTOENCODER, *OPTIMISER, *ELSEWHERE)
