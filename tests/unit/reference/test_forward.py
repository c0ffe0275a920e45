"""The forward passes, proved against the definitions written out one number at a time."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from faceoff.core.errors import InputError
from faceoff.core.spec import DenseSpec, LstmSpec, ModelSpec, RecurrentSpec, ResidualSpec, RnnSpec, Workload
from faceoff.core.weights import Batch, seeded_batch, seeded_weights, trace_names
from faceoff.reference import ReferenceModel
from faceoff.reference.convolution import convolve, convolve_backward

BATCH_SIZE = 3
RESIDUAL = ResidualSpec(5, 6, 2, (2, 3), 2, output_size=3, epsilon=1e-3)
RECURRENT: list[RecurrentSpec] = [
    RnnSpec(3, 4, 2, 5),
    RnnSpec(3, 4, 2, 5, num_layers=2, activation="relu"),
    RnnSpec(3, 4, 2, 5, num_layers=2, many_to_many=True),
    LstmSpec(3, 4, 2, 5),
    LstmSpec(3, 4, 2, 5, num_layers=2, many_to_many=True),
]
SPECS: list[ModelSpec] = [DenseSpec((4, 5, 3)), DenseSpec((4, 5, 3), "tanh"), RESIDUAL, *RECURRENT]


def make(spec: ModelSpec) -> tuple[dict[str, np.ndarray], Batch]:
    return seeded_weights(spec, 3), seeded_batch(Workload(spec, BATCH_SIZE, dtype="float64"), 3)


def convolve_directly(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    batch_size, height, width, channels = x.shape
    outputs, kernel = weight.shape[:2]
    margin = kernel // 2
    y = np.zeros((batch_size, -(-height // stride), -(-width // stride), outputs))
    for n, row, column, out in np.ndindex(*y.shape):
        for dr, dc, channel in np.ndindex(kernel, kernel, channels):
            r, c = row * stride + dr - margin, column * stride + dc - margin
            if 0 <= r < height and 0 <= c < width:
                y[n, row, column, out] += x[n, r, c, channel] * weight[out, dr, dc, channel]
    return y


@pytest.mark.parametrize("size", [(4, 4), (5, 6), (1, 1), (7, 2)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("stride", [1, 2], ids=lambda stride: f"stride{stride}")
@pytest.mark.parametrize("kernel", [1, 3], ids=lambda kernel: f"kernel{kernel}")
def test_convolution_equals_the_direct_loop(size: tuple[int, int], stride: int, kernel: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, *size, 2))
    weight = rng.standard_normal((3, kernel, kernel, 2))
    np.testing.assert_allclose(convolve(x, weight, stride), convolve_directly(x, weight, stride), rtol=0, atol=1e-13)


@pytest.mark.parametrize("rows_size", [1, 500, 800])
def test_convolution_of_a_few_images_at_a_time_is_that_of_all(rows_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    x, weight = rng.standard_normal((5, 4, 4, 2)), rng.standard_normal((3, 3, 3, 2))
    grad = rng.standard_normal((5, 2, 2, 3))
    whole = convolve(x, weight, 2), *convolve_backward(grad, x, weight, 2)
    monkeypatch.setattr("faceoff.reference.convolution.ROWS_SIZE", rows_size)
    pieces = convolve(x, weight, 2), *convolve_backward(grad, x, weight, 2)
    for expected, got in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)


def residual_directly(weights: dict[str, np.ndarray], x: np.ndarray, training: bool) -> np.ndarray:
    def unit(conv: str, norm: str, x: np.ndarray, stride: int) -> np.ndarray:
        y = convolve_directly(x, weights[f"{conv}.weight"], stride)
        for channel in range(y.shape[-1]):
            values = y[..., channel]
            mean, variance = (weights[f"{norm}.{part}"][channel] for part in ("mean", "variance"))
            if training:
                mean = math.fsum(values.flat) / values.size
                variance = math.fsum((v - mean) ** 2 for v in values.flat) / values.size
            normal = (values - mean) / math.sqrt(variance + RESIDUAL.epsilon)
            y[..., channel] = normal * weights[f"{norm}.scale"][channel] + weights[f"{norm}.bias"][channel]
        return y

    x = np.maximum(unit("stem.conv", "stem.norm", x, 1), 0)
    for name, stride in (
        ("stage.0.block.0", 1),
        ("stage.0.block.1", 1),
        ("stage.1.block.0", 2),
        ("stage.1.block.1", 1),
    ):
        y = np.maximum(unit(f"{name}.conv1", f"{name}.norm1", x, stride), 0)
        y = unit(f"{name}.conv2", f"{name}.norm2", y, 1)
        if name == "stage.1.block.0":
            x = unit(f"{name}.shortcut.conv", f"{name}.shortcut.norm", x, 2)
        x = np.maximum(x + y, 0)
    return x.mean(axis=(1, 2)) @ weights["head.weight"].T + weights["head.bias"]


def test_residual_in_inference_equals_its_definition_with_running_statistics() -> None:
    weights, batch = make(RESIDUAL)
    expected = residual_directly(weights, batch.inputs["x"], training=False)
    np.testing.assert_allclose(ReferenceModel(RESIDUAL, weights).forward(batch), expected, rtol=0, atol=1e-13)


def test_residual_in_training_equals_its_definition_with_batch_statistics() -> None:
    weights, batch = make(RESIDUAL)
    expected = residual_directly(weights, batch.inputs["x"], training=True)
    np.testing.assert_allclose(ReferenceModel(RESIDUAL, weights).step(batch).logits, expected, rtol=0, atol=1e-13)


def test_residual_block_that_keeps_its_size_has_no_projection() -> None:
    weights, _ = make(RESIDUAL)
    assert [name for name in weights if name.endswith("shortcut.conv.weight")] == [
        "stage.1.block.0.shortcut.conv.weight"
    ]


def test_dense_equals_its_definition() -> None:
    spec = DenseSpec((4, 5, 3, 2), "tanh")
    weights, batch = make(spec)
    for row, got in zip(batch.inputs["x"], ReferenceModel(spec, weights).forward(batch), strict=True):
        values = list(row)
        for layer in range(3):
            weight, bias = weights[f"layer.{layer}.weight"], weights[f"layer.{layer}.bias"]
            sums = [
                math.fsum([*(w * v for w, v in zip(line, values, strict=True)), b])
                for line, b in zip(weight, bias, strict=True)
            ]
            values = sums if layer == 2 else [math.tanh(s) for s in sums]
        np.testing.assert_allclose(got, values, rtol=0, atol=1e-14)


def recurrent_directly(spec: RecurrentSpec, weights: dict[str, np.ndarray], batch: Batch) -> np.ndarray:
    """Logits at every time step, `(batch_size, sequence_length, output_size)`, one example and one unit at a time."""

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    size = spec.hidden_size
    logits = np.empty((BATCH_SIZE, spec.sequence_length, spec.output_size))
    for n in range(BATCH_SIZE):
        sequence = list(batch.inputs["x"][n])
        for layer in range(spec.num_layers):
            states = [batch.inputs[name][layer, n].copy() for name in spec.state_names]
            weight_ih, weight_hh, bias = (
                weights[f"layer.{layer}.{part}"] for part in ("weight_ih", "weight_hh", "bias")
            )
            outputs = []
            for x in sequence:
                h = states[0]
                sums = [
                    math.fsum([*(weight_ih[row] * x), *(weight_hh[row] * h), bias[row]]) for row in range(len(bias))
                ]
                if isinstance(spec, LstmSpec):
                    h, c = np.empty(size), states[1]
                    for unit in range(size):
                        i, f, g, o = (sums[gate * size + unit] for gate in range(4))
                        c[unit] = sigmoid(f) * c[unit] + sigmoid(i) * math.tanh(g)
                        h[unit] = sigmoid(o) * math.tanh(c[unit])
                    states = [h, c]
                else:
                    h = np.array([max(s, 0.0) if spec.activation == "relu" else math.tanh(s) for s in sums])
                    states = [h]
                outputs.append(h)
            sequence = outputs
        logits[n] = np.array(sequence) @ weights["head.weight"].T + weights["head.bias"]
    return logits


@pytest.mark.parametrize("spec", RECURRENT, ids=lambda spec: spec.label)
def test_recurrent_models_equal_their_definition(spec: RecurrentSpec) -> None:
    weights, batch = make(spec)
    expected = recurrent_directly(spec, weights, batch)
    got = ReferenceModel(spec, weights).forward(batch)
    np.testing.assert_allclose(got, expected if spec.many_to_many else expected[:, -1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("spec", [RECURRENT[2], RECURRENT[0]], ids=["many-to-many", "many-to-one"])
def test_loss_is_the_mean_cross_entropy_over_examples_and_steps(spec: RecurrentSpec) -> None:
    weights, batch = make(spec)
    logits = recurrent_directly(spec, weights, batch)
    rows = (logits if spec.many_to_many else logits[:, -1]).reshape(-1, spec.output_size)
    losses = [
        -math.log(math.exp(row[target]) / math.fsum(math.exp(v) for v in row))
        for row, target in zip(rows, batch.targets.reshape(-1), strict=True)
    ]
    assert ReferenceModel(spec, weights).loss(batch) == pytest.approx(math.fsum(losses) / len(losses), rel=1e-14)


def test_loss_of_huge_logits_does_not_overflow() -> None:
    spec = DenseSpec((1, 2))
    weights = {"layer.0.weight": np.array([[2000.0], [-2000.0]]), "layer.0.bias": np.zeros(2)}
    batch = Batch({"x": np.array([[1.0]])}, np.array([1]))
    assert ReferenceModel(spec, weights).loss(batch) == 4000.0


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_trace_has_the_canonical_names_and_ends_with_the_logits(spec: ModelSpec, training: bool) -> None:
    weights, batch = make(spec)
    model = ReferenceModel(spec, weights)
    trace = model.trace(batch, training)
    assert tuple(trace) == trace_names(spec)
    logits = model.step(batch).logits if training else model.forward(batch)
    last = list(trace.values())[-1]
    np.testing.assert_array_equal(last, logits)
    assert all(type(value) is np.ndarray and value.flags["C_CONTIGUOUS"] for value in trace.values())


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_a_fine_trace_has_what_the_parts_of_a_block_return(training: bool) -> None:
    spec = ResidualSpec(6, 6, 2, (3, 4), 1, 5)
    weights, batch = make(spec)
    model = ReferenceModel(spec, weights)
    fine = model.trace(batch, training, fine=True)
    assert tuple(fine) == trace_names(spec, fine=True)
    for name, value in model.trace(batch, training).items():
        np.testing.assert_array_equal(fine[name], value)
    block = "stage.1.block.0"
    together = fine[f"{block}.norm2"] + fine[f"{block}.shortcut.norm"]
    np.testing.assert_array_equal(fine[block], np.maximum(together, 0))
    np.testing.assert_array_equal(fine["stem"], np.maximum(fine["stem.norm"], 0))
    # A 1x1 convolution of stride 2 is a product for every second pixel.
    kernel = weights[f"{block}.shortcut.conv.weight"][:, 0, 0]
    pixels = fine["stage.0.block.0"][:, ::2, ::2]
    np.testing.assert_allclose(fine[f"{block}.shortcut.conv"], pixels @ kernel.T, rtol=0, atol=1e-13)


def test_trace_of_a_recurrent_layer_is_its_hidden_states_by_example_and_step() -> None:
    spec = RECURRENT[4]
    weights, batch = make(spec)
    trace = ReferenceModel(spec, weights).trace(batch, training=False)
    top = trace["layer.1"]
    assert top.shape == (BATCH_SIZE, spec.sequence_length, spec.hidden_size)
    np.testing.assert_allclose(top @ weights["head.weight"].T + weights["head.bias"], trace["head"], rtol=0, atol=1e-14)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_only_a_training_step_changes_the_weights(spec: ModelSpec) -> None:
    weights, batch = make(spec)
    model = ReferenceModel(spec, weights)
    model.forward(batch)
    model.loss(batch)
    model.gradients(batch)
    model.trace(batch, training=True)
    assert all(np.array_equal(value, weights[name]) for name, value in model.weights().items())
    held = model.weights()
    held[next(iter(held))] += 1
    assert all(np.array_equal(value, weights[name]) for name, value in model.weights().items())
    model.train_step(batch)
    assert not any(np.array_equal(value, weights[name]) for name, value in model.weights().items())


def difference(spec: ModelSpec, faulty: dict[str, np.ndarray], faulty_spec: ModelSpec | None = None) -> float:
    """Largest change of the logits that a fault makes, relative to the largest logit."""
    weights, batch = make(spec)
    right = ReferenceModel(spec, weights).forward(batch)
    wrong = ReferenceModel(faulty_spec or spec, faulty).forward(batch)
    return float(np.abs(wrong - right).max() / np.abs(right).max())


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("second", range(4))
def test_any_two_swapped_gates_stand_far_above_rounding(first: int, second: int) -> None:
    spec = LstmSpec(3, 4, 2, 5)
    order = list(range(4))
    order[first], order[second] = order[second], order[first]
    weights, _ = make(spec)
    rows = np.arange(4 * spec.hidden_size).reshape(4, -1)[order].reshape(-1)
    swapped = {name: value[rows] if name.startswith("layer.") else value for name, value in weights.items()}
    assert (difference(spec, swapped) > 1e-4) == (first != second)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_any_dropped_weight_or_statistic_stands_far_above_rounding(spec: ModelSpec) -> None:
    weights, _ = make(spec)
    for name, value in weights.items():
        neutral = np.ones_like(value) if name.endswith(("scale", "variance")) else np.zeros_like(value)
        assert difference(spec, {**weights, name: neutral}) > 1e-6, name


def test_another_epsilon_stands_far_above_rounding() -> None:
    weights, _ = make(RESIDUAL)
    assert difference(RESIDUAL, weights, dataclasses.replace(RESIDUAL, epsilon=1e-5)) > 1e-6


def test_weights_that_do_not_fit_are_refused() -> None:
    spec = DenseSpec((4, 3))
    weights, _ = make(spec)
    del weights["layer.0.bias"]
    with pytest.raises(InputError, match=r"missing \['layer\.0\.bias'\]"):
        ReferenceModel(spec, weights)


def test_a_batch_with_nan_is_refused_by_every_method() -> None:
    spec = DenseSpec((4, 3))
    weights, batch = make(spec)
    batch.inputs["x"][1, 2] = np.nan
    model = ReferenceModel(spec, weights)
    for method in (model.forward, model.loss, model.gradients, model.step, model.train_step):
        with pytest.raises(InputError, match=r"batch\.x at \[1, 2\]: not a finite number"):
            method(batch)
