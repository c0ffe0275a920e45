"""JAX programs as people write them, each small: what stochastic arithmetic has to take apart, and a rounding to meet.

Every program is a function of weights and inputs that returns a loss and outputs. Run in a process of its own, as it
switches float64 on and off.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax

Program = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function of weights and inputs to `(loss, outputs)`, and these, floats in float32."""

PROGRAMS: dict[str, Callable[[np.random.Generator], Program]] = {}


def program(build: Callable[[np.random.Generator], Program]) -> Callable[[np.random.Generator], Program]:
    """Enters it in `PROGRAMS` under its own name."""
    PROGRAMS[build.__name__.replace("_", " ")] = build
    return build


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def weighed(compute: Callable[..., Any], share: np.ndarray) -> Callable[..., Any]:
    """The same with a loss: the mean of the outputs, each with a weight of its own."""

    def of(*args: Any) -> Any:
        outputs = compute(*args)
        return jnp.mean(outputs * share.astype(outputs.dtype)), outputs

    return of


def of_function(rng: np.random.Generator, compute: Callable[..., Any], *args: Any) -> Program:
    shape = jax.eval_shape(compute, *args).shape
    return weighed(compute, normal(rng, *shape)), args


def of_module(rng: np.random.Generator, module: nnx.Module, *inputs: Any) -> Program:
    """A Flax module by its functional form: parameters first, inputs and running statistics after them."""
    graph, weights, rest = nnx.split(module, nnx.Param, ...)
    values = jax.tree.map(lambda x: normal(rng, *x.shape, scale=max(x.shape[:-1], default=4) ** -0.5), weights)

    def compute(weights: Any, rest: Any, *inputs: Any) -> Any:
        return nnx.merge(graph, weights, rest, copy=True)(*inputs)

    return of_function(rng, compute, values, rest, *inputs)


