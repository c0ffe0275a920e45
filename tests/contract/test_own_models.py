"""`faceoff agree --models DIR`: a user's own model, one side in PyTorch and its port to JAX, as a user runs it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from faceoff import load
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.results.records import Result
from tests.contract.own_losses import own_in
from tests.contract.plain import ROOT, edit, faceoff

EXAMPLE = ROOT / "impls" / "examples" / "transformer"
PORT = """
loss = "cross-entropy"
[inputs.x]
shape = [9]
[targets]
classes = 4
[sides.pytorch]
[sides.jax]
"""
PYTORCH = """
from torch import nn


def build():
    return nn.Sequential(
        nn.Linear(9, 24), nn.LayerNorm(24), nn.GELU(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 4)
    )
"""
JAX = """
from flax import nnx


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(9, 24, rngs=rngs)
        self.norm = nnx.LayerNorm(24, epsilon=1e-5, rngs=rngs)
        self.second = nnx.Linear(24, 24, rngs=rngs)
        self.last = nnx.Linear(24, 4, rngs=rngs)

    def __call__(self, x):
        x = nnx.gelu(self.norm(self.first(x)), approximate=False)
        return self.last(nnx.tanh(self.second(x)))


def build():
    return Net(nnx.Rngs(0))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not all(find_installation(FRAMEWORKS[name], Configuration()).installed for name in ("pytorch", "jax")):
        pytest.skip("pytorch and jax are not both installed")
    (tmp_path / "mine").mkdir()
    for name, text in (("port.toml", PORT), ("pytorch_model.py", PYTORCH), ("jax_model.py", JAX)):
        (tmp_path / "mine" / name).write_text(text)
    return tmp_path


def agree(folder: Path, *more: str, model: str = "./mine", status: int = 0) -> tuple[Result, str]:
    """The result of a run, and what was printed."""
    chosen = ("--models", model, "--contenders", "jax:jit", "--out", "out", "--quiet")
    done = faceoff(folder, "agree", *chosen, *more)
    assert done.returncode == status, done.stdout + done.stderr
    return load(folder / "out" / "result.json"), done.stdout + done.stderr


def test_a_right_port_agrees_and_its_page_names_the_model(folder: Path) -> None:
    result, said = agree(folder)
    assert [check.outcome for check in result.agreements] == ["ok", "ok"]
    assert not any(check.note for check in result.agreements)
    assert "mine b8" in said
    assert "mine" in (folder / "out" / "page.html").read_text()
    # The command that repeats a check is one of the same model.
    assert all("--models mine " in check.again for check in result.agreements)


@pytest.mark.parametrize(
    ("there", "written", "first"),
    [
        ("epsilon=1e-5", "epsilon=1e-3", "1, there norm (inference)"),
        ("approximate=False", "approximate=True", "between 1 and 3 (inference)"),
        ("nnx.tanh(self.second(x))", "self.second(x)", "between 3 and 5 (inference)"),
        ("self.last(nnx.tanh(self.second(x)))", "self.last(nnx.tanh(self.second(x)))[:, ::-1]", "after 5 (inference)"),
        ("x = nnx.gelu(", "import jax\n        x = jax.lax.stop_gradient(x)\n        x = nnx.gelu(",
         "gradient of input 'x' (backward)"),
    ],
    ids=["epsilon", "gelu", "activation", "order", "gradient"],
)  # fmt: skip
@pytest.mark.thorough
def test_what_is_wrong_in_a_port_is_found_and_named(folder: Path, there: str, written: str, first: str) -> None:
    edit(folder / "mine" / "jax_model.py", there, written)
    result, _ = agree(folder, "--dtype", "float64", status=1)
    (check,) = result.agreements
    assert (check.outcome, check.first_difference) == ("disagrees", first)


@pytest.mark.thorough
def test_a_loss_of_ones_own_is_checked_like_any_other(folder: Path) -> None:
    edit(folder / "mine" / "port.toml", 'loss = "cross-entropy"', 'loss = "own"')
    edit(folder / "mine" / "port.toml", "classes = 4", "shape = []")
    done = faceoff(folder, "agree", "--models", "./mine", "--out", "none", "--quiet")
    assert (done.returncode, done.stderr.count("\n")) == (2, 2)
    assert "pytorch_model.py: no function `loss`; expected def loss(outputs, targets)" in done.stderr
    for name, package, more in (("pytorch", "torch", "import torch\n"), ("jax", "jnp", "import jax.numpy as jnp\n")):
        file = folder / "mine" / f"{name}_model.py"
        file.write_text(more + file.read_text() + own_in(package))
    result, _ = agree(folder)
    assert [check.outcome for check in result.agreements] == ["ok", "ok"]
    edit(folder / "mine" / "jax_model.py", "(targets - mean) ** 2", "(targets - mean) ** 2 / 2")
    result, _ = agree(folder, "--dtype", "float64", status=1)
    (check,) = result.agreements
    assert (check.outcome, check.first_difference) == ("disagrees", "loss")


@pytest.mark.thorough
def test_what_differs_by_less_than_float32_rounds_is_said_and_no_disagreement(folder: Path) -> None:
    edit(folder / "mine" / "jax_model.py", "epsilon=1e-5", "epsilon=1.00001e-5")
    result, said = agree(folder, "--dtype", "float64")
    (check,) = result.agreements
    assert check.outcome == "ok"
    assert check.note.startswith("the same up to float32's rounding, and not beyond: outputs by")
    assert check.note in said
    assert "the same up to float32&#39;s rounding, and not beyond" in (folder / "out" / "page.html").read_text()


@pytest.mark.thorough
def test_the_example_agrees_without_a_rule_by_hand(folder: Path) -> None:
    shutil.copytree(EXAMPLE, folder / "transformer", ignore=shutil.ignore_patterns("__pycache__"))
    result, _ = agree(folder, model="./transformer")
    assert [check.outcome for check in result.agreements] == ["ok", "ok"]
    # Flax' attention takes its softmax in float32.
    assert "the same up to float32's rounding" in result.agreements[0].note
    assert not result.agreements[1].note


@pytest.mark.parametrize(
    ("file", "there", "written", "said"),
    [
        ("jax_model.py", "self.second = nnx.Linear(24, 24, rngs=rngs)", "self.second = nnx.Linear(24, 23, rngs=rngs)",
         "sides.jax"),
        ("jax_model.py", "def build():", "def built():", "build()"),
        ("port.toml", "classes = 4", "klasses = 4", "klasses"),
        ("port.toml", "[sides.jax]", "[sides.mxnet]", "mxnet"),
    ],
    ids=["shape", "build", "key", "framework"],
)  # fmt: skip
def test_bad_input_is_one_line_and_status_2(folder: Path, file: str, there: str, written: str, said: str) -> None:
    edit(folder / "mine" / file, there, written)
    done = faceoff(folder, "agree", "--models", "./mine", "--contenders", "jax:jit", "--out", "out", "--quiet")
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_the_situations_of_the_built_in_families_are_not_its(folder: Path) -> None:
    done = faceoff(folder, "agree", "--models", "./mine", "--situation", "zero", "--contenders", "jax:jit")
    assert done.returncode == 2
    assert "no model for it" in done.stderr


@pytest.mark.thorough
def test_a_dtype_whose_noise_is_not_known_is_not_offered(folder: Path) -> None:
    result, _ = agree(folder, "--dtype", "float32,mixed_bfloat16")
    assert {a.workload["dtype"]: a.outcome for a in result.agreements} == {
        "float32": "ok", "mixed_bfloat16": "not_offered",
    }  # fmt: skip
