"""The backward passes, proved against derivatives that know nothing of them."""

from __future__ import annotations

import numpy as np
import pytest

from faceoff.core.spec import DenseSpec, LstmSpec, ModelSpec, ResidualSpec, RnnSpec, Workload
from faceoff.core.weights import Batch, input_shapes, seeded_batch, seeded_weights, trainable_names
from faceoff.reference import ReferenceModel

SPECS: list[ModelSpec] = [
    DenseSpec((4, 8, 6, 3)),
    DenseSpec((4, 8, 6, 3), activation="tanh"),
    DenseSpec((4, 3)),
    ResidualSpec(5, 6, 2, (2, 3), 1, output_size=3, epsilon=1e-3),
    ResidualSpec(4, 5, 1, (2, 2), 2, output_size=2),
    RnnSpec(3, 4, 2, 5),
    RnnSpec(3, 4, 2, 4, num_layers=2, many_to_many=True),
    RnnSpec(3, 4, 2, 5, num_layers=2, activation="relu"),
    RnnSpec(3, 4, 2, 1, many_to_many=True, activation="relu"),
    LstmSpec(3, 4, 2, 5),
    LstmSpec(3, 4, 2, 4, num_layers=2, many_to_many=True),
]
BATCH_SIZE = 3


def make(spec: ModelSpec) -> tuple[dict[str, np.ndarray], Batch]:
    return seeded_weights(spec, 5), seeded_batch(Workload(spec, BATCH_SIZE, dtype="float64"), 5)


def derivative(spec: ModelSpec, kind: str, name: str, step: complex) -> np.ndarray:
    """By every element of a weight or input: complex-step when `step` is imaginary, else central difference."""
    weights, batch = make(spec)
    values = weights if kind == "weights" else batch.inputs
    origin = values[name]
    result = np.empty(origin.shape)

    def loss_at(index: tuple[int, ...], shift: complex) -> complex:
        moved = origin.astype(np.result_type(shift, np.float64))
        moved[index] += shift
        values[name] = moved
        return ReferenceModel(spec, weights).loss(batch)

    for index in np.ndindex(origin.shape):
        if isinstance(step, complex):
            result[index] = loss_at(index, step).imag / step.imag
        else:
            result[index] = (loss_at(index, step) - loss_at(index, -step)) / (2 * step)
    return result


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_gradients_equal_the_complex_step_derivative(spec: ModelSpec) -> None:
    gradients = ReferenceModel(spec, make(spec)[0]).gradients(make(spec)[1])
    assert tuple(gradients["weights"]) == trainable_names(spec)
    assert tuple(gradients["inputs"]) == tuple(input_shapes(spec, BATCH_SIZE))
    for kind in ("weights", "inputs"):
        for name, gradient in gradients[kind].items():
            expected = derivative(spec, kind, name, 1e-30j)
            assert np.abs(expected).max() > 1e-6, f"{name} does not matter, so the test shows nothing"
            assert gradient.dtype == np.float64
            np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12 * np.abs(expected).max(), err_msg=name)


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[3], SPECS[7]], ids=lambda spec: spec.label)
def test_gradients_through_relu_equal_central_differences(spec: ModelSpec) -> None:
    gradients = ReferenceModel(spec, make(spec)[0]).gradients(make(spec)[1])
    for kind in ("weights", "inputs"):
        for name, gradient in gradients[kind].items():
            expected = derivative(spec, kind, name, 1e-6)
            np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-7 * np.abs(expected).max(), err_msg=name)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_gradients_and_loss_and_step_agree_on_what_they_share(spec: ModelSpec) -> None:
    weights, batch = make(spec)
    model = ReferenceModel(spec, weights)
    gradients = model.gradients(batch)
    step = model.step(batch)
    assert gradients["loss"] == step.loss == ReferenceModel(spec, weights).loss(batch)
    assert isinstance(step.loss, float)
    for name, gradient in gradients["weights"].items():
        np.testing.assert_array_equal(gradient, step.gradients["weights"][name])


def test_a_gate_swapped_in_the_backward_pass_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from faceoff.reference import lstm

    gates = lstm._gates

    def swapped(stacked: np.ndarray, hidden_size: int) -> list[np.ndarray]:
        i, f, g, o = gates(stacked, hidden_size)
        return [f, i, g, o]

    spec = SPECS[9]
    weights, batch = make(spec)
    model = ReferenceModel(spec, weights)
    passed = model._pass(batch, training=True)
    monkeypatch.setattr(lstm, "_gates", swapped)
    faulty = model._family.backward(spec, model._weights, passed.saved, np.ones_like(passed.logits))
    monkeypatch.undo()
    right = model._family.backward(spec, model._weights, passed.saved, np.ones_like(passed.logits))
    worst = np.abs(faulty.weights["layer.0.weight_hh"] - right.weights["layer.0.weight_hh"]).max()
    assert worst > 1e-3 * np.abs(right.weights["layer.0.weight_hh"]).max()