@program
def dense(rng):
    def loss(weights, x, labels):
        for kernel, bias in weights[:-1]:
            x = jnp.tanh(x @ kernel + bias)
        logits = x @ weights[-1][0] + weights[-1][1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    sizes = (40, 64, 48, 10)
    weights = [(normal(rng, m, n, scale=m**-0.5), normal(rng, n, scale=0.1)) for m, n in pairwise(sizes)]
    return loss, (weights, normal(rng, 16, 40), rng.integers(10, size=16))


def convolutional(name: str, shape: tuple[int, ...], layer: type[nnx.Module], **options: Any) -> None:
    def build(rng):
        return of_module(rng, layer(rngs=nnx.Rngs(0), in_features=shape[-1], **options), normal(rng, *shape))

    PROGRAMS[name] = build


convolutional("convolution", (2, 9, 9, 4), nnx.Conv, out_features=6, kernel_size=(3, 3), strides=2, padding=1)
convolutional("convolution 1d", (2, 20, 4), nnx.Conv, out_features=6, kernel_size=(5,), padding="SAME")
convolutional("convolution 3d", (1, 5, 5, 5, 3), nnx.Conv, out_features=4, kernel_size=(2, 3, 2), padding="VALID")
convolutional("grouped convolution", (2, 8, 8, 8), nnx.Conv, out_features=4, kernel_size=(3, 3), feature_group_count=2)
convolutional(
    "depthwise convolution", (2, 8, 8, 6), nnx.Conv, out_features=12, kernel_size=(3, 3), feature_group_count=6
)
convolutional("dilated convolution", (2, 10, 10, 3), nnx.Conv, out_features=5, kernel_size=(3, 3), kernel_dilation=2)
convolutional(
    "transposed convolution", (2, 5, 5, 4), nnx.ConvTranspose, out_features=3, kernel_size=(3, 3), strides=(2, 2)
)


@program
def batch_norm(rng):
    return of_module(rng, nnx.BatchNorm(6, use_running_average=False, rngs=nnx.Rngs(0)), normal(rng, 8, 5, 5, 6) + 1)


@program
def layer_norm(rng):
    return of_module(rng, nnx.LayerNorm(24, rngs=nnx.Rngs(0)), normal(rng, 6, 24))


@program
def group_norm(rng):
    return of_module(rng, nnx.GroupNorm(12, num_groups=3, rngs=nnx.Rngs(0)), normal(rng, 3, 4, 4, 12))


@program
def rms_norm(rng):
    return of_module(rng, nnx.RMSNorm(24, rngs=nnx.Rngs(0)), normal(rng, 6, 24))


@program
def attention(rng, attend=jax.nn.dot_product_attention):
    def compute(weights, x):
        q, k, v = (jnp.reshape(x @ w, (2, 12, 2, 8)) for w in weights)
        return attend(q, k, v, is_causal=True)

    return of_function(rng, compute, [normal(rng, 16, 16, scale=0.4) for _ in range(3)], normal(rng, 2, 12, 16))


@program
def attention_of_flax(rng, attend=nnx.dot_product_attention):
    module = nnx.MultiHeadAttention(2, 16, decode=False, attention_fn=attend, rngs=nnx.Rngs(0))
    return of_module(rng, module, normal(rng, 2, 10, 16))


def attention_written_out(q, k, v, is_causal=False, **_):
    """As its paper has it; JAX's and Flax's own cast to float32 inside."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(8)
    if is_causal:
        scores = jnp.where(np.tri(len(scores[0, 0]), dtype=bool), scores, -jnp.inf)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)


IN_FLOAT64 = {
    name: partial(PROGRAMS[name], attend=attention_written_out) for name in ("attention", "attention of flax")
}
"""The same programs where they are other ones in float64."""


def recurrent(name: str, cell: type[nnx.Module], carried: int, **options: Any) -> None:
    def build(rng):
        layer = nnx.RNN(cell(5, 8, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0), **options)
        graph, weights, rest = nnx.split(layer, nnx.Param, ...)
        values = jax.tree.map(lambda x: normal(rng, *x.shape, scale=0.4), weights)

        def compute(weights, rest, x):
            # Of its own, Flax begins with float32 whatever the weights are.
            state = jnp.zeros((3, 8), x.dtype)
            begun = (state,) * carried if carried > 1 else state
            return nnx.merge(graph, weights, rest, copy=True)(x, initial_carry=begun)

        return of_function(rng, compute, values, rest, normal(rng, 3, 12, 5))

    PROGRAMS[name] = build


recurrent("gru", nnx.GRUCell, 1)
recurrent("lstm", nnx.OptimizedLSTMCell, 2, reverse=True)


@program
def embedding(rng):
    # Some rows are met often, others never.
    at = np.minimum(rng.integers(9, size=(8, 20)), 5)
    return of_function(rng, lambda table, kernel, at: table[at] @ kernel, normal(rng, 9, 6), normal(rng, 6, 4), at)


@program
def scattered(rng):
    def compute(values, x, at):
        return (x * values).at[at].add(values[:3]).at[at[0]].subtract(x[0]).at[1:3].multiply(values[1:3])

    return of_function(rng, compute, normal(rng, 8, 5), normal(rng, 8, 5), np.array([2, 6, 2]))


def elementwise(name: str, function: Callable[..., Any]) -> None:
    PROGRAMS[name] = lambda rng: of_function(
        rng, lambda w, x: function(x @ w), normal(rng, 10, 12, scale=0.5), normal(rng, 20, 10)
    )


elementwise("gelu", partial(jax.nn.gelu, approximate=False))
elementwise("gelu by tanh", partial(jax.nn.gelu, approximate=True))
elementwise("silu", jax.nn.silu)
elementwise("hard swish", jax.nn.hard_swish)
elementwise("running sums", lambda x: jnp.cumsum(x, axis=0) + jnp.cumprod(x, axis=1) + lax.cumlogsumexp(x, axis=1))
elementwise("sorted", lambda x: jnp.sort(x, axis=0)[:, :5] * lax.top_k(x, 5)[0] + jnp.max(x, axis=1, keepdims=True))
elementwise("resized", lambda x: jax.image.resize(x, (40, 18), "bilinear"))
elementwise("remat", lambda x: jax.checkpoint(lambda y: jnp.sin(jnp.exp(-y * y)))(x))
elementwise("cond", lambda x: lax.cond(x[0, 0] > 0, lambda y: jnp.exp(y) * 0.1, lambda y: jnp.log1p(y * y), x))
elementwise("norms", lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True) * jnp.std(x, axis=0))


@jax.custom_vjp
def clipped_backward(x):
    return x * jnp.tanh(x)


def _clipped_forward(x):
    return clipped_backward(x), x


clipped_backward.defvjp(_clipped_forward, lambda x, by: (jnp.clip(by * (jnp.tanh(x) + x), -0.01, 0.01),))
elementwise("custom vjp", clipped_backward)


@program
def ignored_positions(rng):
    def loss(weights, x, labels):
        logits, kept = x @ weights, labels >= 0
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(kept, labels, 0))
        return jnp.sum(jnp.where(kept, losses, 0)) / jnp.sum(kept), logits

    labels = np.where(rng.random((4, 15)) < 0.3, -1, rng.integers(7, size=(4, 15)))
    return loss, (normal(rng, 8, 7), normal(rng, 4, 15, 8), labels)


@program
def squared_error(rng):
    def loss(weights, x, targets):
        outputs = x @ weights
        return jnp.mean(jnp.square(outputs - targets)), outputs

    return loss, (normal(rng, 20, 5), normal(rng, 32, 20), normal(rng, 32, 5))


@program
def sigmoid_cross_entropy(rng):
    def loss(weights, x, targets):
        outputs = x @ weights
        return optax.sigmoid_binary_cross_entropy(outputs, targets).mean(), outputs

    return loss, (normal(rng, 20, 5), normal(rng, 32, 20), (rng.random((32, 5)) < 0.5).astype(np.float32))


def pooled(name: str, pool: Callable[..., Any]) -> None:
    PROGRAMS[name] = lambda rng: of_function(
        rng, lambda w, x: pool(x @ w), normal(rng, 3, 4), normal(rng, 2, 13, 13, 3)
    )


pooled("max pool", lambda x: nnx.max_pool(x, (3, 3), (2, 2), padding="SAME"))
pooled("average pool", lambda x: nnx.avg_pool(x, (3, 3), (2, 2), padding="SAME"))
pooled("whole pool", lambda x: nnx.avg_pool(x, (13, 13), (1, 1)))


@program
def einsum(rng):
    def compute(weights, x, y):
        return jnp.einsum("bij,bjk,kl,bl->bil", x, y, weights, x[:, 0, :5])

    return of_function(rng, compute, normal(rng, 4, 5), normal(rng, 3, 6, 7), normal(rng, 3, 7, 4))


@program
def while_loop(rng):
    # Newton's square root, a loop that ends by what it finds and has no gradient: forward mode has.
    def root(x):
        def better(state):
            guess, _, turn = state
            return 0.5 * (guess + x / guess), guess, turn + 1

        start = x, x + 1, jnp.zeros((), jnp.int32)
        return lax.while_loop(lambda s: (jnp.max(jnp.abs(s[0] - s[1])) > 1e-2) & (s[2] < 50), better, start)[0]

    def loss(weights, x):
        roots, slopes = jax.jvp(root, (x * x + 1,), (jnp.ones_like(x),))
        return jnp.mean(jnp.tanh(weights) * slopes), roots

    return loss, (normal(rng, 12), normal(rng, 12))


@program
def equal_terms(rng):
    # A blank picture: every position has the same value, and the bias sums its gradient over all of them.
    def loss(weights, x):
        kernel, bias = weights
        outputs = jnp.exp(x @ kernel + bias)
        return outputs.mean(), outputs.mean(0)

    x = np.broadcast_to(normal(rng, 1, 6), (3000, 6))
    return loss, ((normal(rng, 6, 4, scale=0.4), normal(rng, 4)), np.array(x))


@program
def saturated(rng):
    def loss(weights, x):
        outputs = jax.nn.sigmoid(x @ weights)
        return -jnp.mean(jnp.log(outputs + 1e-7)), outputs

    return loss, (normal(rng, 10, 4, scale=2.0), normal(rng, 30, 10))


def trained(name: str, rule: optax.GradientTransformation) -> None:
    """Two steps; what comes out as outputs are the weights after them."""

    def build(rng):
        inner, (weights, *inputs) = dense(rng)

        def compute(weights, *inputs):
            state = rule.init(weights)
            for _ in range(2):
                gradients = jax.grad(inner, has_aux=True)(weights, *inputs)[0]
                updates, state = rule.update(gradients, state, weights)
                weights = optax.apply_updates(weights, updates)
            return inner(weights, *inputs)[0], weights

        return compute, (weights, *inputs)

    PROGRAMS[f"trained by {name}"] = build


trained("sgd", optax.sgd(0.1))
trained("momentum", optax.sgd(0.1, momentum=0.9))
trained("adam", optax.adam(1e-2))
trained("adamw", optax.adamw(1e-2, weight_decay=0.1))
