"""Dropout of a user's own model: off by default, or by the same masks on all sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceoff import load
from faceoff.core.own import Input, Port, Targets, learn
from faceoff.core.spec import Workload
from faceoff.core.weights import seeded_batch
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.results.records import Agreement
from tests.contract.plain import edit, faceoff

# As many channels as rows and columns: the sizes do not tell which axis is which.
PORT = """
loss = "cross-entropy"
dropout = true

[inputs.image]
shape = [6, 6, 3]

[targets]
classes = 4

[sides.pytorch]
inputs.image = [0, 3, 1, 2]
[sides.jax]
[sides.tensorflow]
"""
PYTORCH = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.first = nn.Dropout(0.25)
        self.hidden = nn.Linear(6, 16)
        self.second = nn.Dropout(0.5)
        self.unused = nn.Dropout(0.0)
        self.head = nn.Linear(16, 4)

    def forward(self, image):
        x = self.first(torch.tanh(self.conv(image))).mean(dim=(2, 3))
        return self.head(self.unused(self.second(torch.tanh(self.hidden(x)))))


def build():
    return Net()
"""
JAX = """
import jax.numpy as jnp
from flax import nnx


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.first = nnx.Dropout(0.25, rngs=rngs)
        self.hidden = nnx.Linear(6, 16, rngs=rngs)
        self.second = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, image):
        x = self.first(jnp.tanh(self.conv(image))).mean(axis=(1, 2))
        return self.head(self.second(jnp.tanh(self.hidden(x))))


def build():
    return Net(nnx.Rngs(0))
"""
KERAS = """
import keras
from keras import layers


def build():
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(6, 3, padding="same", activation="tanh", name="conv")(image)
    x = layers.GlobalAveragePooling2D()(layers.Dropout(0.25)(x))
    x = layers.Dropout(0.5)(layers.Dense(16, activation="tanh", name="hidden")(x))
    return keras.Model(image, layers.Dense(4, name="head")(x))
"""
FILES = {"port.toml": PORT, "pytorch_model.py": PYTORCH, "jax_model.py": JAX, "tensorflow_model.py": KERAS}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not all(find_installation(FRAMEWORKS[name], Configuration()).installed for name in ("pytorch", "jax")):
        pytest.skip("pytorch and jax are not both installed")
    (tmp_path / "mine").mkdir()
    for name, text in FILES.items():
        (tmp_path / "mine" / name).write_text(text)
    if not find_installation(FRAMEWORKS["tensorflow"], Configuration()).installed:
        edit(tmp_path / "mine" / "port.toml", "[sides.tensorflow]\n", "")
    return tmp_path


def check(folder: Path, *more: str, status: int = 0) -> list[Agreement]:
    done = faceoff(folder, "agree", "--models", "./mine", "--out", "out", "--quiet", *more)
    assert done.returncode == status, done.stdout + done.stderr
    return load(folder / "out" / "result.json").agreements


def refused(folder: Path) -> str:
    done = faceoff(folder, "agree", "--models", "./mine", "--out", "out", "--quiet")
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "port.toml" in line]
    return line


def test_all_sides_train_with_the_same_masks(folder: Path) -> None:
    agreements = check(folder)
    assert {agreement.outcome for agreement in agreements} == {"ok"}
    assert {agreement.contender for agreement in agreements} >= {"pytorch:eager", "pytorch:compile", "jax:jit"}
    # A mask is no input that the loss has a gradient by.
    names = {quantity.name for quantity in agreements[0].quantities}
    assert "gradient of input 'image'" in names
    assert not [name for name in names if "dropout" in name]


def test_dropout_in_another_place_is_found(folder: Path) -> None:
    edit(
        folder / "mine" / "jax_model.py",
        "self.first(jnp.tanh(self.conv(image))).mean",
        "jnp.tanh(self.first(self.conv(image))).mean",
    )
    found = check(folder, "--contenders", "jax", "--dtype", "float64", status=1)[0]
    wrong = [quantity.name for quantity in found.quantities if not quantity.agrees]
    # In inference nothing is left out.
    assert "outputs" not in wrong
    assert "loss" in wrong


@pytest.mark.thorough
def test_without_the_key_nothing_is_left_out(folder: Path) -> None:
    edit(folder / "mine" / "port.toml", "dropout = true\n", "")
    edit(folder / "mine" / "jax_model.py", "nnx.Dropout(0.25", "nnx.Dropout(0.75")
    assert {agreement.outcome for agreement in check(folder, "--dtype", "float64")} == {"ok"}


@pytest.mark.thorough
def test_its_speed_is_measured(folder: Path) -> None:
    more = ("--contenders", "jax:jit,pytorch:eager,tensorflow:graph", "--batch-size", "100", "--threads", "1")
    done = faceoff(folder, "bench", "--models", "./mine", "--out", "out", "--quiet", "--budget", "quick", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {case.outcome for case in load(folder / "out" / "result.json").cases} == {"ok"}


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("file", "there", "written", "said"),
    [
        ("jax_model.py", "nnx.Dropout(0.5", "nnx.Dropout(0.4", "another dropout rate; got call 2: second: 0.4"),
        ("jax_model.py", "self.second(jnp.tanh(self.hidden(x)))", "jnp.tanh(self.hidden(x))", "another number of"),
        ("jax_model.py", "self.first(jnp.tanh(self.conv(image))).mean(axis=(1, 2))",
         "self.first(jnp.tanh(self.conv(image)).mean(axis=(1, 2)))", "another shape; got call 1: first: [3, 6]"),
        ("pytorch_model.py", "nn.Dropout(0.25)", "nn.Dropout2d(0.25)", "dropout of another kind"),
        ("pytorch_model.py", "self.unused(", "self.first(", "called more than once"),
    ],
)  # fmt: skip
def test_dropout_that_cannot_be_the_same_is_refused(
    folder: Path, file: str, there: str, written: str, said: str
) -> None:
    edit(folder / "mine" / file, there, written)
    assert said in refused(folder)


def test_a_mask_keeps_its_share_and_makes_up_for_the_rest() -> None:
    mask = Input("dropout.1", (50, 40), "mask", kept=0.75)
    port = Port("masked", (Input("x", (2,)), mask), Targets(()), "squared-error", -1, {"w": (2,)}, {}, "none")
    learn(port)
    batches = [seeded_batch(Workload(port.spec, 8, "float64"), 3, index).inputs["dropout.1"] for index in (0, 1)]
    for drawn in batches:
        assert set(np.unique(drawn)) == {0.0, np.float64(np.float32(1 / 0.75))}
        assert abs((drawn > 0).mean() - 0.75) < 0.02
    assert not np.array_equal(*batches)
