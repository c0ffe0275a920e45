"""The noise runs of whole models predict the error of a real evaluation in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from faceoff.core.spec import DenseSpec, LstmSpec, ModelSpec, Optimiser, ResidualSpec, RnnSpec, Workload
from faceoff.core.weights import seeded_batch, seeded_weights
from faceoff.reference import Arithmetic, Exact, ReferenceModel, Rounded, noise_generator

SPECS: list[ModelSpec] = [
    DenseSpec((64, 48, 32, 10)),
    DenseSpec((64, 48, 32, 10), activation="tanh"),
    ResidualSpec(8, 8, 2, (4, 8), 1),
    RnnSpec(12, 24, 5, 15),
    RnnSpec(12, 24, 5, 15, num_layers=2, many_to_many=True, activation="relu"),
    LstmSpec(12, 24, 5, 15),
    LstmSpec(12, 24, 5, 15, num_layers=2, many_to_many=True),
]
RUNS = 8
STEPS = 2


class InDtype(Arithmetic):
    """The models in a real narrower dtype of NumPy."""

    def __init__(self, dtype: type[np.floating[Any]]) -> None:
        self._dtype = dtype

    def array(self, values: Any) -> np.ndarray:
        return np.array(values, dtype=self._dtype, order="C")


def quantities(spec: ModelSpec, arithmetic: Arithmetic, optimiser: str = "momentum") -> dict[str, np.ndarray]:
    """Outputs, gradients, and weights and optimiser state after training steps, by name."""
    workload = Workload(spec, 8, dtype="float64")
    model = ReferenceModel(spec, seeded_weights(spec, 11), Optimiser(optimiser), arithmetic)
    found = {"outputs": model.forward(seeded_batch(workload, 11))}
    for index in range(STEPS):
        gradients = model.step(seeded_batch(workload, 11, index)).gradients
        if index == 0:
            for kind in ("weights", "inputs"):
                found.update({f"gradient {name}": value for name, value in gradients[kind].items()})
    found.update({f"weight {name}": value for name, value in model.weights().items()})
    for kind, held in model.optimiser_state().items():
        found.update({f"{kind} {name}": value for name, value in held.items()})
    return {name: np.asarray(value, dtype=np.float64) for name, value in found.items()}


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def noise_units(
    spec: ModelSpec, arithmetic: Arithmetic, dtype: str = "float32", optimiser: str = "momentum"
) -> dict[str, float]:
    """The error of `arithmetic` in each quantity, in units of the predicted rounding noise of `dtype`."""
    exact = quantities(spec, Exact(), optimiser)
    got = quantities(spec, arithmetic, optimiser)
    runs = [quantities(spec, Rounded(dtype, noise_generator(11, run)), optimiser) for run in range(RUNS)]
    return {
        name: rms(got[name] - value) / np.sqrt(np.mean([rms(run[name] - value) ** 2 for run in runs]))
        for name, value in exact.items()
    }


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_noise_predicts_the_error_of_a_float32_evaluation(spec: ModelSpec) -> None:
    units = noise_units(spec, InDtype(np.float32))
    assert 1 / 3 < units["outputs"] < 3
    for kind in ("gradient", "weight"):
        of_kind = [value for name, value in units.items() if name.startswith(kind)]
        assert 1 / 3 < np.median(of_kind) < 3
        assert max(of_kind) < 4


@pytest.mark.parametrize("spec", [SPECS[1], SPECS[5]], ids=lambda spec: spec.label)
def test_noise_predicts_the_error_of_adam_in_float32(spec: ModelSpec) -> None:
    """Its decay rates in float32 too, as TensorFlow holds them: 1 - beta2 is then 200 roundoffs off."""
    assert max(noise_units(spec, InDtype(np.float32), optimiser="adam").values()) < 4


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_an_evaluation_in_float16_is_far_outside_the_noise_of_float32(spec: ModelSpec) -> None:
    assert min(noise_units(spec, InDtype(np.float16)).values()) > 100


def test_noise_of_float64_is_smaller_than_that_of_float32_by_the_ratio_of_their_roundoffs() -> None:
    spec = SPECS[5]
    exact = quantities(spec, Exact())
    errors = {
        dtype: rms(quantities(spec, Rounded(dtype, noise_generator(1)))["outputs"] - exact["outputs"])
        for dtype in ("float64", "float32")
    }
    # The float64 of the disturbed run itself rounds too, which counts beside the noise of float64 only.
    assert 0.5 < errors["float32"] / errors["float64"] / 2.0**29 < 1.1


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_noise_runs_differ_from_each_other_and_return_plain_arrays(spec: ModelSpec) -> None:
    first, second = (quantities(spec, Rounded("float32", noise_generator(seed))) for seed in (1, 2))
    for name, value in first.items():
        assert type(value) is np.ndarray
        assert value.dtype == np.float64
        assert not np.array_equal(value, second[name]), name


def test_noise_units_expose_a_missing_bias() -> None:
    spec = SPECS[5]
    weights = seeded_weights(spec, 11)
    batch = seeded_batch(Workload(spec, 8, dtype="float64"), 11)
    exact = ReferenceModel(spec, weights).forward(batch)
    run = ReferenceModel(spec, weights, arithmetic=Rounded("float32", noise_generator(0))).forward(batch)
    weights["layer.0.bias"] = np.zeros_like(weights["layer.0.bias"])
    faulty = ReferenceModel(spec, weights).forward(batch)
    assert rms(faulty - exact) > 1000 * rms(run - exact)
