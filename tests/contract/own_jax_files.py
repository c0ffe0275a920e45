"""Files of users' own models in JAX, their ports, and a direct computation of the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from faceoff.core.own import Input, Placed, Port, PortSide, Targets
from tests.contract.own_losses import own_in

MODULE = """
import jax.numpy as jnp
from flax import nnx

from sizes import CLASSES, WIDTH


class Block(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, WIDTH, dropout_rate=0.5, decode=False, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return x + self.dropout(self.attention(self.norm(x)))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(2, WIDTH, (3, 2), rngs=rngs)
        self.norm = nnx.BatchNorm(WIDTH, rngs=rngs)
        self.embed = nnx.Embed(7, WIDTH, rngs=rngs)
        self.blocks = nnx.List([Block(rngs)])
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)
        self.factor = nnx.Param(jnp.array(1.5))
        self.table = jnp.sin(jnp.arange(6.0))[:, None]

    def __call__(self, image, tokens):
        x = nnx.gelu(self.norm(self.conv(image)))
        x = jnp.concatenate([x.reshape(len(x), -1, WIDTH), self.embed(tokens) + self.table], axis=1)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(axis=1)) * self.factor[...]


def build():
    return Net(nnx.Rngs(0))
"""

FUNCTION = """
import jax.numpy as jnp
import numpy as np


def build():
    rng = np.random.default_rng(0)
    made = {"second": rng.normal(size=(4, 2)), "first": [rng.normal(size=(3, 4)), rng.normal(size=4)], "power": 2}
    return made, apply


def apply(parameters, x, training):
    kernel, bias = parameters["first"]
    hidden = jnp.tanh(x @ kernel + bias) ** parameters["power"]
    return hidden @ parameters["second"] * (2.0 if training else 1.0)
"""

DIRECT = """
import sys
from functools import partial
import jax, jax.numpy as jnp, numpy as np, optax
from flax import nnx
folder = sys.argv[1]
sys.path.insert(0, folder)
jax.config.update("jax_enable_x64", True)
import net
given = dict(np.load(folder + "/given.npz"))
module = net.build()
module.embed.dtype = jnp.float64
graph, weights, moved, rest = nnx.split(module, nnx.Param, nnx.BatchStat, ...)
filled = [nnx.from_flat_state([(path, leaf.replace(jnp.asarray(given[".".join(map(str, path))])))
                               for path, leaf in nnx.to_flat_state(state)]) for state in (weights, moved)]

@partial(jax.jit, static_argnums=2)
def outputs(weights, image, training):
    model = nnx.merge(graph, weights, filled[1], rest, copy=True)
    model.eval()
    model.norm.use_running_average = not training
    return model(image, jnp.asarray(given["tokens"])), nnx.state(model, nnx.BatchStat)

def loss(weights, image):
    found, moved = outputs(weights, image, True)
    return optax.softmax_cross_entropy_with_integer_labels(found, jnp.asarray(given["targets"])).mean(), moved

image = jnp.asarray(given["image"])
(value, moved), (by_weights, by_image) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(filled[0], image)
named = lambda state: {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}
np.savez(folder + "/found.npz", outputs=outputs(filled[0], image, False)[0], loss=value, by_image=by_image,
         **named(by_weights), **named(moved))
"""

WEIGHTS = {
    "conv.weight": ("conv.kernel", (4, 3, 2, 2), (1, 2, 3, 0), None),
    "conv.bias": ("conv.bias", (4,), (0,), None),
    "norm.mean": ("norm.mean", (4,), (0,), None),
    "norm.variance": ("norm.var", (4,), (0,), None),
    "norm.scale": ("norm.scale", (4,), (0,), None),
    "norm.bias": ("norm.bias", (4,), (0,), None),
    "embed.weight": ("embed.embedding", (7, 4), (0, 1), None),
    "block.norm.scale": ("blocks.0.norm.scale", (4,), (0,), None),
    "block.norm.bias": ("blocks.0.norm.bias", (4,), (0,), None),
    "query.weight": ("blocks.0.attention.query.kernel", (4, 4), (1, 0), (4, 2, 2)),
    "query.bias": ("blocks.0.attention.query.bias", (4,), (0,), (2, 2)),
    "key.weight": ("blocks.0.attention.key.kernel", (4, 4), (1, 0), (4, 2, 2)),
    "key.bias": ("blocks.0.attention.key.bias", (4,), (0,), (2, 2)),
    "value.weight": ("blocks.0.attention.value.kernel", (4, 4), (1, 0), (4, 2, 2)),
    "value.bias": ("blocks.0.attention.value.bias", (4,), (0,), (2, 2)),
    "out.weight": ("blocks.0.attention.out.kernel", (4, 4), (1, 0), (2, 2, 4)),
    "out.bias": ("blocks.0.attention.out.bias", (4,), (0,), None),
    "head.weight": ("head.kernel", (3, 4), (1, 0), None),
    "head.bias": ("head.bias", (3,), (0,), None),
    "factor": ("factor", (), (), None),
}
"""Canonical name to path, canonical shape, and the side's axes and shape."""


def side_of(file: Path, weights: dict, inputs: dict) -> PortSide:
    return PortSide(
        str(file), {name: Placed(path, axes, own) for name, (path, _, axes, own) in weights.items()}, inputs
    )


def initial(weights: dict) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    drawn = {name: rng.normal(size=shape).astype(np.float32) for name, (_, shape, _, _) in weights.items()}
    return {name: abs(value) + 0.5 if name.endswith("variance") else value for name, value in drawn.items()}


def write_module(folder: Path) -> Port:
    """A module with images and words as inputs; images are given with their channels first."""
    file = folder / "net.py"
    file.write_text(MODULE)
    (folder / "sizes.py").write_text("CLASSES, WIDTH = 3, 4\n")
    return Port(
        name="net",
        inputs=(Input("image", (2, 5, 4)), Input("tokens", (6,), "int64", below=7)),
        targets=Targets((), classes=3),
        loss="cross-entropy",
        class_axis=1,
        weights={name: shape for name, (_, shape, _, _) in WEIGHTS.items()},
        sides={"jax": side_of(file, WEIGHTS, {"image": (0, 2, 3, 1)})},
        reference="jax",
        initial=initial(WEIGHTS),
    )


def write_function(folder: Path, loss: str, targets: Targets, text: str = FUNCTION) -> Port:
    """Two layers as a function and its parameters."""
    file = folder / "function.py"
    file.write_text(text + own_in("jnp") if loss == "own" else text)
    weights = {
        "first.weight": ("first.0", (4, 3), (1, 0), None),
        "first.bias": ("first.1", (4,), (0,), None),
        "second.weight": ("second", (2, 4), (1, 0), None),
    }
    return Port(
        name="function",
        inputs=(Input("x", (3,)),),
        targets=targets,
        loss=loss,
        class_axis=-1,
        weights={name: shape for name, (_, shape, _, _) in weights.items()},
        sides={"jax": side_of(file, weights, {})},
        reference="jax",
        initial=initial(weights),
    )
