"""Layers of a user's own model, through real workers: recorded, fed, and the one that makes a difference named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from faceoff import load
from faceoff.agreement.check import blank, path_of
from faceoff.agreement.comparison import without_value
from faceoff.agreement.layer_pairs import calls_of
from faceoff.agreement.own import OwnExpected
from faceoff.core.own import Port
from faceoff.core.spec import Contender, Optimiser, Workload
from faceoff.pool.workers import Pool
from faceoff.ports.opening import open_port
from faceoff.results.agreements import Agreement
from faceoff.workloads.task import Task
from tests.conftest import new_pool
from tests.contract.plain import ROOT, edit, faceoff

EAGER, JIT = Contender("pytorch", "eager"), Contender("jax", "jit")
PORT = """
loss = "cross-entropy"
[inputs.x]
shape = [6, 6, 3]
[targets]
classes = 4
[sides.pytorch]
inputs.x = [0, 3, 1, 2]
[sides.jax]
"""
PYTORCH = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.grow = nn.Linear(8, 16)
        self.shrink = nn.Linear(16, 8)

    def forward(self, x):
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.shrink(nn.functional.gelu(self.grow(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.batch = nn.BatchNorm2d(8)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.tanh(self.batch(self.conv(x))).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def build():
    return Net()
"""
JAX = """
import jax
from flax import nnx


class Block(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.grow = nnx.Linear(8, 16, rngs=rngs)
        self.shrink = nnx.Linear(16, 8, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.shrink(nnx.gelu(self.grow(x), approximate=False))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), padding=1, rngs=rngs)
        self.batch = nnx.BatchNorm(8, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.blocks = nnx.List([Block(rngs), Block(rngs)])
        self.head = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, x):
        x = nnx.tanh(self.batch(self.conv(x)))
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def build():
    return Net(nnx.Rngs(0))
"""
LAYERS = [
    "conv", "batch", "blocks.0.norm", "blocks.0.attention", "blocks.0.grow", "blocks.0.shrink", "blocks.0",
    "blocks.1.norm", "blocks.1.attention", "blocks.1.grow", "blocks.1.shrink", "blocks.1", "head",
]  # fmt: skip


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Contender, Pool]]:
    logs = tmp_path_factory.mktemp("logs")
    pools = {contender: new_pool([contender], logs / contender.framework) for contender in (EAGER, JIT)}
    for contender, pool in pools.items():
        if error := pool.failures.get(contender):
            pytest.skip(str(error))
    yield pools
    for pool in pools.values():
        pool.close()


def write(folder: Path, **texts: str) -> Path:
    for name, text in {"port.toml": PORT, "pytorch_model.py": PYTORCH, "jax_model.py": JAX, **texts}.items():
        (folder / name.replace("_toml", ".toml").replace("_py", ".py")).write_text(text)
    return folder


def opened(folder: Path, pools: dict[Contender, Pool]) -> Port:
    workers = {contender.framework: pool.worker(contender) for contender, pool in pools.items()}
    return open_port(folder, workers.__getitem__, 0)


def look(
    port: Port, pools: dict[Contender, Pool], dtype: str = "float64", contender: Contender = JIT, trace: bool = False
) -> Agreement:
    """What the layers tell of a port whose outputs and loss were found to differ."""
    task = Task.seeded(Workload(port.spec, 4, step="training", optimiser=Optimiser("sgd")), 0)
    reference = EAGER if port.reference == "pytorch" else JIT
    expected = OwnExpected(task, 0, lambda: pools[reference].worker(reference), reference.mode)
    agreement = blank(task.workload, contender, dtype, again="again")
    agreement.quantities = [without_value(name, "differs") for name in ("outputs", "loss")]
    agreement.path = path_of(agreement.quantities) if trace else []
    agreement.outcome = "disagrees"
    expected.look_at_layers(agreement, pools[contender].worker(contender), contender.mode, dtype)
    return agreement


def layers_on(agreement: Agreement, mode: str) -> list[str]:
    return [
        point.name.removeprefix("output of ").removesuffix(f" ({mode})")
        for point in agreement.path
        if point.name.endswith(f"({mode})")
    ]


@pytest.mark.thorough
def test_every_paired_layer_is_compared_as_it_comes_and_fed(tmp_path: Path, pools: dict[Contender, Pool]) -> None:
    agreement = look(opened(write(tmp_path), pools), pools, trace=True)
    assert not agreement.first_difference
    assert agreement.layers == "run layer by layer it agrees: what is compiled, or kept between calls, differs"
    assert layers_on(agreement, "inference") == LAYERS
    assert layers_on(agreement, "training") == LAYERS
    fed = [point for point in agreement.path if point.fed_agrees is not None]
    assert len(fed) == 2 * len(LAYERS)
    assert all(point.agrees and point.fed_agrees for point in fed)
    exact = [point for point in fed if not point.problem]
    # Noise that is far too wide would let everything agree.
    assert 0.02 < np.median([point.fed_units for point in exact if point.fed_units]) < 4
    assert 0.02 < np.median([point.noise_units for point in exact if point.noise_units]) < 4


