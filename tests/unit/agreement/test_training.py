"""Training on real data is judged by what rounding explains: chaos passes and faults do not. By the NumPy reference."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from faceoff.agreement.comparison import NOISE_LIMIT
from faceoff.agreement.training import (
    AMPLIFICATION,
    ExpectedTraining,
    Trained,
    explained,
    judge_trained,
    loss_noise,
    train_reference,
)
from faceoff.core.errors import InputError
from faceoff.core.spec import OPTIMISERS
from faceoff.reference import Arithmetic, Exact, Rounded, noise_generator
from faceoff.reference.optimiser import UpdateRule
from faceoff.results.trainings import TrainingRun
from faceoff.run.engine import choose_tasks
from faceoff.run.options import make_options
from faceoff.workloads.trainings import TrainingTask, make_long_tasks

SEED = 5
LONG, SHORT = 200, 6


class InFloat32(Arithmetic):
    """The reference in NumPy's real float32."""

    def array(self, values: Any) -> np.ndarray:
        return np.array(values, dtype=np.float32, order="C")


class Decaying(UpdateRule):
    """An author's own weight decay."""

    def apply(self, weights: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return super().apply(weights, {name: g + 1e-4 * weights[name] for name, g in gradients.items()})


@functools.cache
def task_and_expected(
    model: str, optimiser: str, dtype: str, steps: int = LONG
) -> tuple[TrainingTask, ExpectedTraining]:
    task = make_long_tasks([model], [optimiser], [dtype], "cpu", SEED, steps)[0]
    return task, ExpectedTraining(task, SEED)


def judge(task: TrainingTask, expected: ExpectedTraining, got: Trained) -> TrainingRun:
    run = TrainingRun(task=task.name, workload=task.workload.to_json(), contender="jax:jit", outcome="ok")
    judge_trained(run, task, got, expected)
    return run


def in_dtype(task: TrainingTask, trained: Trained) -> Trained:
    return Trained(trained.losses, trained.logits.astype(task.workload.dtype))


@pytest.mark.parametrize("dtype", [pytest.param("float64", marks=pytest.mark.thorough), "float32"])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_rounding_alone_passes_over_200_steps(optimiser: str, dtype: str) -> None:
    task, expected = task_and_expected("dense", optimiser, dtype)
    # Run 100: none of those that the noise was found from.
    arithmetics = [Rounded(dtype, noise_generator(SEED, 100)), *([InFloat32()] if dtype == "float32" else [])]
    for arithmetic in arithmetics:
        run = judge(task, expected, in_dtype(task, train_reference(task, SEED, arithmetic)))
        assert (run.outcome, run.reason) == ("ok", "")
        assert run.noise_units is not None
        assert 0.05 < run.noise_units < NOISE_LIMIT / 2


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("optimiser", "changes"),
    [
        ("adam", {"epsilon": 1e-7}),
        ("adam", {"beta2": 0.99}),
        ("momentum", {"momentum": 0.89}),
        ("sgd", {"learning_rate": 0.1001}),
    ],
    ids=str,
)
def test_a_wrong_constant_of_the_optimiser_is_found(optimiser: str, changes: dict[str, float], dtype: str) -> None:
    task, expected = task_and_expected("dense", optimiser, dtype)
    rule = dataclasses.replace(task.workload.optimiser, **changes)
    faulty = dataclasses.replace(task, workload=task.workload.replace(optimiser=rule))
    run = judge(task, expected, in_dtype(task, train_reference(faulty, SEED, Exact())))
    assert run.outcome == "disagrees"
    assert "noise units off (limit 8)" in run.reason
    assert run.noise_units is not None
    assert run.noise_units > (1e9 if dtype == "float64" else 100)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_weight_decay_that_nobody_asked_for_is_found(monkeypatch: pytest.MonkeyPatch, optimiser: str) -> None:
    task, expected = task_and_expected("dense", optimiser, "float64")
    narrow, narrow_expected = task_and_expected("dense", optimiser, "float32")
    monkeypatch.setattr("faceoff.reference.model.UpdateRule", Decaying)
    decayed = train_reference(task, SEED, Exact())
    run = judge(task, expected, decayed)
    assert run.outcome == "disagrees"
    assert run.loss_error is not None
    assert run.loss_error > 1e-8
    assert judge(narrow, narrow_expected, in_dtype(narrow, decayed)).outcome == "disagrees"


def test_a_residual_model_in_real_float32_passes_and_a_faulty_one_does_not() -> None:
    task, expected = task_and_expected("residual", "momentum", "float32", SHORT)
    run = judge(task, expected, in_dtype(task, train_reference(task, SEED, InFloat32())))
    assert (run.outcome, run.reason) == ("ok", "")
    rule = dataclasses.replace(task.workload.optimiser, learning_rate=task.workload.optimiser.learning_rate * 1.01)
    faulty = dataclasses.replace(task, workload=task.workload.replace(optimiser=rule))
    assert judge(task, expected, in_dtype(task, train_reference(faulty, SEED, InFloat32()))).outcome == "disagrees"


