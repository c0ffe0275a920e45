"""What a timed batch has to give follows from the few examples that were compared, and nothing less passes."""

import functools

import numpy as np
import pytest

from faceoff.agreement import timed_check
from faceoff.agreement.check import Expected
from faceoff.agreement.noise import NOISE_RUNS
from faceoff.agreement.quantities import OUTPUTS, RESET_STEP, named_gradients, reference_quantities
from faceoff.agreement.timed_check import (
    LAST_LOSS,
    LOSSES,
    MOST_COPIES,
    TRAINED,
    TimedExpected,
    choose_rows,
    examples_compared,
    is_judged_whole,
)
from faceoff.core.own import Input, Port, Targets
from faceoff.core.spec import DenseSpec, LstmSpec, Optimiser, Workload
from faceoff.core.weights import round_to
from faceoff.reference import ReferenceModel
from faceoff.reference.arithmetic import Exact, noise_generator
from faceoff.reference.rounding import Rounded
from faceoff.workloads.presets import PRESETS
from faceoff.workloads.task import Task

MODELS = {sized.model.kind: sized.model for sized in PRESETS["small"].sized}
STEPS = ("inference", "gradients", "training")
EXAMPLES = 8


@functools.cache
def part(kind, optimiser, examples):
    """The reference's side of a model of the small preset."""
    workload = Workload(MODELS[kind], examples, step="training", optimiser=Optimiser(optimiser))
    return Expected(Task.seeded(workload, 3), 3, keep=False)


def timed(kind="dense", size=16, dtype="float32", optimiser="sgd"):
    """What is expected at this batch size, of which a few examples were compared."""
    known = part(kind, optimiser, min(size, EXAMPLES))
    return TimedExpected(known.task.workload.replace(batch_size=size, dtype=dtype), known, 3)


def returned(expected, step, dtype="float64", batches=None, arithmetic=None):
    """What the reference, or what rounds as a contender in `dtype` may, returns of these batches or of those timed."""
    task = expected.task.rounded(dtype)
    task = Task(task.workload.replace(batch_size=len(batches[0].targets)), task.weights, batches) if batches else task
    if step == "training":
        values = reference_quantities(task, arithmetic or Exact())
        found = {name: value for name, value in values.items() if name == LOSSES or name.endswith(TRAINED)}
        found = {LAST_LOSS: np.array(1.0), **found, **{n: values[n] for n in ("loss", RESET_STEP)}}
    else:
        model = ReferenceModel(task.workload.model, task.weights, task.workload.optimiser, arithmetic or Exact())
        batch = task.batches[0]
        found = named_gradients(model.gradients(batch)) if step == "gradients" else {OUTPUTS: model.forward(batch)}
    return {name: round_to(value, dtype) for name, value in found.items()}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("size", [3, 8, 24, 29])
@pytest.mark.parametrize("kind", MODELS)
def test_the_whole_follows_from_the_few(kind, size, step):
    expected = timed(kind, size, "float64", "adam")
    assert len(expected.task.batches[0].targets) == size
    assert expected.problem(step, returned(expected, step), "float64") == ""


@pytest.mark.parametrize("step", STEPS[:2])
@pytest.mark.parametrize("size", [24, 29])
def test_of_a_new_batch_too(size, step):
    expected = timed("lstm", size)
    new = [expected.new_batch(0)]
    assert expected.problem(step, returned(expected, step, "float32", new), "float32", new=True) == ""
    assert "outputs" in expected.problem("inference", returned(expected, "inference", "float32"), "float32", new=True)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["dense", "lstm"])
def test_rounding_of_a_large_batch_is_no_fault_in_any_dtype_and_a_smaller_batch_is_one(kind, dtype):
    expected = timed(kind, 256, dtype)
    half = [batch.pick(np.arange(128)) for batch in expected.task.rounded(dtype).batches]
    for step in STEPS:
        right = returned(expected, step, dtype, arithmetic=Rounded(dtype, noise_generator(NOISE_RUNS + 1)))
        assert expected.problem(step, right, dtype) == ""
    # A step of plain SGD is less than what 16 bits of a weight hold.
    for step in STEPS[1:] if "float16" not in dtype else ["gradients"]:
        assert expected.problem(step, returned(expected, step, dtype, half), dtype) != ""


@pytest.mark.parametrize("rows", [slice(8), slice(8, None), slice(None, None, 2), slice(15), slice(1, None)])
@pytest.mark.parametrize("kind", MODELS)
def test_no_part_of_a_batch_stands_for_the_whole(kind, rows):
    expected = timed(kind)
    part = [batch.pick(np.arange(16)[rows]) for batch in expected.task.batches]
    found = expected.problem("training", returned(expected, "training", "float32", part), "float32")
    assert "timed again from the starting weights: " in found
    # The gradients by inputs would tell at once; without them the loss or those by weights do.
    got = returned(expected, "gradients", "float32")
    of_part = returned(expected, "gradients", "float32", part)
    got |= {name: value for name, value in of_part.items() if "input" not in name}
    assert expected.problem("gradients", got, "float32").startswith(
        ("loss of ", "gradient of 'head", "gradient of 'la")
    )


@pytest.mark.parametrize("index", [0, -1])
def test_a_wrong_value_at_either_end_of_a_large_batch_is_found(index):
    expected = timed("dense", EXAMPLES * (MOST_COPIES + 3))
    for step, name in (("inference", OUTPUTS), ("gradients", "gradient of input 'x'")):
        wrong = returned(expected, step, "float32")
        wrong[name][index, 1] += 1
        found = expected.problem(step, wrong, "float32")
        assert found.startswith(f"{name} of the last timed call: ")
        assert "noise units off" in found