FAULTS = {
    "epsilon": ("self.norm = nnx.LayerNorm(8, epsilon=1e-5,", "self.norm = nnx.LayerNorm(8, epsilon=1e-3,",
                "blocks.0.norm (inference)"),
    "padding": ("padding=1", "padding='CIRCULAR'", "conv (inference)"),
    "batch norm": ("momentum=0.9, epsilon=1e-5", "momentum=0.9, epsilon=1e-3", "batch (inference)"),
    "gelu": ("approximate=False", "approximate=True", "between blocks.0.grow and blocks.0.shrink (inference)"),
    "residual": ("return x + self.shrink", "return self.shrink", "blocks.0, after blocks.0.shrink (inference)"),
    "tanh": ("nnx.tanh(self.batch(self.conv(x)))", "nnx.relu(self.batch(self.conv(x)))",
             "between batch and blocks.0 (inference)"),
    "heads": ("MultiHeadAttention(2, 8", "MultiHeadAttention(4, 8", "blocks.0.attention (inference)"),
    "mean": ("x.mean(1)", "x.max(1)", "between blocks.1 and head (inference)"),
    "after": ("return self.head(x.mean(1))", "return 1.01 * self.head(x.mean(1))", "after head (inference)"),
}  # fmt: skip


@pytest.mark.parametrize(
    "fault",
    [pytest.param(name, marks=() if name == "epsilon" else pytest.mark.thorough) for name in FAULTS],
)
def test_a_fault_is_blamed_on_the_layer_that_makes_it(tmp_path: Path, pools: dict[Contender, Pool], fault: str) -> None:
    there, written, place = FAULTS[fault]
    write(tmp_path)
    edit(tmp_path / "jax_model.py", there, written)
    agreement = look(opened(tmp_path, pools), pools)
    assert agreement.first_difference == place
    assert agreement.is_placed
    if place in LAYERS:
        assert f"{place.split()[0]} makes it: fed with the reference's input it is" in agreement.layers


@pytest.mark.thorough
def test_the_reference_may_be_the_other_side_and_a_fault_of_precision_is_placed(
    tmp_path: Path, pools: dict[Contender, Pool]
) -> None:
    write(tmp_path, port_toml=PORT.replace("[inputs.x]", "[inputs.x]", 1))
    edit(tmp_path / "port.toml", 'loss = "cross-entropy"', 'loss = "cross-entropy"\nreference = "jax"')
    edit(tmp_path / "pytorch_model.py", "self.grow(x)", "self.grow(x).bfloat16().to(x.dtype)")
    port = opened(tmp_path, pools)
    agreement = look(port, pools, "float32", EAGER)
    assert agreement.first_difference == "between blocks.0.grow and blocks.0.shrink (inference)"


def test_layers_without_weights_are_compared_where_the_user_names_them(
    tmp_path: Path, pools: dict[Contender, Pool]
) -> None:
    write(tmp_path)
    edit(tmp_path / "pytorch_model.py", "self.head = ", "self.squash = nn.Tanh()\n        self.head = ")
    edit(tmp_path / "pytorch_model.py", "torch.tanh(self.batch(self.conv(x)))", "self.squash(self.batch(self.conv(x)))")
    edit(tmp_path / "jax_model.py", "class Net(nnx", "class Act(nnx.Module):\n    def __call__(self, x):\n"
         "        return nnx.hard_tanh(x)\n\n\nclass Net(nnx")  # fmt: skip
    edit(tmp_path / "jax_model.py", "self.head = ", "self.act = Act()\n        self.head = ")
    edit(tmp_path / "jax_model.py", "nnx.tanh(self.batch(self.conv(x)))", "self.act(self.batch(self.conv(x)))")
    (tmp_path / "port.toml").write_text(PORT + '[sides.jax.layers]\n"squash" = "act"\n')
    agreement = look(opened(tmp_path, pools), pools, trace=True)
    assert agreement.first_difference == "squash, there act (inference)"
    assert [point.name for point in agreement.path if point.first] == ["output of squash (inference)"]
    assert "squash (there act) makes it" in agreement.layers
    assert "squash" in layers_on(agreement, "inference")


