"""Operations of users' own models, as PyTorch and JAX count them: both the same, and as counted by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from faceoff.core.own import port_of
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.run.own_models import open_models
from tests.contract.plain import ROOT

PORT = """
reference = "{reference}"
loss = "cross-entropy"
[inputs.x]
shape = [8, 8, 4]
[targets]
classes = 6
[sides.pytorch]
inputs = {{ x = [0, 3, 1, 2] }}
[sides.jax]
"""
PYTORCH = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(4, 4, 2, stride=2)
        self.each = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.cell = nn.RNN(3, 5, batch_first=True)
        self.last = nn.Linear(5, 6)

    def forward(self, x):
        x = self.up(self.each(self.down(x)))
        return self.last(self.cell(x.flatten(2).transpose(1, 2))[0].mean(1))


def build():
    return Net()
"""
JAX = """
import jax
import jax.numpy as jnp


def apply(p, x):
    numbers = ("NHWC", "OHWI", "NHWC")
    x = jax.lax.conv_general_dilated(x, p["down"], (2, 2), "VALID", dimension_numbers=numbers)
    x = jax.lax.conv_general_dilated(x, p["each"], (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=4)
    x = jax.lax.conv_transpose(x, p["up"], (2, 2), "VALID", dimension_numbers=("NHWC", "IHWO", "NHWC"))
    x = x.reshape(len(x), 64, 3)

    def step(h, x):
        h = jnp.tanh(x @ p["in"] + h @ p["back"])
        return h, h

    last, every = jax.lax.scan(step, jnp.zeros((len(x), 5), x.dtype), x.swapaxes(0, 1))
    return every.mean(0) @ p["last"]


def build():
    shapes = {"down": (4, 2, 2, 4), "each": (4, 3, 3, 1), "up": (4, 2, 2, 3)}
    shapes |= {"in": (3, 5), "back": (5, 5), "last": (5, 6)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {name: jax.random.normal(key, shape) for key, (name, shape) in zip(keys, shapes.items())}, apply
"""
# Of one example: three convolutions, 64 steps, and a product.
FORWARD = 2 * (4 * 4 * 4 * 16 + 4 * 4 * 4 * 9 + 8 * 8 * 3 * 4 + 64 * 5 * (3 + 5) + 5 * 6)


@pytest.fixture(autouse=True)
def both_installed() -> None:
    if not all(find_installation(FRAMEWORKS[name], Configuration()).installed for name in ("pytorch", "jax")):
        pytest.skip("pytorch and jax are not both installed")


def counted(folder: Path) -> dict[str, int]:
    (sized,) = open_models([str(folder)], Configuration(), 0, (), timed=True)
    return port_of(sized.model).flops


@pytest.mark.parametrize("reference", ["pytorch", pytest.param("jax", marks=pytest.mark.thorough)])
def test_convolutions_of_all_kinds_and_loops_are_counted(tmp_path: Path, reference: str) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    side = {"pytorch": PYTORCH, "jax": JAX}[reference]
    (folder / f"{reference}_model.py").write_text(side)
    other = {"pytorch": "[sides.jax]\n", "jax": "[sides.pytorch]\ninputs = { x = [0, 3, 1, 2] }\n"}[reference]
    (folder / "port.toml").write_text(PORT.format(reference=reference).replace(other, ""))
    found = counted(folder)
    assert found["inference"] == FORWARD
    # The first state is no weight, and no gradient by it is needed; frameworks may compute it all the same.
    assert 0 <= 3 * FORWARD - found["gradients"] <= 2 * 64 * 25
    assert found["training"] == found["gradients"] - 2 * 4 * 4 * 4 * 16


@pytest.mark.thorough
def test_attention_is_counted_alike_by_both(tmp_path: Path) -> None:
    found = {}
    for reference in ("pytorch", "jax"):
        folder = tmp_path / reference
        shutil.copytree(ROOT / "impls" / "examples" / "transformer", folder)
        path = folder / "port.toml"
        path.write_text(path.read_text().replace('reference = "pytorch"', f'reference = "{reference}"'))
        found[reference] = counted(folder)
    assert found["pytorch"] == found["jax"]
    width, hidden, length = 32, 64, 16
    layer = length * (4 * width * width + 2 * width * hidden) + 2 * length * length * width
    assert found["jax"]["inference"] == 2 * (2 * layer + width * 6)
