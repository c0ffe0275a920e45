"""`faceoff new model` and `assert_agrees`: a port begun from nothing, and held in three lines of a user's tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from tests.contract.plain import ROOT, edit, faceoff

TEST = 'from faceoff import assert_agrees\n\n\ndef test_port():\n    assert_agrees("mine", dtype=["float64"])\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not all(find_installation(FRAMEWORKS[name], Configuration()).installed for name in ("pytorch", "jax")):
        pytest.skip("pytorch and jax are not both installed")
    made = faceoff(tmp_path, "new", "model", "mine", "--from", "pytorch", "--to", "jax")
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines()[-1] == "edit them, then: faceoff agree --models ./mine"
    return tmp_path


def run_test(folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "test_port.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_port.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "harness")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.thorough
def test_what_is_drafted_agrees_and_its_test_passes(folder: Path) -> None:
    done = run_test(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(folder.glob("reports/*"))


@pytest.mark.thorough
def test_a_fault_fails_the_test_and_names_tensor_layer_units_seed_and_command(folder: Path) -> None:
    edit(folder / "mine" / "jax_model.py", "epsilon=1e-5", "epsilon=1e-3")
    done = run_test(folder)
    assert done.returncode == 1, done.stdout + done.stderr
    said = done.stdout
    assert "AssertionError" in said
    assert "norm makes it: fed with the reference's input it is" in said
    assert "outputs is" in said
    assert "noise units off" in said
    assert "first difference: norm (inference)" in said
    assert "seed 0" in said
    assert "faceoff agree --models mine" in said


@pytest.mark.thorough
def test_a_port_to_each_framework_is_drafted_and_agrees(folder: Path) -> None:
    if not find_installation(FRAMEWORKS["tensorflow"], Configuration()).installed:
        pytest.skip("tensorflow is not installed")
    made = faceoff(folder, "new", "model", "other", "--from", "jax", "--to", "pytorch,tensorflow")
    assert made.returncode == 0, made.stderr
    chosen = ("--models", "./other", "--contenders", "pytorch:eager,tensorflow:eager", "--dtype", "float64")
    done = faceoff(folder, "agree", *chosen, "--out", "out", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "other: all 6 weights of pytorch are paired with jax's: 6 by name" in done.stdout
    assert "other: all 6 weights of tensorflow are paired with jax's: 6 by name" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mine", "--from", "pytorch", "--to", "jax"), "is there already"),
        (("other", "--from", "pytorch", "--to", "pytorch"), "named twice"),
        (("other", "--from", "pytorch", "--to", "opencl"), "no model to begin with"),
        (("other", "--from", "mxnet", "--to", "jax"), "mxnet"),
    ],
    ids=["there", "twice", "without", "unknown"],
)
def test_nothing_is_written_where_it_cannot_be(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "mine").mkdir()
    done = faceoff(tmp_path, "new", "model", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list((tmp_path / "mine").iterdir())
    assert not (tmp_path / "other").exists()
