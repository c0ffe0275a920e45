"""One suite for every framework in every mode: what the interface promises, through a real worker."""

import json

import numpy as np
import pytest

from faceoff.agreement.quantities import named_gradients
from faceoff.core.errors import WorkerError
from faceoff.core.spec import OPTIMISERS, Contender, Optimiser, Workload
from faceoff.core.weights import seeded_weights, trace_names, trainable_names
from faceoff.frameworks.contenders import all_contenders
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.worker import Worker
from faceoff.workloads.presets import PRESETS
from faceoff.workloads.task import Task

SGD = Optimiser()
# Process id to what was built in it last.
HELD: dict[int, tuple[dict, str]] = {}


# With the scope of the module, pytest puts the tests of one contender and model together, so that they share a model.
@pytest.fixture(scope="module", params=all_contenders(), ids=str)
def contender(request: pytest.FixtureRequest) -> Contender:
    return request.param


@pytest.fixture(scope="module", params=PRESETS["small"].sized, ids=lambda sized: sized.model.kind)
def sized(request: pytest.FixtureRequest):
    return request.param


def build(
    worker: Worker,
    contender: Contender,
    sized,
    dtype: str = "float32",
    seed: int = 0,
    optimiser: Optimiser = SGD,
    fresh: bool = True,
):
    """Builds the model in the worker; returns its weights and its task.

    Without `fresh`, a model like it that the worker holds is reset instead, so that nothing is compiled twice.
    """
    task = Task.seeded(Workload(sized.model, sized.batch_size, optimiser=optimiser), seed)
    weights, batches = task.cast(dtype)
    workload = task.workload.replace(dtype=dtype).to_json()
    same = (workload, contender.mode)
    if not fresh and HELD.get(worker.process_id) == same:
        worker.request("reset", weights=weights)
    else:
        HELD.pop(worker.process_id, None)
        worker.request("build", workload=workload, mode=contender.mode, weights=weights)
        HELD[worker.process_id] = same
    worker.request("load", batches=[batch.to_json() for batch in batches])
    return weights, task


def assert_same(first, second):
    assert set(first) == set(second)
    for name, value in first.items():
        assert second[name].dtype == value.dtype, name
        np.testing.assert_array_equal(second[name], value, err_msg=name)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_weights_survive_the_round_trip_exactly(worker, contender, sized, dtype):
    weights, _ = build(worker, contender, sized, dtype)
    assert_same(weights, worker.request("weights"))


def test_gradients_change_no_weight_and_no_running_statistic(worker, contender, sized):
    weights, _ = build(worker, contender, sized, fresh=False)
    first = worker.request("gradients", index=0)
    assert set(first["weights"]) == set(trainable_names(sized.model))
    assert_same(weights, worker.request("weights"))


