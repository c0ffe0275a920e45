"""ReLUs that rounding alone decides: told from faults, one by one where they are few."""

import numpy as np
import pytest

from faceoff.agreement.check import Expected
from faceoff.agreement.flips import Flips, Settled, _equal
from faceoff.agreement.noise import Values
from faceoff.agreement.quantities import reference_quantities, stage_of
from faceoff.core.spec import DenseSpec, ResidualSpec, RnnSpec, Workload
from faceoff.core.weights import Batch
from faceoff.reference.arithmetic import Exact, noise_generator
from faceoff.reference.branches import Branches, NearZero
from faceoff.reference.following import Observed
from faceoff.reference.rounding import Rounded
from faceoff.workloads.task import Task

SPECS = {"dense": DenseSpec((6, 9, 7, 4)), "residual": ResidualSpec(6, 6, 2, (3, 4), 1, 5)}


def task_near_zero(kind: str) -> tuple[Task, tuple[int, int]]:
    """A task in which the input of one ReLU of the first training step is nearly zero, and where that is."""
    task = Task.seeded(Workload(SPECS[kind], 4), 3)
    near = NearZero(1.0)
    reference_quantities(task, Observed(near))
    call = next(number for number in near.near if near.part_of(number) == "training step 1")
    position = int(near.near[call][np.argmin(np.abs(near.seen[call]))])
    return task, (call, position)


def moved(task: Task, place: tuple[int, int]) -> Task:
    """The same with the bias before this ReLU moved, so that its input is zero but for a rounding."""
    call, position = place
    name = "layer.0.bias" if task.workload.model.kind == "dense" else "stem.norm.bias"
    weights = dict(task.weights)
    channel = position % len(weights[name])
    for _ in range(3):
        watched = Branches(watched={call: np.array([position])})
        reference_quantities(Task(task.workload, weights, task.batches), Observed(watched))
        change = np.zeros_like(weights[name])
        change[channel] = watched.seen[call][0] - 1e-9
        weights[name] = (weights[name] - change).astype(np.float32).astype(np.float64)
    return Task(task.workload, weights, task.batches)


def in_float32(task: Task, branches: Branches, seed: int = 99) -> Values:
    """What a right implementation in float32 may return whose ReLUs go these ways."""
    values = reference_quantities(task, Rounded("float32", noise_generator(seed), branches=branches))
    return {name: value.astype(np.float32) for name, value in values.items()}


@pytest.mark.parametrize("kind", SPECS)
def test_an_observed_run_computes_what_an_exact_one_does(kind):
    task = Task.seeded(Workload(SPECS[kind], 4), 3)
    exact, observed = (reference_quantities(task, arithmetic) for arithmetic in (Exact(), Observed()))
    for name, value in exact.items():
        np.testing.assert_array_equal(observed[name], value)


@pytest.mark.parametrize("kind", SPECS)
def test_a_run_takes_the_sides_that_it_is_given(kind):
    task = Task.seeded(Workload(SPECS[kind], 4), 3)
    seen = Observed()
    reference_quantities(task, seen)
    rough = Rounded("bfloat16", noise_generator(1), 8.0, Branches(seen.branches.taken))
    own = Rounded("bfloat16", noise_generator(1), 8.0)
    reference_quantities(task, own)
    assert any((a != b).any() for a, b in zip(own.branches.taken, seen.branches.taken, strict=True)), "nothing to hold"
    held = reference_quantities(task, rough)
    assert all(np.isfinite(value).all() for value in held.values())


@pytest.mark.parametrize("kind", SPECS)
def test_a_relu_that_rounding_turned_over_is_no_fault(kind):
    task, place = task_near_zero(kind)
    task = moved(task, place)
    turned = Branches(turned={place[0]: [place[1]]})
    got = in_float32(task, turned)
    expected = Expected(task, 0, keep=False)
    quantities, note = expected.judge(got, "float32")
    assert all(quantity.agrees for quantity in quantities)
    assert note.startswith("agrees up to 1 ReLU")
    right, note = expected.judge(in_float32(task, Branches()), "float32")
    assert all(quantity.agrees for quantity in right)
    assert note == ""


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_relu_that_no_rounding_reaches_is_a_fault_when_it_goes_the_other_way(kind, dtype):
    task, (call, _) = task_near_zero(kind)
    near = NearZero(1.0)
    reference_quantities(task, Observed(near))
    far = int(near.near[call][np.argmax(np.abs(near.seen[call]))])
    values = reference_quantities(task, Rounded(dtype, noise_generator(9), branches=Branches(turned={call: [far]})))
    got = {name: value.astype(dtype) for name, value in values.items()}
    quantities, note = Expected(task, 0, keep=False).judge(got, dtype)
    assert not all(quantity.agrees for quantity in quantities)
    assert note == ""


@pytest.mark.parametrize("kind", SPECS)
def test_a_fault_beside_a_turned_relu_is_still_found(kind):
    task, place = task_near_zero(kind)
    task = moved(task, place)
    got = in_float32(task, Branches(turned={place[0]: [place[1]]}))
    name = next(
        name for name in got if name.startswith("gradient of 'head" if kind == "residual" else "gradient of 'layer.2")
    )
    got[name] = got[name] * np.float32(1.0001)
    quantities, note = Expected(task, 0, keep=False).judge(got, "float32")
    assert [quantity.name for quantity in quantities if not quantity.agrees and quantity.name == name]
    assert note == ""


