"""A user's own model with several sides in one framework: before and after a refactoring."""

from __future__ import annotations

from pathlib import Path

import pytest

from faceoff import load
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from tests.contract.plain import edit, faceoff

PORT = """
loss = "cross-entropy"
[inputs.x]
shape = [9]
[targets]
classes = 4
[sides.pytorch]
[sides."pytorch@after"]
"""
BEFORE = """
from torch import nn


def build():
    return nn.Sequential(nn.Linear(9, 24), nn.LayerNorm(24), nn.GELU(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 4))
"""
AFTER = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(9, 24)
        self.norm = nn.LayerNorm(24)
        self.second = nn.Linear(24, 24)
        self.last = nn.Linear(24, 4)

    def forward(self, x):
        x = nn.functional.gelu(self.norm(self.first(x)))
        return self.last(torch.tanh(self.second(x)))


def build():
    return Net()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not find_installation(FRAMEWORKS["pytorch"], Configuration()).installed:
        pytest.skip("pytorch is not installed")
    (tmp_path / "mine").mkdir()
    for name, text in (("port.toml", PORT), ("pytorch_model.py", BEFORE), ("after_model.py", AFTER)):
        (tmp_path / "mine" / name).write_text(text)
    return tmp_path


def run(folder: Path, command: str, *more: str, status: int = 0):
    done = faceoff(folder, command, "--models", "./mine", "--out", "out", "--quiet", *more)
    assert done.returncode == status, done.stdout + done.stderr
    return load(folder / "out" / "result.json")


def test_a_mistake_in_one_of_them_is_that_sides_alone(folder: Path) -> None:
    edit(folder / "mine" / "after_model.py", "nn.LayerNorm(24)", "nn.LayerNorm(24, eps=1e-4)")
    chosen = ("--contenders", "pytorch:eager,pytorch@after:eager", "--dtype", "float64")
    found = {check.contender: check for check in run(folder, "agree", *chosen, status=1).agreements}
    assert found["pytorch:eager"].outcome == "ok"
    assert found["pytorch@after:eager"].outcome == "disagrees"
    assert found["pytorch@after:eager"].first_difference == "1, there norm (inference)"


@pytest.mark.thorough
def test_unnamed_all_modes_of_all_sides_take_part_and_are_timed_in_one_run(folder: Path) -> None:
    chosen = ("--budget", "quick", "--threads", "1", "--steps", "inference")
    result = run(folder, "bench", *chosen)
    modes = ("eager", "compile")
    assert {case.contender for case in result.cases} == {
        f"{name}:{mode}" for name in ("pytorch", "pytorch@after") for mode in modes
    }
    assert {case.outcome for case in result.cases} == {"ok"}
    # What the refactoring changed in speed, by the command for environments.
    said = faceoff(folder, "diff", "out/result.json", "--env", "after")
    assert said.returncode in (0, 1), said.stderr
    assert "pytorch:eager" in said.stdout
    shown = faceoff(folder, "bench", "--resume", "out")
    assert "pytorch@after" in shown.stdout + shown.stderr


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('[sides."nothing@after"]', "sides.nothing@after: unknown framework; got 'nothing'"),
        ('[sides."pytorch@"]', "no name for an environment; got 'pytorch@', expected letters, digits"),
        ('[sides."pytorch@other"]', "no such file; got"),
    ],
)
def test_bad_input_is_one_line(folder: Path, written: str, said: str) -> None:
    edit(folder / "mine" / "port.toml", '[sides."pytorch@after"]', written)
    done = faceoff(folder, "agree", "--models", "./mine", "--out", "out", "--quiet")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert said in done.stderr
