"""A framework that infers alone, or does not train, is checked and timed in what it offers, and in nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from faceoff import load
from tests.contract.plain import edit, faceoff, write_plain

# The methods that only who trains has, and those that only who differentiates has.
TRAINING = ("train_step", "_sgd", "_momentum", "_adam", "optimiser_state")
GRADIENTS = ("gradients", "canonical")


def without(source: Path, names: tuple[str, ...]) -> None:
    """Takes methods out of a file, from one blank line to the next."""
    parts = re.split(r"\n\n(?=    def )", source.read_text())
    left = [part for part in parts if not part.lstrip().startswith(tuple(f"def {name}(" for name in names))]
    assert len(parts) - len(left) == len(names)
    source.write_text("\n\n".join(left))


@pytest.fixture(params=[pytest.param("inference", marks=pytest.mark.thorough), "gradients"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, tuple[str, ...]]:
    """A working folder with a framework that has these steps alone."""
    folder = write_plain(tmp_path / "plain")
    without(folder / "__init__.py", TRAINING if request.param == "gradients" else (*TRAINING, *GRADIENTS, "trace"))
    steps = ("inference",) if request.param == "inference" else ("inference", "gradients")
    listed = ", ".join(f'"{step}"' for step in steps)
    trace = "" if request.param == "gradients" else "trace = false\n"
    edit(folder / "framework.toml", 'models = ["dense"]\n', f'models = ["dense"]\nsteps = [{listed}]\n{trace}')
    # What holds no state for training need not make any.
    edit(folder / "__init__.py", "for kind in self._rule.state_names", "for kind in ()")
    (tmp_path / "faceoff.toml").write_text('[frameworks.plain]\npath = "plain"\n')
    return tmp_path, steps


SMALL = ("--preset", "small", "--models", "dense", "--contenders", "plain", "--quiet", "--out", "out")


def test_it_is_checked_and_timed_in_what_it_offers(place: Any) -> None:
    folder, steps = place
    done = faceoff(folder, "bench", *SMALL, "--steps", "inference,gradients,training", "--budget", "quick")
    assert done.returncode == 0, done.stdout + done.stderr
    result = load(folder / "out" / "result.json")
    assert {case.workload["step"]: case.outcome for case in result.cases} == {
        step: "ok" if step in steps else "not_offered" for step in ("inference", "gradients", "training")
    }
    assert {agreement.outcome for agreement in result.agreements} == {"ok"}
    names = [quantity.name for agreement in result.agreements for quantity in agreement.quantities]
    assert "outputs" in names
    assert any(name.startswith("gradient of") for name in names) == ("gradients" in steps)
    assert not any("training step" in name for name in names)
    assert all(f"checked in what it offers: {' and '.join(steps)}" in a.note for a in result.agreements)
    assert "Plain NumPy offers no training here" in (folder / "out" / "page.html").read_text()


@pytest.mark.thorough
def test_compare_trains_nobody_who_does_not_train(place: Any) -> None:
    folder, _ = place
    done = faceoff(folder, "compare", *SMALL, "--steps", "inference", "--budget", "quick")
    assert done.returncode == 0, done.stdout + done.stderr
    result = load(folder / "out" / "result.json")
    assert {run.outcome for run in result.training_runs} == {"not_offered"}
    assert {start.outcome for start in result.cold_starts} == {"ok"}


@pytest.mark.thorough
def test_it_keeps_its_promises(place: Any) -> None:
    folder, _ = place
    done = faceoff(folder, "check", "plain", "--quiet", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    promises = {row["check"] for row in json.loads(done.stdout)["rows"]}
    assert "training moves" not in promises
    assert "reset is whole" in promises


def test_wrong_outputs_are_found(place: Any) -> None:
    folder, _ = place
    edit(folder / "plain" / "__init__.py", "np.tanh(y) if", "np.tanh(1.001 * y) if")
    done = faceoff(folder, "agree", *SMALL)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "disagree" in done.stdout + done.stderr


def test_what_is_not_declared_and_works_is_named(tmp_path: Path) -> None:
    folder = write_plain(tmp_path / "plain")
    edit(
        folder / "framework.toml", 'models = ["dense"]\n', 'models = ["dense"]\nsteps = ["inference"]\ntrace = false\n'
    )
    (tmp_path / "faceoff.toml").write_text('[frameworks.plain]\npath = "plain"\n')
    done = faceoff(tmp_path, "check", "plain", "--quiet", "--no-agreement")
    assert done.returncode == 1
    assert "gradients: works, and the manifest does not say so" in done.stdout


@pytest.mark.parametrize("steps", ['["training"]', '["inference", "training"]', '["forward"]', "[]"])
def test_steps_that_make_no_sense_are_one_line(tmp_path: Path, steps: str) -> None:
    folder = write_plain(tmp_path / "plain")
    edit(folder / "framework.toml", 'models = ["dense"]\n', f'models = ["dense"]\nsteps = {steps}\n')
    (tmp_path / "faceoff.toml").write_text('[frameworks.plain]\npath = "plain"\n')
    done = faceoff(tmp_path, "check", "plain")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "steps" in done.stderr