def test_the_largest_relative_difference_in_loss_is_recorded() -> None:
    task, expected = task_and_expected("dense", "sgd", "float64")
    losses = expected.exact.losses.copy()
    losses[7] *= 1 + 1e-13
    run = judge(task, expected, Trained(losses, expected.exact.logits))
    assert run.loss_error == pytest.approx(1e-13, rel=0.01)
    assert run.outcome == "disagrees"
    assert "loss at step 7" in run.reason
    losses[9] = np.nan
    run = judge(task, expected, Trained(losses, expected.exact.logits))
    assert (run.outcome, run.loss_error) == ("disagrees", None)
    assert "not finite at step 9" in run.reason


@pytest.mark.parametrize("broken", ["losses", "noise"])
def test_a_training_that_overflows_by_itself_proves_nothing(broken: str) -> None:
    task, expected = task_and_expected("dense", "sgd", "float64")
    got, expected = expected.exact, copy.deepcopy(expected)
    (expected.exact.losses if broken == "losses" else expected.loss_noise)[7:] = np.inf
    run = judge(task, expected, got)
    assert run.outcome == "disagrees"
    assert "cannot be judged: from step 7" in run.reason
    assert len(run.reference_losses) == len(run.noise) == 7


def test_the_spread_of_the_loss_never_shrinks_and_is_never_below_one_rounding() -> None:
    exact = np.array([2.0, 2.0, 2.0])
    runs = [exact + sign * np.array([0.0, 1e-3, 1e-5]) for sign in (-1, 1)]
    assert loss_noise(exact, runs, "float32") == pytest.approx([2 * 2.0**-24, 1e-3, 1e-3])


def test_from_which_step_on_rare_events_are_allowed_for_is_recorded() -> None:
    task, expected = task_and_expected("dense", "sgd", "float32")
    run = judge(task, expected, expected.exact)
    assert run.rare_from is not None
    before, after = run.noise[run.rare_from - 1], run.noise[run.rare_from]
    assert after > AMPLIFICATION * before
    task, expected = task_and_expected("residual", "momentum", "float32", SHORT)
    assert judge(task, expected, expected.exact).rare_from is None


def test_what_wider_disturbances_do_out_of_proportion_is_explained_and_what_they_do_in_proportion_is_not() -> None:
    noise = np.array([1e-7, 2e-7, 2e-7, 1e-2])
    wide = np.array([AMPLIFICATION * 1e-7, 2 * AMPLIFICATION * 2e-7, 3e-3, 4e-2])
    assert explained(noise, wide).tolist() == [1e-7, 2e-7, 3e-3, 1e-2]


def test_wider_disturbances_are_as_many_times_as_large() -> None:
    values = np.linspace(1.0, 2.0, 1000)
    spreads = []
    for times in (1.0, AMPLIFICATION):
        arithmetic = Rounded("float32", noise_generator(SEED, 3), times)
        spreads.append(np.std(np.asarray(arithmetic.array(values) * 1.0) / values))
    assert spreads[1] / spreads[0] == pytest.approx(AMPLIFICATION, rel=1e-6)


def test_long_tasks_are_every_pair_that_has_a_meaning() -> None:
    tasks = make_long_tasks(["dense", "rnn"], OPTIMISERS, ["float64", "float16"], "cpu", 0, 3)
    found = [(task.workload.model.kind, task.workload.optimiser.kind, task.workload.dtype) for task in tasks]
    per_model = [("sgd", "float64"), ("sgd", "float16"), ("momentum", "float64"), ("momentum", "float16")]
    per_model += [("adam", "float64"), ("adamw", "float64")]
    assert found == [(kind, *pair) for kind in ("dense", "rnn") for pair in per_model]
    assert {len(task.batches) for task in tasks} == {3}


def test_agree_trains_with_all_optimisers_unless_one_is_named(tmp_path: Any) -> None:
    def kinds(**asked: Any) -> tuple[list[str], str]:
        options = make_options("agree", models=["dense"], out=tmp_path, training=True, **asked)
        return sorted({task.workload.optimiser.kind for task in choose_tasks(options)}), options.command_line()

    found, command = kinds()
    assert found == sorted(OPTIMISERS)
    assert "--optimiser" not in command
    assert command.endswith("--training --training-steps 200")
    found, command = kinds(optimiser="adam", training_steps=4)
    assert found == ["adam"]
    assert "--optimiser adam" in command
    assert command.endswith("--training --training-steps 4")


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ("agree", {"training_steps": 10}),
        ("compare", {"training_steps": 10}),
        ("agree", {"training": True, "training_steps": 0}),
    ],
)
def test_steps_that_no_training_would_take_are_refused(tmp_path: Any, command: str, asked: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="training-steps"):
        make_options(command, out=tmp_path, **asked)
