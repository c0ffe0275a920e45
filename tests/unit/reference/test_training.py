"""Update rules and running statistics, against steps computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from faceoff.core.spec import OPTIMISERS, DenseSpec, LstmSpec, Optimiser, ResidualSpec, Workload
from faceoff.core.weights import is_statistic, seeded_batch, seeded_weights, trainable_names
from faceoff.reference import Exact, ReferenceModel
from faceoff.reference.convolution import convolve
from faceoff.reference.optimiser import UpdateRule


def walk(optimiser: Optimiser, gradients: list[float]) -> list[float]:
    """Positions of one weight that starts at 1."""
    rule = UpdateRule(optimiser, Exact())
    weights = {"w": np.array([1.0])}
    positions = []
    for gradient in gradients:
        weights = rule.apply(weights, {"w": np.array([gradient])})
        positions.append(float(weights["w"][0]))
    return positions


def test_sgd_steps_equal_those_by_hand() -> None:
    assert walk(Optimiser("sgd", learning_rate=0.1), [0.5, -0.25]) == pytest.approx([0.95, 0.975], rel=1e-15)


def test_momentum_steps_equal_those_by_hand() -> None:
    # v: 0.5, 0.9 * 0.5 - 0.25 = 0.2, 0.9 * 0.2 + 1 = 1.18
    optimiser = Optimiser("momentum", learning_rate=0.1, momentum=0.9)
    assert walk(optimiser, [0.5, -0.25, 1.0]) == pytest.approx([0.95, 0.93, 0.812], rel=1e-15)


def test_adam_steps_equal_those_by_hand() -> None:
    # m: 0.05, 0.02; v: 0.00025, 0.00031225; corrected by 0.1, 0.19 and 0.001, 0.001999
    optimiser = Optimiser("adam", learning_rate=0.1, beta1=0.9, beta2=0.999, epsilon=0.25)
    first = 1 - 0.1 * 0.5 / (0.5 + 0.25)
    second = first - 0.1 * (0.02 / 0.19) / (math.sqrt(0.00031225 / 0.001999) + 0.25)
    assert walk(optimiser, [0.5, -0.25]) == pytest.approx([first, second], rel=1e-13)


def test_adamw_steps_equal_those_by_hand() -> None:
    # As Adam's, each after 0.1 * 0.5 of the weight is gone.
    optimiser = Optimiser("adamw", learning_rate=0.1, epsilon=0.25, weight_decay=0.5)
    first = 0.95 - 0.1 * 0.5 / (0.5 + 0.25)
    second = 0.95 * first - 0.1 * (0.02 / 0.19) / (math.sqrt(0.00031225 / 0.001999) + 0.25)
    assert walk(optimiser, [0.5, -0.25]) == pytest.approx([first, second], rel=1e-13)


def held(optimiser: Optimiser, gradients: list[float]) -> dict[str, float]:
    """The state of one weight after steps over `gradients`."""
    rule, weights = UpdateRule(optimiser, Exact()), {"w": np.array([1.0])}
    for gradient in gradients:
        rule.apply(weights, {"w": np.array([gradient])})
    return {kind: float(arrays["w"][0]) for kind, arrays in rule.state(weights).items()}


def test_the_state_equals_that_by_hand() -> None:
    gradients = [0.5, -0.25]
    assert held(Optimiser("sgd"), gradients) == {}
    assert held(Optimiser("momentum", momentum=0.9), gradients) == pytest.approx({"momentum": 0.2}, rel=1e-14)
    adam = {"first moment": 0.02, "second moment": 0.00031225}
    assert held(Optimiser("adam"), gradients) == pytest.approx(adam, rel=1e-12)
    assert held(Optimiser("adamw"), gradients) == pytest.approx(adam, rel=1e-12)


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_the_state_is_zero_before_the_first_step_and_a_copy(kind: str) -> None:
    spec = DenseSpec((3, 4, 2))
    model = ReferenceModel(spec, seeded_weights(spec, 1), Optimiser(kind))
    state = model.optimiser_state()
    assert tuple(state) == Optimiser(kind).state_names
    for arrays in state.values():
        assert tuple(arrays) == trainable_names(spec)
        assert not any(value.any() for value in arrays.values())
        arrays["layer.0.bias"] += 1
    assert not any(arrays["layer.0.bias"].any() for arrays in model.optimiser_state().values())
    model.train_step(seeded_batch(Workload(spec, 3, dtype="float64"), 1))
    assert all(value.any() for arrays in model.optimiser_state().values() for value in arrays.values())


def test_adam_adds_epsilon_to_the_corrected_root() -> None:
    optimiser = Optimiser("adam", learning_rate=0.1, epsilon=1e-3)
    (got,) = walk(optimiser, [1e-3])
    inside_root = 1 - 0.1 * 1e-3 / math.sqrt(1e-6 + 1e-3)
    before_correction = 1 - 0.1 * 1e-3 / (1e-3 + 1e-3 / math.sqrt(1 - optimiser.beta2))
    assert got == pytest.approx(1 - 0.1 * 0.5, rel=1e-12)
    assert abs(got - inside_root) > 1e-3
    assert abs(got - before_correction) > 1e-3


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_training_applies_the_rule_to_the_gradients_of_each_step(kind: str) -> None:
    spec = LstmSpec(3, 4, 2, 5)
    optimiser = Optimiser(kind, learning_rate=0.05)
    workload = Workload(spec, 3, dtype="float64")
    model = ReferenceModel(spec, seeded_weights(spec, 1), optimiser)
    rule = UpdateRule(optimiser, Exact())
    weights = seeded_weights(spec, 1)
    for index in range(3):
        batch = seeded_batch(workload, 1, index)
        fresh = ReferenceModel(spec, weights)
        assert model.train_step(batch) == fresh.loss(batch)
        weights = rule.apply(weights, fresh.gradients(batch)["weights"])
    for name, value in model.weights().items():
        np.testing.assert_array_equal(value, weights[name])


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_training_on_one_batch_lowers_its_loss(kind: str) -> None:
    spec = DenseSpec((6, 8, 3))
    batch = seeded_batch(Workload(spec, 8, dtype="float64"), 2)
    model = ReferenceModel(spec, seeded_weights(spec, 2), Optimiser(kind, learning_rate=0.05))
    losses = [model.train_step(batch) for _ in range(20)]
    assert losses[-1] < 0.7 * losses[0]


def test_running_statistics_move_by_momentum_towards_the_biased_batch_statistics() -> None:
    spec = ResidualSpec(4, 4, 2, (3,), 1, output_size=2, momentum=0.25)
    weights = seeded_weights(spec, 4)
    batch = seeded_batch(Workload(spec, 2, dtype="float64"), 4)
    model = ReferenceModel(spec, weights)
    model.train_step(batch)
    y = convolve(batch.inputs["x"], weights["stem.conv.weight"], 1)
    mean = y.mean(axis=(0, 1, 2))
    variance = np.square(y - mean).mean(axis=(0, 1, 2))
    for part, value in (("mean", mean), ("variance", variance)):
        expected = 0.75 * weights[f"stem.norm.{part}"] + 0.25 * value
        np.testing.assert_allclose(model.weights()[f"stem.norm.{part}"], expected, rtol=1e-13)


def test_running_statistics_equal_the_batch_when_momentum_is_one() -> None:
    spec = ResidualSpec(5, 5, 2, (2, 3), 1, output_size=3, momentum=1.0)
    batch = seeded_batch(Workload(spec, 3, dtype="float64"), 6)
    model = ReferenceModel(spec, seeded_weights(spec, 6), Optimiser(learning_rate=0.0))
    before = model.forward(batch)
    step = model.step(batch)
    np.testing.assert_allclose(model.forward(batch), step.logits, rtol=0, atol=1e-13)
    assert np.abs(before - step.logits).max() > 1e-3


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_optimisers_leave_running_statistics_alone(kind: str) -> None:
    spec = ResidualSpec(4, 4, 1, (2,), 1, output_size=2, momentum=0.0)
    weights = seeded_weights(spec, 7)
    model = ReferenceModel(spec, weights, Optimiser(kind))
    model.train_step(seeded_batch(Workload(spec, 3, dtype="float64"), 7))
    after = model.weights()
    for name, value in weights.items():
        assert np.array_equal(after[name], value) == is_statistic(name), name
    assert {name for name in after if not is_statistic(name)} == set(trainable_names(spec))