def test_states_are_compared_example_by_example_too():
    expected = timed("lstm")
    wrong = returned(expected, "gradients", "float32")
    wrong["gradient of input 'c0'"][1, -1] *= 2
    assert expected.problem("gradients", wrong, "float32").startswith("gradient of input 'c0' of the last timed call")


def test_examples_in_another_order_are_found():
    expected = timed()
    got = returned(expected, "inference", "float32")
    assert "noise units off" in expected.problem("inference", {OUTPUTS: got[OUTPUTS][::-1].copy()}, "float32")


@pytest.mark.parametrize(
    "cut", [lambda value: value[:8], lambda value: value[0, 0], lambda value: value[:, :2]], ids=range(3)
)
def test_a_wrong_shape_is_found(cut):
    expected = timed()
    got = {OUTPUTS: np.asarray(cut(returned(expected, "inference", "float32")[OUTPUTS]))}
    assert "wrong shape" in expected.problem("inference", got, "float32")


def test_no_value_of_a_large_batch_may_be_anything_but_a_number():
    expected = timed("dense", EXAMPLES * (MOST_COPIES + 3))
    got = returned(expected, "inference", "float32")
    got[OUTPUTS][70, 2] = np.nan
    assert expected.problem("inference", got, "float32") == "outputs of the last timed call: not finite"
    got = returned(expected, "training", "float32") | {LAST_LOSS: np.array(np.inf)}
    assert expected.problem("training", got, "float32") == "loss of the last timed call: not finite"


def test_who_forgets_a_quantity_is_told_of_it():
    expected = timed()
    got = returned(expected, "gradients", "float32")
    del got["gradient of 'layer.2.bias'"]
    assert "gradient of 'layer.2.bias' of the last timed call: missing" in expected.problem("gradients", got, "float32")


def test_of_a_batch_too_large_for_caches_one_step_is_judged(monkeypatch):
    assert len(timed().task.batches) == 3
    monkeypatch.setattr("faceoff.pool.memory.LARGE_BATCH_BYTES", 0)
    expected = timed()
    assert len(expected.task.batches) == 1
    got = returned(expected, "training", "float32")
    assert expected.problem("training", got, "float32") == ""
    stale = got | {RESET_STEP: np.concatenate([w.reshape(-1) for _, w in sorted(expected.task.weights.items())])}
    stale[RESET_STEP] = stale[RESET_STEP].astype("float32")
    assert RESET_STEP in expected.problem("training", stale, "float32")


@pytest.mark.parametrize("kind", ["dense", "residual"])
def test_what_nothing_divides_and_the_reference_does_not_compute_is_judged_example_by_example(kind, monkeypatch):
    monkeypatch.setattr(timed_check, "MOST_FLOPS_OF_A_WHOLE", 0)
    expected = timed(kind, 29)
    for step in STEPS:
        assert expected.problem(step, returned(expected, step, "float32"), "float32") == ""
    wrong = returned(expected, "inference", "float32")
    wrong[OUTPUTS][20] += 1
    assert "outputs" in expected.problem("inference", wrong, "float32")
    wrong = returned(expected, "gradients", "float32")
    wrong["gradient of input 'x'"][20] = 0
    # With batch norm every example's gradient depends on how often others stand there.
    assert bool(expected.problem("gradients", wrong, "float32")) is (kind == "dense")


@pytest.mark.parametrize(("examples", "size"), [(64, 64), (64, 128), (50, 1000), (64, 131), (4, 9)])
def test_every_example_comes_as_often_as_any_other_or_once_more(examples, size):
    rows = choose_rows(examples, size, 0)
    counts = np.bincount(rows, minlength=examples)
    assert set(counts) <= {size // examples, -(-size // examples)}
    assert np.array_equal(rows, choose_rows(examples, size, 0))
    if size > 100:
        halves = [np.bincount(half, minlength=examples) for half in np.array_split(rows, 2)]
        assert np.abs(halves[0] - halves[1]).mean() > 0.4 * size / examples


@pytest.mark.parametrize(
    ("size", "examples"),
    [(1, 1), (64, 64), (65, 64), (96, 48), (100, 50), (128, 64), (131, 64), (7000, 56), (4096, 64)],
)
def test_as_many_are_compared_as_divide_the_batch_where_that_is_not_much_fewer(size, examples):
    workload = Workload(DenseSpec((8, 4)), size)
    assert examples_compared(workload) == examples
    assert is_judged_whole(workload, examples)


@pytest.mark.parametrize(("size", "examples", "whole"), [(32, 8, True), (33, 9, False), (45, 9, True), (46, 9, False)])
def test_a_large_model_is_compared_on_what_divides_its_batch_and_a_batch_that_nothing_divides_is_told(
    size, examples, whole
):
    workload = Workload(LstmSpec(1024, 1024, 10, 25), size)
    assert examples_compared(workload) == examples
    assert is_judged_whole(workload, examples) is whole


@pytest.mark.parametrize(
    ("flops", "size", "examples", "whole"),
    [({}, 64, 64, True), ({}, 1024, 64, True), ({}, 1025, 64, False), ({"inference": 10**8}, 8, 8, True),
     ({"inference": 10**8}, 80, 10, True), ({"inference": 10**8}, 81, 10, False), ({"inference": 10**9}, 4, 4, True)],
)  # fmt: skip
def test_a_users_own_model_is_compared_on_as_many_as_its_operations_allow(flops, size, examples, whole):
    port = Port("mine", (Input("x", (3,)),), Targets((3,)), "squared-error", -1, {"w": (3,)}, {}, "a", flops=flops)
    workload = Workload(port.spec, size)
    assert examples_compared(workload) == examples
    assert is_judged_whole(workload, examples) is whole
