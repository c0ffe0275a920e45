"""Every framework follows the reference's training on real data, with every optimiser, through a real worker."""

from __future__ import annotations

import contextlib
import functools

import pytest

from faceoff.agreement.gradient_norms import choose_contenders
from faceoff.agreement.training import ExpectedTraining, judge_training
from faceoff.core.spec import OPTIMISERS, Contender
from faceoff.frameworks.contenders import all_contenders
from faceoff.pool.worker import Worker
from faceoff.workloads.trainings import TrainingTask, make_long_tasks

pytestmark = pytest.mark.thorough

STEPS = 20
# The others cost several times as much; tests/calibration/long_training.py has them.
NAMES = ("dense on digits", "rnn on digits, row by row")
every_framework = pytest.mark.parametrize("contender", choose_contenders(all_contenders()), ids=str, indirect=True)


@functools.cache
def tasks() -> dict[tuple[str, str, str], TrainingTask]:
    made = make_long_tasks(("dense", "rnn"), OPTIMISERS, ("float64", "float32"), "cpu", 0, STEPS)
    return {(task.name, task.workload.optimiser.kind, task.workload.dtype): task for task in made}


@functools.cache
def expected_of(name: str, optimiser: str, dtype: str) -> ExpectedTraining:
    return ExpectedTraining(tasks()[name, optimiser, dtype], 0)


@every_framework
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_training_stays_within_what_rounding_explains(
    worker: Worker, contender: Contender, name: str, optimiser: str, dtype: str
) -> None:
    task, expected = tasks()[name, optimiser, dtype], expected_of(name, optimiser, dtype)
    free = contextlib.nullcontext()
    run = judge_training(lambda: worker, contender, task, 0, lambda: expected, free, free, again="again")
    assert (run.outcome, run.reason, run.again) == ("ok", "", "again")
    assert len(run.losses) == len(run.noise) == STEPS
    assert run.noise_units is not None
    assert run.loss_error is not None
    assert dtype == "float32" or run.loss_error < 1e-8
    assert run.workload["dtype"] == dtype
    assert run.workload["optimiser"]["kind"] == optimiser
