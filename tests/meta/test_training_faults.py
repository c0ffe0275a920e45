"""Faults that only show in a long training: the check of agreement passes them, training on real data does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faceoff.agreement.training import ExpectedTraining
from faceoff.workloads.trainings import TrainingTask, make_long_tasks
from tests.meta.faults.fault import Fault, in_optimiser, in_runtime
from tests.meta.faults.runner import SEED, Runner, is_installed

pytestmark = pytest.mark.thorough

STEPS = 20
FALLS_AT = 10

FAULTS = (
    Fault(
        "the learning rate falls by 1 % after ten steps",
        "jax:jit",
        "dense-relu",
        in_optimiser(
            "return optax.sgd(optimiser.learning_rate, momentum",
            "return optax.sgd(lambda step: optimiser.learning_rate * jax.numpy.where(step < 10, 1.0, 0.99), momentum",
        ),
        "",
    ),
    Fault(
        "the learning rate falls by 1 % every ten steps",
        "pytorch:eager",
        "dense-relu",
        in_runtime(
            "        self._optimiser.step()\n",
            "        self._optimiser.step()\n"
            "        self._optimiser.steps = getattr(self._optimiser, 'steps', 0) + 1\n"
            "        for group in self._optimiser.param_groups:\n"
            "            fall = 0.99 ** (self._optimiser.steps // 10)\n"
            "            group['lr'] = self._workload.optimiser.learning_rate * fall\n",
        ),
        "",
    ),
)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    started = Runner(tmp_path_factory.mktemp("faults"))
    yield started
    started.close()


@pytest.fixture(scope="module", params=["float64", "float32"])
def training(request: pytest.FixtureRequest) -> tuple[TrainingTask, ExpectedTraining]:
    """The dense model on digits with SGD."""
    (task,) = make_long_tasks(["dense"], ["sgd"], [request.param], "cpu", SEED, STEPS)
    return task, ExpectedTraining(task, SEED)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_fault_that_begins_late_is_found_by_training_alone(
    runner: Runner, training: tuple[TrainingTask, ExpectedTraining], fault: Fault
) -> None:
    if not is_installed(fault.contender.partition(":")[0]):
        pytest.skip("not installed")
    task, expected = training
    unharmed = runner.train(fault.contender, task, expected)
    assert (unharmed.outcome, unharmed.reason) == ("ok", "")
    assert runner.check(fault.contender, fault.model, "sgd", "float64", "everyday", fault).outcome == "ok"
    run = runner.train(fault.contender, task, expected, fault)
    assert run.outcome == "disagrees"
    assert "noise units off" in run.reason
    before = FALLS_AT + 1
    assert run.losses[:before] == pytest.approx(unharmed.losses[:before], rel=1e-6)
