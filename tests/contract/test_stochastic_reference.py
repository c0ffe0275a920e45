"""PyTorch's rounding noise is that of the NumPy reference, in every quantity of the built-in models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from faceoff.agreement.check import Expected
from faceoff.agreement.noise import NOISE_RUNS, Noise, Values, noise_of
from faceoff.agreement.quantities import LOSSES, OUTPUTS, Held, after_steps, named_gradients
from faceoff.core.contract import Model, Settings
from faceoff.core.spec import (
    DenseSpec,
    LstmSpec,
    ModelSpec,
    Optimiser,
    ResidualSpec,
    RnnSpec,
    Workload,
)
from faceoff.reference.arithmetic import UNIT_ROUNDOFF as UNIT_ROUNDOFFS
from faceoff.workloads.task import Task
from impls.pytorch.runtime import PyTorchRuntime
from impls.pytorch.stochastic import Stochastic

# Two estimates from eight runs each, of numbers that err together, may be as far apart.
FACTOR = 2.5
# No ReLU decides otherwise in these runs; the reference holds its own.
UNIT_ROUNDOFF = 2.0**-40

SPECS = (
    DenseSpec((20, 16, 8, 5)),
    DenseSpec((100, 32, 10), activation="tanh"),
    ResidualSpec(8, 8, 3, (4, 8), 1, 10),
    RnnSpec(6, 12, 8, 5, num_layers=2, many_to_many=True),
    RnnSpec(6, 12, 8, 5, activation="relu"),
    LstmSpec(6, 12, 8, 5, num_layers=2),
)
CASES = [*((spec, optimiser) for spec in SPECS for optimiser in ("momentum", "adam")), (SPECS[0], "sgd")]


@pytest.fixture(scope="module")
def runtime() -> Iterator[PyTorchRuntime]:
    threads = torch.get_num_threads()
    runtime = PyTorchRuntime()
    runtime.configure(Settings(device="cpu", threads=1))
    yield runtime
    torch.set_num_threads(threads)


def computed(runtime: PyTorchRuntime, model: Model, task: Task) -> Values:
    """Outputs, loss and gradients by the starting weights, and what training leaves, by PyTorch in float64."""
    first, *_ = placed = [runtime.place(batch, "float64") for batch in task.batches]
    model.reset(task.weights)
    found = {OUTPUTS: runtime.fetch(model.forward(first))}
    found |= named_gradients(model.canonical(model.gradients(first)))
    losses = [float(model.train_step(batch)) for batch in placed]
    found |= dict(Held(model.weights(), model.optimiser_state()).named(after_steps(len(placed))))
    found |= {LOSSES: np.array(losses), f"{OUTPUTS} {after_steps(len(placed))}": runtime.fetch(model.forward(first))}
    return {name: np.asarray(value, dtype=np.float64) for name, value in found.items()}


def noise_in_pytorch(run: Callable[[Stochastic], Values], exact: Values, dtype: str) -> dict[str, Noise]:
    """The noise of eight runs of a program, around the reference's exact values."""
    scale = UNIT_ROUNDOFFS[dtype] / UNIT_ROUNDOFF
    centre = run(Stochastic(dtype, 0.0))
    for name, value in centre.items():
        assert np.allclose(value, exact[name], rtol=1e-9, atol=1e-10), name
    runs = []
    for seed in range(NOISE_RUNS):
        stochastic = Stochastic(dtype, UNIT_ROUNDOFF, seed)
        found = run(stochastic)
        assert not stochastic.whole
        runs.append({name: exact[name] + (found[name] - centre[name]) * scale for name in centre})
    return noise_of({name: exact[name] for name in centre}, runs, dtype)


def ratios(runtime: PyTorchRuntime, task: Task, dtype: str) -> dict[str, float]:
    """PyTorch's noise over that of the reference, by quantity."""
    expected = Expected(task, 0, keep=False)
    model = runtime.build(task.workload.replace(dtype="float64"), task.weights, "eager")

    def run(stochastic: Stochastic) -> Values:
        with stochastic:
            return computed(runtime, model, task)

    reference = expected.noise(dtype)
    noise = noise_in_pytorch(run, expected.values(dtype), dtype)
    return {name: found.rms / reference[name].rms for name, found in noise.items() if reference[name].rms}


@pytest.mark.thorough
@pytest.mark.parametrize(("spec", "optimiser"), CASES, ids=lambda part: getattr(part, "label", part))
def test_noise_is_that_of_the_reference(
    runtime: PyTorchRuntime, spec: ModelSpec, optimiser: str, record_property: Callable[[str, object], None]
) -> None:
    workload = Workload(spec, 4, step="training", optimiser=Optimiser(kind=optimiser))
    found = ratios(runtime, Task.seeded(workload, 0).rounded("float32"), "float32")
    record_property("ratios", found)
    assert len(found) >= 10
    assert not {name: ratio for name, ratio in found.items() if not 1 / FACTOR < ratio < FACTOR}


@pytest.mark.parametrize(
    ("dtype", "spec"), [("bfloat16", SPECS[5]), ("float16", SPECS[3]), ("float64", SPECS[1])], ids=str
)
def test_noise_in_other_dtypes_is_that_of_the_reference(runtime: PyTorchRuntime, dtype: str, spec: ModelSpec) -> None:
    task = Task.seeded(Workload(spec, 4, step="training", optimiser=Optimiser(kind="momentum")), 0).rounded(dtype)
    found = ratios(runtime, task, dtype)
    assert not {name: ratio for name, ratio in found.items() if not 1 / FACTOR < ratio < FACTOR}


@pytest.mark.parametrize(("dtype", "factor"), [("float32", 2.0**-62), ("float32", 2.0**-42), ("float16", 2.0**-4)])
def test_noise_at_the_lower_end_of_the_range_is_that_of_the_reference(
    runtime: PyTorchRuntime, dtype: str, factor: float
) -> None:
    task = Task.seeded(Workload(SPECS[0], 4, step="training", optimiser=Optimiser(kind="sgd")), 0)
    small = {name: value * factor for name, value in task.weights.items()}
    found = ratios(runtime, dataclasses.replace(task, weights=small).rounded(dtype), dtype)
    assert not {name: ratio for name, ratio in found.items() if not 1 / FACTOR < ratio < FACTOR}
