"""What the last timed call returned: of a large batch some examples are compared, and no value may be anything else."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from harness.agreement import Expected
from harness.comparison import MOST_OUTPUTS, compared_rows
from harness.core.spec import Contender, DenseSpec, Workload
from harness.pool import Seat
from harness.reference import ReferenceModel
from harness.rounds import Rounds
from harness.task import Task
from harness.timing import Timing

SIZE = 3 * MOST_OUTPUTS + 7
LARGE = Workload(DenseSpec((4, 3)), SIZE, step="inference")
TASK = Task.seeded(LARGE, 0, batches=1)
FEWER = Expected(Task.seeded(LARGE.replace(batch_size=8), 0), 0, keep=False)
EXPECTED = Expected(TASK, 0, noise_from=FEWER)
OUTPUTS = ReferenceModel(LARGE.model, TASK.weights).forward(TASK.batches[0]).astype("float32")


def problem(value, step="inference"):
    """What is said of a process that returned `value`."""

    @contextmanager
    def awake(seat):
        yield SimpleNamespace(request=lambda kind, step: {"value": value})

    timing = object.__new__(Timing)
    timing._pool = SimpleNamespace(quiet=nullcontext, awake=awake)
    return timing._find_problem(Seat(Contender("jax", "jit")), LARGE.replace(step=step), Rounds(1, 1, 1.0), EXPECTED)


@pytest.mark.parametrize("size", [1, 2, 64, MOST_OUTPUTS, MOST_OUTPUTS + 1, SIZE, 2**17])
def test_so_many_examples_are_compared_spread_from_the_first_to_the_last(size):
    rows = compared_rows(size)
    assert len(rows) == min(size, MOST_OUTPUTS)
    assert (rows[0], rows[-1]) == (0, size - 1)
    assert set(np.diff(rows)) <= {size // MOST_OUTPUTS, size // MOST_OUTPUTS + 1}


def test_the_reference_computes_those_examples_alone():
    np.testing.assert_allclose(EXPECTED.forward(0, "float32"), OUTPUTS[compared_rows(SIZE)], rtol=1e-5)
    assert problem(OUTPUTS) == ""


@pytest.mark.parametrize("index", [0, SIZE - 1])
def test_a_wrong_value_at_either_end_of_a_large_batch_is_found(index):
    wrong = OUTPUTS.copy()
    wrong[index, 1] += 1
    assert "outputs of the last timed call: " in problem(wrong)
    assert "noise units off" in problem(wrong)


def test_examples_in_another_order_are_found():
    assert "noise units off" in problem(OUTPUTS[::-1])


def test_no_value_of_a_large_batch_may_be_anything_but_a_number():
    wrong = OUTPUTS.copy()
    between = next(row for row in range(SIZE) if row not in compared_rows(SIZE))
    wrong[between, 2] = np.nan
    assert problem(wrong) == "outputs of the last timed call: not finite"
    assert problem(np.array(np.inf), "training") == "loss of the last timed call: not finite"
    assert problem(np.array(2.0), "training") == ""


@pytest.mark.parametrize("wrong", [OUTPUTS[compared_rows(SIZE)], np.float32(1.0), OUTPUTS[:, :2]])
def test_a_wrong_shape_is_found(wrong):
    assert "wrong shape" in problem(np.asarray(wrong))