def test_only_what_follows_a_gradient_may_be_settled():
    assert stage_of("outputs") is None
    assert stage_of("loss") is None
    assert stage_of("output of layer.0 (training)") is None
    assert stage_of("change of the starting weights by a reset") is None
    assert stage_of("optimiser state after a reset") is None
    assert stage_of("gradient of input 'x'") == "gradients"
    assert stage_of("weight 'head.bias' after 1 training step") == "training"
    assert stage_of("outputs after 3 training steps") == "training"
    assert stage_of("outputs after a reset") is None
    stages = [
        stage_of(f"{what} after a reset{more}")
        for what, more in (("loss and gradients", ""), ("weights", " and a training step"))
    ]
    assert len({*stages, "gradients", "training", None}) == 5, "other calls may decide otherwise again"


def test_what_happened_is_said():
    assert Settled([], 1).note == "agrees up to 1 ReLU whose input is zero but for rounding, which goes the other way"
    assert Settled([], 2).note.startswith("agrees up to 2 ReLUs whose")
    assert "too many" in Settled([], 0).note


def test_gradients_below_the_smallest_number_of_a_dtype_may_be_zero():
    """They are zero in every framework, and 1e-83 in the reference."""
    task = Task.seeded(Workload(RnnSpec(3, 2, 4, 150), 2), 0)
    expected = Expected(task, 0, keep=False)
    got = {name: value.astype(np.float32) for name, value in expected.values("float32").items()}
    tiny = np.abs(expected.values("float32")["gradient of input 'h0'"]) < 1e-38
    assert tiny.any()
    quantities, _ = expected.judge(got, "float32")
    assert all(quantity.agrees for quantity in quantities)
    # Libraries may take what is below the smallest normal number for zero at any place.
    flushed = {name: np.where(np.abs(value) < 2.0**-126, np.float32(0), value) for name, value in got.items()}
    quantities, _ = expected.judge(flushed, "float32")
    assert all(quantity.agrees for quantity in quantities)
    # What is larger may not be.
    name = "gradient of input 'x'"
    sizes = np.abs(expected.values("float32")[name]).max(axis=(0, 2))
    step = int(np.flatnonzero(sizes > 1e-30)[0])
    got[name][:, step] = 0
    quantities, _ = expected.judge(got, "float32")
    found = next(quantity for quantity in quantities if quantity.name == name)
    assert not found.agrees
    assert found.where == f"time step {step}"


def test_float64_gradients_whose_squares_vanish_are_judged():
    task = Task.seeded(Workload(RnnSpec(3, 2, 4, 400), 2), 0)
    expected = Expected(task, 0, keep=False)
    exact = expected.values("float64")
    assert 0 < np.abs(exact["gradient of input 'h0'"]).max() < 1e-160
    got = reference_quantities(task, Rounded("float64", noise_generator(5), whole_range=True))
    quantities, _ = expected.judge(got, "float64")
    assert all(quantity.agrees for quantity in quantities)
    got["gradient of input 'h0'"] = got["gradient of input 'h0'"] * (1 + 1e-9)
    quantities, _ = expected.judge(got, "float64")
    assert [quantity.name for quantity in quantities if not quantity.agrees] == ["gradient of input 'h0'"]


def test_what_overflows_in_a_dtype_is_left_out_and_said():
    spec = DenseSpec((3, 4, 4, 2))
    task = Task.seeded(Workload(spec, 3), 0)
    weights = {**task.weights, "layer.0.weight": task.weights["layer.0.weight"] * 2.0**40}
    large = [Batch({"x": batch.inputs["x"] * 2.0**100}, batch.targets) for batch in task.batches]
    expected = Expected(Task(task.workload, weights, large), 0, keep=False)
    with np.errstate(over="ignore"):
        got = {name: value.astype(np.float32) for name, value in expected.values("float32").items()}
    got["outputs"][0, 0] = np.inf
    quantities, note = expected.judge(got, "float32")
    by_name = {quantity.name: quantity for quantity in quantities}
    assert by_name["outputs"].left_out
    assert by_name["outputs"].agrees
    assert "leaves the range of float32" in note


def test_inputs_that_are_equal_are_turned_over_together():
    found = _equal(np.array([0.3, -0.1, 0.3, 0.3 + 1e-12, -0.1, 7.0]), 1e-15)
    assert sorted(sorted(group.tolist()) for group in found) == [[0, 2], [1, 4], [3], [5]]
    assert _equal(np.array([]), 1.0) == []


def test_what_relus_on_their_own_sides_do_is_computed_once_and_remembered_between_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    task = Task.seeded(Workload(SPECS["residual"], 4), 3)
    first = Expected(task, 0)._flips_in("float32")._own_sides()
    assert any(noise.rms > 0 for noise in first.values())

    def fail(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(Flips, "_find_spread", fail)
    again = Expected(task, 0)._flips_in("float32")._own_sides()
    assert {name: noise.rms for name, noise in again.items()} == {name: noise.rms for name, noise in first.items()}
    for other, dtype in ((Expected(task, 1), "float32"), (Expected(task, 0), "float64")):
        with pytest.raises(AssertionError, match="computed again"):
            other._flips_in(dtype)._own_sides()
    with pytest.raises(AssertionError, match="computed again"):
        Expected(task, 0, keep=False)._flips_in("float32")._own_sides()
