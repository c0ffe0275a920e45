"""PyTorch's rounding noise is that of the NumPy reference, in every quantity of the built-in models."""

from __future__ import annotations

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
from faceoff.workloads.task import Task
from impls.pytorch.runtime import PyTorchRuntime
from impls.pytorch.stochastic import Stochastic

# Two estimates from eight runs each, of numbers that err together, may be as far apart.
FACTOR = 2.5
# No ReLU decides otherwise in these runs; the reference holds its own.
UNIT_ROUNDOFF = 2.0**-40
SCALE = 2.0**-24 / UNIT_ROUNDOFF

SPECS = (
    DenseSpec((20, 16, 8, 5)),
    DenseSpec((100, 32, 10), activation="tanh"),
    ResidualSpec(8, 8, 3, (4, 8), 1, 10),
    RnnSpec(6, 12, 8, 5, num_layers=2, many_to_many=True),
    RnnSpec(6, 12, 8, 5, activation="relu"),
    LstmSpec(6, 12, 8, 5, num_layers=2),
)
OPTIMISERS = ("sgd", "momentum", "adam")


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


def noise_in_pytorch(run: Callable[[Stochastic], Values], exact: Values) -> dict[str, Noise]:
    """The noise of float32 in eight runs of a program, around the reference's exact values."""
    centre = run(Stochastic("float32", 0.0))
    for name, value in centre.items():
        assert np.allclose(value, exact[name], rtol=1e-9, atol=1e-10), name
    runs = []
    for seed in range(NOISE_RUNS):
        stochastic = Stochastic("float32", UNIT_ROUNDOFF, seed)
        found = run(stochastic)
        assert not stochastic.whole
        runs.append({name: exact[name] + (found[name] - centre[name]) * SCALE for name in centre})
    return noise_of({name: exact[name] for name in centre}, runs, "float32")


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_noise_is_that_of_the_reference(
    runtime: PyTorchRuntime, spec: ModelSpec, optimiser: str, record_property: Callable[[str, object], None]
) -> None:
    workload = Workload(spec, 4, step="training", optimiser=Optimiser(kind=optimiser))
    task = Task.seeded(workload, 0).rounded("float32")
    expected = Expected(task, 0, keep=False)
    model = runtime.build(task.workload.replace(dtype="float64"), task.weights, "eager")

    def run(stochastic: Stochastic) -> Values:
        with stochastic:
            return computed(runtime, model, task)

    reference = expected.noise("float32")
    ratios = {
        name: noise.rms / reference[name].rms
        for name, noise in noise_in_pytorch(run, expected.values("float32")).items()
        if reference[name].rms
    }
    record_property("ratios", ratios)
    off = {name: ratio for name, ratio in ratios.items() if not 1 / FACTOR < ratio < FACTOR}
    assert len(ratios) >= 10
    assert not off