def test_no_call_writes_into_what_another_one_returned(worker, contender, sized):
    build(worker, contender, sized, fresh=False)
    (alone,) = worker.request("forward", indices=[0])["outputs"]
    np.testing.assert_array_equal(worker.request("forward", indices=[1, 0, 1])["outputs"][1], alone)
    alone = named_gradients(worker.request("gradients", index=0))
    between = named_gradients(worker.request("gradients", index=0, before=1, after=1))
    for name, value in alone.items():
        np.testing.assert_allclose(between[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("step", ["inference", "gradients"])
def test_a_call_on_a_new_batch_is_timed_beside_one_on_a_known_one_and_leaves_its_value(worker, contender, sized, step):
    weights, task = build(worker, contender, sized, fresh=False)
    new = task.batches[0].pick(np.arange(sized.batch_size)[::-1]).astype("float32").to_json()
    known = worker.request("forward", indices=[0])["outputs"][0]
    for other in ({}, {"weights": weights, "other": {name: value / 2 for name, value in weights.items()}}):
        for new_first in (False, True):
            found = worker.request("time_new", step=step, batch=new, seen=1, new_first=new_first, warmup=2, **other)
            assert min(found["seen_ns"], found["new_ns"]) > 0
            if step == "inference":
                value = worker.request("last_value", step=step)["value"]
                np.testing.assert_allclose(value, known[::-1], rtol=1e-4, atol=1e-5)
    assert_same(weights, worker.request("weights"))


def test_training_moves_every_weight_and_forward_uses_them_at_once(worker, contender, sized):
    weights, _ = build(worker, contender, sized, fresh=False)
    before = worker.request("forward", indices=[0])["outputs"][0]
    losses = worker.request("train", indices=[0, 0, 0])["losses"]
    after = worker.request("forward", indices=[0])["outputs"][0]
    moved = worker.request("weights")
    assert losses[2] < losses[0]
    assert not np.array_equal(before, after)
    assert all(not np.array_equal(moved[name], weights[name]) for name in weights)


def test_reset_brings_back_weights_outputs_and_a_fresh_optimiser(worker, contender, sized):
    weights, task = build(worker, contender, sized, fresh=False)
    losses = worker.request("train", indices=[0, 1, 2])["losses"]
    trained = worker.request("weights")
    worker.request("reset", weights=weights)
    assert_same(weights, worker.request("weights"))
    again = worker.request("train", indices=[0, 1, 2])["losses"]
    np.testing.assert_allclose(again, losses, rtol=1e-6)
    for name, value in worker.request("weights").items():
        np.testing.assert_allclose(value, trained[name], rtol=1e-4, atol=1e-5, err_msg=name)
    other = {name: value.astype("float32") for name, value in seeded_weights(sized.model, 9).items()}
    worker.request("reset", weights=other)
    assert_same(other, worker.request("weights"))
    assert task.workload.model == sized.model


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_the_trace_has_all_names_in_order_and_changes_nothing(worker, contender, sized, training):
    weights, _ = build(worker, contender, sized, fresh=False)
    values = worker.request("trace", index=0, training=training)["values"]
    assert [name for name, _ in values] == list(trace_names(sized.model))
    assert all(value.dtype == np.float32 and np.isfinite(value).all() for _, value in values)
    fine = worker.request("trace", index=0, training=training, fine=True)["values"]
    assert [name for name, _ in fine] == list(trace_names(sized.model, fine=True))
    assert_same(weights, worker.request("weights"))
    if not training:
        outputs = worker.request("forward", indices=[0])["outputs"][0]
        np.testing.assert_allclose(values[-1][1], outputs, rtol=1e-4, atol=1e-5)


def test_the_same_call_gives_the_same_value_and_another_batch_another(worker, contender, sized):
    build(worker, contender, sized, fresh=False)
    first, again, other = worker.request("forward", indices=[0, 0, 1])["outputs"]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("step", ["inference", "gradients", "training"])
def test_a_timed_round_takes_time_and_leaves_its_value(worker, contender, sized, step):
    build(worker, contender, sized, fresh=False)
    # The shortest of several: on a busy machine a single call may be held up for longer than forty take.
    rounds = [worker.request("time", step=step, warmup=2, iterations=1, start=0) for _ in range(10)]
    many = worker.request("time", step=step, warmup=0, iterations=40, start=1)
    assert 0 < min(one["duration_ns"] for one in rounds) < many["duration_ns"]
    assert many["last_batch"] == (1 + 40 - 1) % 3
    value = worker.request("last_value", step=step)
    assert all(
        np.isfinite(v).all() for v in (named_gradients(value).values() if step == "gradients" else value.values())
    )


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_the_optimiser_state_is_zero_then_made_of_the_gradient_then_zero_after_a_reset(worker, contender, sized, kind):
    rule = Optimiser(kind)
    weights, _ = build(worker, contender, sized, "float64", optimiser=rule)
    before = worker.request("optimiser_state")
    assert tuple(before) == rule.state_names
    for arrays in before.values():
        assert set(arrays) == set(trainable_names(sized.model))
        assert all(value.dtype == np.float64 and not value.any() for value in arrays.values())
    if not rule.state_names:
        return
    gradients = worker.request("gradients", index=0)["weights"]
    worker.request("train", indices=[0])
    made = {
        "momentum": lambda g: g,
        "first moment": lambda g: (1 - rule.beta1) * g,
        "second moment": lambda g: (1 - rule.beta2) * g**2,
    }
    for state, arrays in worker.request("optimiser_state").items():
        for name, value in arrays.items():
            scale = np.abs(made[state](gradients[name])).max()
            np.testing.assert_allclose(value, made[state](gradients[name]), atol=1e-12 * scale, err_msg=name)
    worker.request("reset", weights=weights)
    assert not any(value.any() for arrays in worker.request("optimiser_state").values() for value in arrays.values())


def test_it_offers_the_modes_that_the_harness_lists(worker, contender):
    assert set(worker.start_reply["modes"]) == set(FRAMEWORKS[contender.framework].modes_on("cpu"))


def test_it_says_what_is_in_force(worker, contender):
    settings = worker.start_reply["settings"]
    assert json.loads(json.dumps(settings)) == settings
    text = json.dumps(settings)
    assert FRAMEWORKS[contender.framework].module in text
    assert "thread" in text
    build(worker, contender, PRESETS["small"].sized[3])
    assert worker.request("describe")["ledger"]


def test_memory_is_whole_bytes_above_zero(worker):
    memory = worker.request("memory")
    assert memory["host_in_use_bytes"] > 2**20
    assert memory["host_peak_bytes"] >= memory["host_in_use_bytes"] * 0.5
    assert all(isinstance(value, int) for value in memory.values())


def test_it_loads_no_other_framework(worker, contender):
    """Read from the process itself: which shared libraries the kernel has mapped into it."""
    from pathlib import Path

    mapped = Path(f"/proc/{worker.process_id}/maps").read_text()
    markers = {"pytorch": "libtorch_cpu", "tensorflow": "libtensorflow", "jax": "jaxlib/"}
    assert markers[contender.framework] in mapped
    for framework, marker in markers.items():
        if framework != contender.framework:
            assert marker not in mapped


def test_an_unknown_mode_is_an_error_and_not_another_mode(worker, contender):
    with pytest.raises(WorkerError, match="mode"):
        build(worker, Contender(contender.framework, "no-such-mode"), PRESETS["small"].sized[0])
