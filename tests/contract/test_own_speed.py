"""`faceoff bench` and `compare --models DIR`: how fast a user's own model is, in PyTorch and JAX, as a user runs it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faceoff import load
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.results.records import Result
from faceoff.run.journal import NAME
from tests.contract.plain import ROOT, edit, faceoff

STEPS = ("inference", "gradients", "training")
PORT = """
loss = "cross-entropy"
[inputs.x]
shape = [6]
[targets]
classes = 4
[sides.pytorch]
[sides.jax]
"""
# PyTorch's running variances are those of samples, so that nothing of a large batch follows from a small one.
PYTORCH = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 10)
        self.norm = nn.BatchNorm1d(10)
        self.last = nn.Linear(10, 4)

    def forward(self, x):
        return self.last(self.norm(self.first(x)).tanh())


def build():
    return Net()
"""
JAX = """
import jax.numpy as jnp
from flax import nnx


class Norm(nnx.Module):
    def __init__(self):
        self.scale, self.bias = nnx.Param(jnp.ones(10)), nnx.Param(jnp.zeros(10))
        self.mean, self.var = nnx.BatchStat(jnp.zeros(10)), nnx.BatchStat(jnp.ones(10))
        self.use_running_average = False

    def __call__(self, x):
        mean, var = self.mean[...], self.var[...]
        if not self.use_running_average:
            mean, var = x.mean(0), x.var(0)
            self.mean[...] = 0.9 * self.mean[...] + 0.1 * mean
            self.var[...] = 0.9 * self.var[...] + 0.1 * var * len(x) / (len(x) - 1)
        return (x - mean) / jnp.sqrt(var + 1e-5) * self.scale[...] + self.bias[...]


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(6, 10, rngs=rngs)
        self.norm = Norm()
        self.last = nnx.Linear(10, 4, rngs=rngs)

    def __call__(self, x):
        return self.last(jnp.tanh(self.norm(self.first(x))))


def build():
    return Net(nnx.Rngs(0))
"""
# Of one example: a product forward, and one or two backward for each layer.
FLOPS = {"inference": 2 * (60 + 40), "gradients": 3 * 2 * (60 + 40), "training": 3 * 2 * (60 + 40) - 2 * 60}

