"""`faceoff.record`: a value that no layer returns is compared, fed, and named as the place of a difference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from faceoff import record
from faceoff.agreement.check import blank, path_of
from faceoff.agreement.comparison import without_value
from faceoff.agreement.own import OwnExpected
from faceoff.core.recorded import watching
from faceoff.core.spec import Contender, Workload
from faceoff.pool.workers import Pool
from faceoff.ports.opening import open_port
from faceoff.results.agreements import Agreement
from faceoff.workloads.task import Task
from tests.conftest import new_pool
from tests.contract.plain import edit

CONTENDERS = {name: Contender(name, mode) for name, mode in
              (("pytorch", "eager"), ("jax", "jit"), ("tensorflow", "eager"))}  # fmt: skip
PORT = """
loss = "squared-error"
[inputs.x]
shape = [6]
[targets]
shape = [3]
[sides.pytorch]
[sides.jax]
[sides.tensorflow]
"""
PYTORCH = """
import torch
from faceoff import record
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        scores = record("scores", self.first(x).square())
        shares = record("shares", scores / (1 + scores.sum(-1, keepdim=True)))
        return self.last(shares.tanh())


def build():
    return Net()
"""
JAX = """
import jax
import jax.numpy as jnp
from faceoff import record


def apply(p, x):
    scores = record("scores", jnp.square(x @ p["first"]["kernel"] + p["first"]["bias"]))
    shares = record("shares", scores / (1 + scores.sum(-1, keepdims=True)))
    return jnp.tanh(shares) @ p["last"]["kernel"] + p["last"]["bias"]


def build():
    keys = jax.random.split(jax.random.key(0))
    sizes = {"first": (6, 8), "last": (8, 3)}
    return {
        name: {"kernel": jax.random.normal(key, size), "bias": jnp.zeros(size[1])}
        for key, (name, size) in zip(keys, sizes.items())
    }, apply
"""
KERAS = """
import keras
from faceoff import record
from keras import layers, ops


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = layers.Dense(8)
        self.last = layers.Dense(3)

    def call(self, x):
        scores = record("scores", ops.square(self.first(x)))
        shares = record("shares", scores / (1 + ops.sum(scores, axis=-1, keepdims=True)))
        return self.last(ops.tanh(shares))


def build():
    net = Net()
    net(ops.zeros((1, 6)))
    return net
"""
WRONG = {
    "jax": ("1 + scores.sum(-1, keepdims=True)", "1.001 + scores.sum(-1, keepdims=True)"),
    "tensorflow": ("1 + ops.sum(scores", "1.001 + ops.sum(scores"),
}


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pool]]:
    pools = {name: new_pool([who], tmp_path_factory.mktemp("logs")) for name, who in CONTENDERS.items()}
    for name, pool in pools.items():
        if error := pool.failures.get(CONTENDERS[name]):
            pytest.skip(str(error))
    yield pools
    for pool in pools.values():
        pool.close()


def look(folder: Path, pools: dict[str, Pool], framework: str) -> Agreement:
    """What the layers tell of a side whose outputs were found to differ."""
    port = open_port(folder, lambda name: pools[name].worker(CONTENDERS[name]), 0)
    task = Task.seeded(Workload(port.spec, 4, step="training"), 0)
    expected = OwnExpected(task, 0, lambda: pools["pytorch"].worker(CONTENDERS["pytorch"]), "eager")
    who = CONTENDERS[framework]
    agreement = blank(task.workload, who, "float64", again="again")
    agreement.quantities = [without_value("outputs", "differs")]
    agreement.path, agreement.outcome = path_of(agreement.quantities), "disagrees"
    expected.look_at_layers(agreement, pools[framework].worker(who), who.mode, "float64")
    return agreement


def write(folder: Path) -> None:
    folder.mkdir()
    texts = {"port.toml": PORT, "pytorch_model.py": PYTORCH, "jax_model.py": JAX, "tensorflow_model.py": KERAS}
    for name, text in texts.items():
        (folder / name).write_text(text)


@pytest.mark.parametrize("framework", ["jax", pytest.param("tensorflow", marks=pytest.mark.thorough)])
def test_the_difference_lies_between_two_recorded_values(
    tmp_path: Path, pools: dict[str, Pool], framework: str
) -> None:
    # A worker imports a file once.
    folders = [tmp_path / name for name in ("right", "wrong")]
    for folder in folders:
        write(folder)
    edit(folders[1] / f"{framework}_model.py", *WRONG[framework])
    right, wrong = (look(folder, pools, framework) for folder in folders)
    named = {point.name: point for point in right.path if point.name.startswith("value ")}
    assert list(named) == ["value 'scores' (inference)", "value 'shares' (inference)"]
    assert all(point.agrees and point.fed_agrees for point in named.values())
    assert not right.first_difference
    assert wrong.first_difference == "between value 'scores' and value 'shares' (inference)"
    assert "and value 'shares' is" in wrong.layers
    # The reference's value is used from there on.
    (first,) = [point for point in wrong.path if point.first]
    assert first.name == "value 'shares' (inference)"


def test_outside_of_a_comparison_nothing_happens() -> None:
    value = object()
    assert record("x", value) is value
    seen: list[tuple[str, object]] = []

    def watch(name: str, value: object) -> str:
        seen.append((name, value))
        return "other"

    with watching(watch):
        assert record("x", value) == "other"
    assert seen == [("value 'x'", value)]
    assert record("x", value) is value
