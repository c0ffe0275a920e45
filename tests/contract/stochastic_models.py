"""The noise of built-in models by JAX's side, against that of the NumPy reference; for a process of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from faceoff.agreement.check import Expected
from faceoff.agreement.noise import noise_of
from faceoff.agreement.quantities import OUTPUTS, named_gradients
from faceoff.core.contract import Settings
from faceoff.core.spec import DenseSpec, LstmSpec, ModelSpec, ResidualSpec, RnnSpec, Workload
from faceoff.reference.arithmetic import UNIT_ROUNDOFF
from faceoff.workloads.task import Task
from impls.jax import RUNTIME
from impls.jax.stochastic import Stochastic
from tests.contract.stochastic_measures import RUNS, SMALL, Values

RECURRENT: dict[str, Any] = {"input_size": 10, "hidden_size": 16, "output_size": 5, "sequence_length": 12}
MODELS: dict[str, ModelSpec] = {
    "dense": DenseSpec((40, 64, 48, 10)),
    "residual": ResidualSpec(8, 8, 3, (4, 8), 1, 5),
    "rnn": RnnSpec(**RECURRENT, num_layers=2),
    "rnn of many": RnnSpec(**RECURRENT, many_to_many=True),
    "lstm": LstmSpec(**RECURRENT, num_layers=2),
    "lstm of many": LstmSpec(**RECURRENT, many_to_many=True),
}


def against_reference(kind: str, dtype: str, unit: float = SMALL, seed: int = 0) -> dict[str, dict[str, float]]:
    """A built-in model in JAX: its noise over the NumPy reference's, and how far its centre is from the reference."""
    RUNTIME.configure(Settings(device="cpu", threads=1))
    workload = Workload(MODELS[kind], 8)
    task = Task.seeded(workload, seed).rounded(dtype)
    expected = Expected(task, seed, keep=False)
    model = RUNTIME.build(workload.replace(dtype="float64"), task.weights, "jit")
    inputs, targets = RUNTIME.place(task.batches[0], "float64")

    def both(trained: Any, statistics: Any, inputs: Any, targets: Any) -> Any:
        return model._logits(trained, statistics, inputs), model._differentiate(trained, statistics, inputs, targets)

    def run(noisy: Stochastic) -> Values:
        outputs, gradients = noisy.run(model._trained, model._statistics, inputs, targets)
        return {OUTPUTS: np.asarray(outputs), **named_gradients(model.canonical(gradients))}

    noisy = Stochastic(both, dtype, unit)
    centre = run(noisy.again(unit_roundoff=0.0))
    times = UNIT_ROUNDOFF[dtype] / unit
    runs = [
        {q: centre[q] + times * (x - centre[q]) for q, x in run(noisy.again(number)).items()} for number in range(RUNS)
    ]
    ours, theirs, exact = noise_of(centre, runs, dtype), expected.noise(dtype), expected.values(dtype)
    return {
        "ratios": {q: ours[q].rms / theirs[q].rms for q in centre},
        "off": {q: float(np.max(np.abs(centre[q] - exact[q]))) / float(np.max(np.abs(exact[q]))) for q in centre},
    }