# What was computed once is given again and again, after more calls than a check of agreement takes.
STALE_OUTPUTS = """
    def forward(self, x):
        self.calls = getattr(self, "calls", 0) + 1
        if self.training or self.calls < 16:
            self.kept = self.last(self.norm(self.first(x)).tanh())
        return self.kept
"""
STALE_GRADIENTS = """
    def forward(self, x):
        return self.last(Tired.apply(self.norm(self.first(x))))


import torch


class Tired(torch.autograd.Function):
    calls, kept = 0, None

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(context, gradient):
        Tired.calls += 1
        if Tired.calls < 20:
            Tired.kept = gradient * (1 - context.saved_tensors[0].tanh() ** 2)
        return Tired.kept
"""
FORWARD = """
    def forward(self, x):
        return self.last(self.norm(self.first(x)).tanh())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if not all(find_installation(FRAMEWORKS[name], Configuration()).installed for name in ("pytorch", "jax")):
        pytest.skip("pytorch and jax are not both installed")
    (tmp_path / "mine").mkdir()
    for name, text in (("port.toml", PORT), ("pytorch_model.py", PYTORCH), ("jax_model.py", JAX)):
        (tmp_path / "mine" / name).write_text(text)
    return tmp_path


def run(folder: Path, command: str, *more: str, status: int = 0) -> tuple[Result, str]:
    """The result of a run, and what it printed."""
    fixed = ("--out", "out", "--budget", "quick", "--threads", "1", "--quiet")
    done = faceoff(folder, command, "--models", "./mine", *fixed, *more)
    assert done.returncode == status, done.stdout + done.stderr
    return load(folder / "out" / "result.json"), done.stdout


@pytest.mark.thorough
def test_both_sides_are_compared_in_speed_at_every_batch_size(folder: Path) -> None:
    chosen = ("--contenders", "pytorch:eager,jax:jit", "--steps", ",".join(STEPS), "--batch-size", "3,100")
    result, printed = run(folder, "compare", *chosen)
    assert {case.outcome for case in result.cases} == {"ok"}
    assert len(result.cases) == 2 * 2 * 3
    assert all(case.speed and case.speed.time_s > 0 for case in result.cases)
    assert all(case.speed.processes[0].memory for case in result.cases if case.speed)
    assert {(c.workload, c.contender) for c in result.comparisons}
    assert [(start.outcome, start.total_s > 0) for start in result.cold_starts] == [("ok", True)] * 4
    # Of 100 examples 64 were compared before, and all when they were timed.
    assert {(a.examples, a.timed) for a in result.agreements if a.workload["batch_size"] == 100} == {(64, "everything")}
    for case in result.cases:
        assert case.flops == FLOPS[case.workload["step"]] * case.workload["batch_size"]
        assert case.bytes is None
    assert "mine b3" in printed
    assert "mine b100" in printed
    page = (folder / "out" / "page.html").read_text()
    assert "mine inference" in page
    the_other_forms_have_it_too(folder)


def the_other_forms_have_it_too(folder: Path) -> None:
    written = faceoff(folder, "report", "out/result.json", "--format", "csv", "-o", "-")
    rows = list(csv.DictReader(io.StringIO(written.stdout)))
    assert {row["workload"].split("-")[0] for row in rows} == {"mine"}
    assert all(row["flops"] and not row["bytes"] for row in rows)
    markdown = faceoff(folder, "report", "out/result.json", "--format", "md", "-o", "-")
    assert "mine training" in markdown.stdout, markdown.stderr
    same = faceoff(folder, "diff", "out/result.json", "out/result.json", "--json")
    assert same.returncode == 0, same.stderr
    assert len(json.loads(same.stdout)["cases"]) == 12


@pytest.mark.thorough
def test_only_frameworks_with_a_side_take_part_unless_others_are_named(folder: Path) -> None:
    edit(folder / "mine" / "port.toml", "[sides.pytorch]\n", "")
    result, _ = run(folder, "bench", "--steps", "inference")
    assert {info.contender for info in result.contenders} == {"jax:jit"}
    assert {case.flops for case in result.cases} == {8 * FLOPS["inference"]}
    result, _ = run(folder, "bench", "--steps", "inference", "--contenders", "pytorch:eager,jax:jit")
    assert {case.contender: case.outcome for case in result.cases} == {"pytorch:eager": "not_offered", "jax:jit": "ok"}


@pytest.mark.thorough
def test_a_run_goes_on_from_another_folder(folder: Path) -> None:
    first, _ = run(folder, "bench", "--contenders", "jax:jit", "--workload", "mine-b8", "--steps", "inference,training")
    journal = folder / "out" / NAME
    lines = journal.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if b"training-sgd" in line and b"speed mine" in line)
    journal.write_bytes(b"".join(lines[:at]))
    (folder / "out" / "result.json").unlink()
    (folder / "elsewhere").mkdir()
    done = faceoff(folder / "elsewhere", "bench", "--resume", "../out", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    result = load(folder / "out" / "result.json")
    assert (result.resumed, [case.outcome for case in result.cases]) == (1, ["ok", "ok"])
    assert result.cases[0].speed == first.cases[0].speed
    # Another model is another run.
    journal.write_bytes(b"".join(lines[:at]))
    edit(folder / "mine" / "jax_model.py", "jnp.tanh(", "jnp.sin(")
    done = faceoff(folder, "bench", "--resume", "out", "--quiet")
    assert (done.returncode, "cannot be resumed" in done.stderr) == (2, True)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("written", "step", "said"),
    [(STALE_OUTPUTS, "inference", "outputs of "), (STALE_GRADIENTS, "gradients", "gradient of ")],
    ids=["outputs", "gradients"],
)
def test_what_is_remembered_when_it_is_timed_is_found(folder: Path, written: str, step: str, said: str) -> None:
    edit(folder / "mine" / "port.toml", "[sides.pytorch]\n[sides.jax]", "[sides.jax]\n[sides.pytorch]")
    edit(folder / "mine" / "pytorch_model.py", FORWARD, written)
    result, _ = run(folder, "bench", "--contenders", "pytorch:eager", "--steps", step, status=1)
    assert {check.outcome for check in result.agreements} == {"ok"}
    (case,) = result.cases
    assert case.outcome == "disagrees"
    assert case.reason.startswith(said)


@pytest.mark.thorough
def test_compiled_it_is_timed_too_and_in_float64(folder: Path) -> None:
    chosen = ("--contenders", "pytorch", "--steps", ",".join(STEPS), "--dtype", "float64")
    result, _ = run(folder, "bench", *chosen)
    assert [case.outcome for case in result.cases] == ["ok"] * 6


def test_sizes_that_it_does_not_have_are_told(folder: Path) -> None:
    done = faceoff(folder, "bench", "--models", "./mine", "--hidden-size", "8", "--out", "out")
    assert (done.returncode, "hidden-size" in done.stderr) == (2, True)
    done = faceoff(folder, "bench", "--models", "./mine", "--workload", "mine-b9", "--out", "out")
    assert (done.returncode, "mine-b8" in done.stderr) == (2, True)


@pytest.mark.thorough
def test_modes_for_built_in_models_alone_are_told(folder: Path) -> None:
    tuned = ("--contenders", "jax:jit,jax:tuned", "--steps", "inference")
    result, _ = run(folder, "bench", *tuned)
    assert {case.contender: case.outcome for case in result.cases} == {"jax:jit": "ok", "jax:tuned": "not_offered"}
    assert "built-in models only" in next(c.reason for c in result.cases if c.outcome == "not_offered")


@pytest.mark.thorough
def test_pytest_benchmark_times_it(folder: Path) -> None:
    (folder / "test_mine.py").write_text("def test_speed(measured_case):\n    assert measured_case.speed.time_s > 0\n")
    command = [sys.executable, "-m", "pytest", "test_mine.py", "--benchmark-only", "-p", "no:cacheprovider"]
    command += ["--faceoff-models", "./mine", "--faceoff-contenders", "jax:jit", "--faceoff-batch-size", "4,8"]
    command += ["--benchmark-max-time", "0.01", "--faceoff-steps", "inference"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(ROOT / "harness")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
