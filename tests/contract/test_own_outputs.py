"""A user's own model that returns several arrays, and targets with places at which nothing is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceoff import load
from faceoff.core.errors import InputError
from faceoff.core.own import Input, Port, Targets, learn
from faceoff.core.spec import Workload
from faceoff.core.weights import Batch, check_batch, seeded_batch
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.results.records import Result
from tests.contract.plain import edit, faceoff

PORT = """
loss = "cross-entropy"
output = "logits"

[inputs.tokens]
shape = [7]
dtype = "int64"
below = 20

[targets]
shape = [7]
classes = 5
ignored = -100

[sides.pytorch]
[sides.jax]
"""
PYTORCH = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.hidden = nn.Linear(8, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, tokens):
        hidden = torch.tanh(self.hidden(self.embed(tokens)))
        return {"logits": self.head(hidden), "states": [hidden, hidden.mean(dim=1)], "attentions": None}


def build():
    return Net()


def loss(outputs, targets):
    asked = targets != -100
    each = nn.functional.cross_entropy(
        outputs["logits"].movedim(-1, 1), torch.where(asked, targets, 0), reduction="none"
    )
    return (each * asked).sum() / asked.sum() + outputs["states"][1].square().mean()
"""
JAX = """
import jax.numpy as jnp
import optax
from flax import nnx


class Net(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(20, 8, rngs=rngs)
        self.hidden = nnx.Linear(8, 16, rngs=rngs)
        self.head = nnx.Linear(16, 5, rngs=rngs)

    def __call__(self, tokens):
        hidden = jnp.tanh(self.hidden(self.embed(tokens)))
        return {"logits": self.head(hidden), "states": [hidden, hidden.mean(axis=1)]}


def build():
    return Net(nnx.Rngs(0))


def loss(outputs, targets):
    asked = targets != -100
    each = optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], jnp.where(asked, targets, 0))
    return (each * asked).sum() / asked.sum() + jnp.square(outputs["states"][1]).mean()
"""
KERAS = """
import keras
from keras import layers, ops


def build():
    tokens = keras.Input((7,), dtype="int64", name="tokens")
    hidden = layers.Dense(16, activation="tanh", name="hidden")(layers.Embedding(20, 8, name="embed")(tokens))
    logits = layers.Dense(5, name="head")(hidden)
    return keras.Model(tokens, {"logits": logits, "states": [hidden, ops.mean(hidden, axis=1)]})


def loss(outputs, targets):
    asked = ops.not_equal(targets, -100)
    each = ops.sparse_categorical_crossentropy(
        ops.where(asked, targets, 0), outputs["logits"], from_logits=True
    )
    kept = ops.cast(asked, each.dtype)
    return ops.sum(each * kept) / ops.sum(kept) + ops.mean(ops.square(outputs["states"][1]))
"""
CONTENDERS = ("pytorch:eager", "tensorflow:graph", "jax:jit")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not all(find_installation(FRAMEWORKS[name], Configuration()).installed for name in ("pytorch", "jax")):
        pytest.skip("pytorch and jax are not both installed")
    (tmp_path / "mine").mkdir()
    texts = {"port.toml": PORT, "pytorch_model.py": PYTORCH, "jax_model.py": JAX, "tensorflow_model.py": KERAS}
    for name, text in texts.items():
        (tmp_path / "mine" / name).write_text(text)
    return tmp_path


def run(folder: Path, *more: str, contenders: str = "jax:jit", status: int = 0, verb: str = "agree") -> Result:
    done = faceoff(folder, verb, "--models", "./mine", "--contenders", contenders, "--out", "out", "--quiet", *more)
    assert done.returncode == status, done.stdout + done.stderr
    return load(folder / "out" / "result.json")


@pytest.mark.thorough
def test_every_output_is_compared_in_every_framework(folder: Path) -> None:
    installed = [
        name for name in CONTENDERS
        if find_installation(FRAMEWORKS[name.partition(":")[0]], Configuration()).installed
    ]  # fmt: skip
    edit(folder / "mine" / "port.toml", "[sides.jax]", "[sides.jax]\n[sides.tensorflow]")
    result = run(folder, contenders=",".join(installed))
    assert len(result.agreements) == 2 * len(installed)
    for check in result.agreements:
        names = [quantity.name for quantity in check.quantities]
        assert check.outcome == "ok"
        for when in ("", " after 3 training steps", " after a reset"):
            assert {f"output '{name}'{when}" for name in ("logits", "states.0", "states.1")} <= set(names)


