"""Every situation is what its name says, in every family, and stays exact in float32."""

import numpy as np
import pytest

from faceoff.core.spec import DenseSpec, LstmSpec, Optimiser, ResidualSpec, RnnSpec, Workload
from faceoff.reference import ReferenceModel
from faceoff.reference.arithmetic import Exact
from faceoff.workloads.presets import PRESETS
from faceoff.workloads.situations import EVERYDAY, SITUATIONS, SMALL_RATE
from faceoff.workloads.task import Task

SMALL = {sized.model.kind: Workload(sized.model, sized.batch_size) for sized in PRESETS["small"].sized}
RELU_RNN = Workload(RnnSpec(5, 8, 4, 6, many_to_many=True, activation="relu"), 6)
RELU_DENSE = Workload(DenseSpec((12, 16, 8, 5)), 6)
CASES = [
    (name, kind)
    for name, situation in SITUATIONS.items()
    for kind, workload in SMALL.items()
    if situation.applies(workload.model)
]


def model_of(task):
    return ReferenceModel(task.workload.model, task.weights, task.workload.optimiser, Exact())


def task_of(name, workload, seed=3):
    return SITUATIONS[name].task(workload, seed)


@pytest.mark.parametrize(("name", "kind"), CASES, ids=lambda value: value)
def test_every_value_is_exact_in_float32_and_finite_through_training(name, kind):
    task = task_of(name, SMALL[kind])
    for values in (task.weights, *(batch.inputs for batch in task.batches)):
        assert all(np.array_equal(value, value.astype(np.float32)) for value in values.values())
    model = model_of(task)
    assert np.isfinite([model.step(batch).loss for batch in task.batches]).all()


@pytest.mark.parametrize(("name", "kind"), CASES, ids=lambda value: value)
def test_a_situation_depends_on_its_seed_alone_and_differs_from_everyday(name, kind):
    one, again, other = (task_of(name, SMALL[kind], seed) for seed in (3, 3, 4))
    assert all(np.array_equal(value, again.weights[key]) for key, value in one.weights.items())
    assert all(np.array_equal(value, again.batches[1].inputs[key]) for key, value in one.batches[1].inputs.items())
    assert any(not np.array_equal(value, other.weights[key]) for key, value in one.weights.items())
    everyday = Task.seeded(SMALL[kind], 3)
    same = all(np.array_equal(value, everyday.weights[key]) for key, value in one.weights.items()) and all(
        np.array_equal(value, everyday.batches[0].inputs[key]) for key, value in one.batches[0].inputs.items()
    )
    assert same == (name == EVERYDAY)


@pytest.mark.parametrize("kind", SMALL)
def test_large_reaches_what_everyday_does_not(kind):
    task, everyday = task_of("large", SMALL[kind]), Task.seeded(SMALL[kind], 3)
    logits, usual = (np.abs(model_of(t).forward(t.batches[0])).max() for t in (task, everyday))
    assert logits > 50 > usual
    gradients = model_of(task).gradients(task.batches[0])["weights"].values()
    assert np.sqrt(sum(np.sum(g**2) for g in gradients)) > 5
    assert task.workload.optimiser.learning_rate == SMALL_RATE


def test_large_keeps_a_rate_that_is_smaller_still():
    slow = SMALL["lstm"].replace(optimiser=Optimiser("adam", learning_rate=1e-6))
    assert task_of("large", slow).workload.optimiser == slow.optimiser


@pytest.mark.parametrize("kind", SMALL)
def test_equal_logits_are_equal_too_large_for_an_exponential_and_vary_at_half_of_the_seeds(kind):
    ranges, vary = [], []
    for seed in range(8):
        task = task_of("equal-logits", SMALL[kind], seed)
        logits = model_of(task).forward(task.batches[0])
        ranges.append(np.ptp(logits, axis=-1).max())
        vary.append(np.ptp(logits) > 0)
        assert logits.min() > np.log(np.finfo(np.float32).max)
    assert max(ranges) < 1e-12
    assert set(vary) == {True, False}


def test_saturated_gates_are_open_or_shut_and_cells_outgrow_a_clip_of_three():
    spec = LstmSpec(5, 8, 4, 30)
    task = task_of("saturated", Workload(spec, 6))
    weights, x = task.weights, task.batches[0].inputs
    first = x["x"][:, 0] @ weights["layer.0.weight_ih"].T + x["h0"][0] @ weights["layer.0.weight_hh"].T
    gates = np.delete((first + weights["layer.0.bias"]).reshape(6, 4, 8), 2, axis=1)
    assert np.abs(gates).min() > 8
    assert (gates > 0).any()
    assert (gates < 0).any()


def test_saturated_tanh_is_one_in_float32():
    task = task_of("saturated", SMALL["dense"])
    hidden = model_of(task).trace(task.batches[0], training=False)["layer.0"]
    assert np.mean(np.abs(hidden).astype(np.float32) == 1) > 0.5


@pytest.mark.parametrize("kind", SMALL)
def test_zero_and_constant_inputs(kind):
    assert all((value == 0).all() for value in task_of("zero", SMALL[kind]).batches[2].inputs.values())
    x = task_of("constant", SMALL[kind]).batches[0].inputs["x"]
    # Along features or time steps, or over all pixels.
    axes = (1, 2) if kind == "residual" else 1
    assert np.ptp(x, axis=axes).max() == 0
    assert np.ptp(x, axis=0).min() > 0


@pytest.mark.parametrize("kind", SMALL)
def test_padded_examples_each_have_their_own_length(kind):
    x = task_of("padded", SMALL[kind]).batches[0].inputs["x"]
    filled = (x != 0).reshape(len(x), -1).sum(axis=1)
    assert filled.min() > 0 or kind == "residual"
    assert len(set(filled)) > 1
    # A sequence's end is empty, not its beginning.
    assert (x[:, -1] == 0).any()
    assert kind == "residual" or (x[:, 0] != 0).all()


def test_one_example_is_a_batch_of_one():
    task = task_of("one-example", SMALL["lstm"])
    assert task.workload.batch_size == len(task.batches[0].targets) == 1


@pytest.mark.parametrize("workload", [RELU_DENSE, RELU_RNN, SMALL["residual"]], ids=["dense", "rnn", "residual"])
def test_relus_get_exactly_zero(workload):
    task = task_of("at-zero", workload)
    assert SITUATIONS["at-zero"].applies(workload.model)
    trace = model_of(task).trace(task.batches[0], training=False)
    first = next(iter(trace.values()))
    assert (first[::2] == 0).all()
    assert (first[1::2] != 0).any()


def test_situations_without_meaning_do_not_apply():
    assert not SITUATIONS["at-zero"].applies(DenseSpec((3, 4)))
    assert not SITUATIONS["at-zero"].applies(SMALL["lstm"].model)
    assert not SITUATIONS["saturated"].applies(ResidualSpec(4, 4, 1, (2,), 1))
    assert not SITUATIONS["saturated"].applies(RELU_RNN.model)