def test_recording_and_feeding_change_nothing(tmp_path: Path, pools: dict[Contender, Pool]) -> None:
    port = opened(write(tmp_path), pools)
    task = Task.seeded(Workload(port.spec, 4, "float64", step="training"), 0)
    for contender, pool in pools.items():
        worker = pool.worker(contender)
        worker.request("build", workload=task.workload.to_json(), mode=contender.mode, weights=task.weights)
        worker.request("load", batches=[task.batches[0].to_json()])
        outputs = worker.request("forward", indices=[0])["outputs"][0]
        for training in (False, True):
            reply = worker.request("layers", index=0, training=training)
            calls = calls_of(reply)
            # What is fed with its own is what it was.
            forced = {name: {"inputs": call.inputs, "outputs": call.outputs} for name, call in calls.items()}
            again = worker.request("layers", index=0, training=training, forced=forced)
            np.testing.assert_allclose(again["outputs"], reply["outputs"], atol=1e-12)
            doubled = {"head": {"inputs": [None], "outputs": [2 * calls["head"].outputs[0]]}}
            other = worker.request("layers", index=0, training=training, forced=doubled)
            np.testing.assert_allclose(other["outputs"], 2 * reply["outputs"], atol=1e-12)
            np.testing.assert_array_equal(calls_of(other)["head"].outputs[0], calls["head"].outputs[0])
        inferred = worker.request("layers", index=0, training=False)["outputs"]
        np.testing.assert_allclose(inferred, outputs, atol=1e-12)
        np.testing.assert_array_equal(worker.request("forward", indices=[0])["outputs"][0], outputs)
        for name, value in worker.request("weights").items():
            np.testing.assert_array_equal(value, task.weights[name])


LINEAR = {
    "port.toml": 'loss = "squared-error"\ninputs.x.shape = [3]\ntargets.shape = [2]\n[sides.pytorch]\n[sides.jax]\n',
    "pytorch_model.py": """
from torch import nn


def build():
    return nn.Sequential(nn.Linear(3, 2))
""",
    "jax_model.py": """
import jax.numpy as jnp


def build():
    weights = {"0": {"weight": jnp.ones((2, 3)), "bias": jnp.zeros(2)}}
    return weights, lambda w, x: x @ w["0"]["weight"].T + w["0"]["bias"]
""",
}
RECURRENT = {
    "port.toml": 'loss = "squared-error"\ninputs.x.shape = [5, 3]\ntargets.shape = [5, 2]\n[sides.jax]\n',
    "jax_model.py": """
from flax import nnx


class Net(nnx.Module):
    def __init__(self, rngs):
        self.rnn = nnx.RNN(nnx.GRUCell(3, 4, rngs=rngs))
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.tanh(self.head(self.rnn(x)) @ self.head.kernel.T))


def build():
    return Net(nnx.Rngs(0))
""",
}


def test_a_plain_function_says_that_it_has_no_layers(tmp_path: Path, pools: dict[Contender, Pool]) -> None:
    for name, text in LINEAR.items():
        (tmp_path / name).write_text(text)
    agreement = look(opened(tmp_path, pools), pools)
    assert agreement.layers.startswith("layers are not compared")
    assert "a plain function has no layers" in agreement.layers


def test_what_a_compiled_loop_calls_is_left_out_and_each_call_of_a_layer_counts(
    tmp_path: Path, pools: dict[Contender, Pool]
) -> None:
    for name, text in RECURRENT.items():
        (tmp_path / name).write_text(text)
    port, worker = opened(tmp_path, pools), pools[JIT].worker(JIT)
    task = Task.seeded(Workload(port.spec, 4, "float64", step="training"), 0)
    worker.request("build", workload=task.workload.to_json(), mode="jit", weights=task.weights)
    worker.request("load", batches=[task.batches[0].to_json()])
    calls = calls_of(worker.request("layers", index=0, training=False))
    assert list(calls) == ["rnn", "head", "head#2"]
    assert calls["rnn"].outputs[0].shape == (4, 5, 4)


@pytest.mark.thorough
def test_the_command_shows_the_weights_and_the_layers(tmp_path: Path, pools: dict[Contender, Pool]) -> None:
    shutil.copytree(ROOT / "impls" / "examples" / "transformer", tmp_path / "mine")
    edit(tmp_path / "mine" / "jax_model.py", "self.norm2 = nnx.LayerNorm(WIDTH, epsilon=1e-5",
         "self.norm2 = nnx.LayerNorm(WIDTH, epsilon=1e-3")  # fmt: skip
    chosen = ("--models", "./mine", "--contenders", "jax:jit", "--dtype", "float64", "--out", "out", "--quiet")
    done = faceoff(tmp_path, "agree", *chosen, "--trace")
    assert done.returncode == 1, done.stdout + done.stderr
    (agreement,) = load(tmp_path / "out" / "result.json").agreements
    assert agreement.first_difference == "layers.layers.0.norm2, there layers.0.norm2 (inference)"
    assert "layers.layers.0.norm2 (there layers.0.norm2) makes it: fed with the reference's input it is" in done.stdout
    assert "weights of jax are paired with pytorch's" in done.stdout
    assert "fed with" in done.stdout