def test_a_wrong_output_is_named_though_the_loss_knows_nothing_of_it(folder: Path) -> None:
    edit(folder / "mine" / "jax_model.py", "hidden.mean(axis=1)]}", "hidden.mean(axis=1) * 1.01]}")
    (check,) = run(folder, "--dtype", "float32", status=1).agreements
    assert {
        quantity.name.partition("'")[2].partition("'")[0] for quantity in check.quantities if not quantity.agrees
    } == {"states.1"}


@pytest.mark.thorough
def test_outputs_of_other_names_are_told(folder: Path) -> None:
    edit(folder / "mine" / "jax_model.py", '"states":', '"hidden":')
    (check,) = run(folder, "--dtype", "float32", status=1).agreements
    said = {quantity.name: quantity.problem for quantity in check.quantities}
    assert said["output 'states.0'"].startswith("missing: this side returns output 'hidden.0', output 'hidden.1'")


@pytest.mark.thorough
def test_a_loss_of_ones_own_is_given_all_outputs(folder: Path) -> None:
    edit(folder / "mine" / "port.toml", 'loss = "cross-entropy"\noutput = "logits"', 'loss = "own"')
    edit(folder / "mine" / "port.toml", "[sides.jax]", "[sides.jax]\n[sides.tensorflow]")
    result = run(folder, contenders="jax:jit,tensorflow:graph,pytorch:compile")
    assert [check.outcome for check in result.agreements] == ["ok"] * 6


@pytest.mark.thorough
def test_its_speed_is_measured_and_an_output_that_is_wrong_in_large_batches_is_found(folder: Path) -> None:
    chosen = ("--batch-size", "100", "--budget", "quick", "--threads", "1", "--steps", "inference")
    result = run(folder, *chosen, contenders="jax:jit,pytorch:eager", verb="bench")
    assert [case.outcome for case in result.cases] == ["ok", "ok"]
    # Of 100 examples 64 are compared before.
    edit(
        folder / "mine" / "jax_model.py",
        "hidden.mean(axis=1)]}",
        "hidden.mean(axis=1) * (1.01 - 0.01 * (len(tokens) < 65))]}",
    )
    result = run(folder, *chosen, verb="bench", status=1)
    (case,) = result.cases
    assert case.outcome == "disagrees"
    assert case.reason.startswith("output 'states.1' of the last timed call:")


@pytest.mark.parametrize(
    ("there", "written", "said"),
    [
        pytest.param('output = "logits"\n', "", "several outputs, and none is named for the loss; expected one of 'log",
                     marks=pytest.mark.thorough),
        pytest.param('"logits"', '"logit"', "no output of this name; got logit, expected one of 'logits', 'states.0'",
                     marks=pytest.mark.thorough),
        ("ignored = -100", "ignored = 3", "targets.ignored: a class that is ignored; got 3"),
        ('"cross-entropy"', '"own"', "output: has no meaning here; got logits"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(folder: Path, there: str, written: str, said: str) -> None:
    edit(folder / "mine" / "port.toml", there, written)
    chosen = ("--models", "./mine", "--contenders", "jax:jit", "--dtype", "float32", "--out", "out", "--quiet")
    done = faceoff(folder, "agree", *chosen)
    assert done.returncode in (1, 2, 3)
    assert "Traceback" not in done.stderr
    assert said in done.stdout + done.stderr


def test_some_places_are_ignored_and_never_all() -> None:
    port = Port("m", (Input("x", (3,)),), Targets((4,), 5, ignored=-7), "cross-entropy", -1, {}, {}, "a")
    learn(port)
    for size in (1, 64):
        targets = np.stack([seeded_batch(Workload(port.spec, size), seed).targets for seed in range(50)])
        assert set(np.unique(targets)) == {-7, 0, 1, 2, 3, 4}
        assert (targets != -7).any(axis=(1, 2)).all()
        assert 0.15 < (targets == -7).mean() < 0.3
    batch = seeded_batch(Workload(port.spec, 2), 0)
    check_batch(port.spec, 2, batch)
    with pytest.raises(InputError, match="nothing but ignored places"):
        check_batch(port.spec, 2, Batch(batch.inputs, np.full((2, 4), -7)))
