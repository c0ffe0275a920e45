"""Where a contender that disagrees leaves the reference's way: the first layer, gradient, weight or training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.comparison import compare_all
from harness.core.weights import trainable_names
from harness.live_worker import Worker
from harness.noise import NOISE_RUNS, Values, noise_of
from harness.reference import ReferenceModel
from harness.reference.arithmetic import Exact, Rounded, noise_generator
from harness.results import Quantity
from harness.task import Task


def find_first_difference(worker: Worker, task: Task, dtype: str, quantities: Sequence[Quantity]) -> str:
    """Names what differs first on the way from the starting weights through every training step.

    Forward, layer by layer, in inference and in training mode; the loss; the gradients, from the output backwards; what
    should not change and did; then, step by step, the weights and the layers that use them. Whatever comes before the
    named place agrees, so nothing is blamed for another's fault. Raises WorkerError.
    """
    failing = [quantity.name for quantity in quantities if not quantity.agrees]
    weights, _ = task.cast(dtype)
    worker.request("reset", weights=weights)
    reference = _References(task.rounded(dtype), dtype)
    if found := reference.differing_layer(worker, training=False):
        return found
    if "outputs" in failing:
        return "outputs"
    if found := reference.differing_layer(worker, training=True):
        return found
    if "loss" in failing:
        return "loss"
    names = [repr(name) for name in reversed(trainable_names(task.workload.model))]
    for name in [*names, *(f"input {name!r}" for name in task.batches[0].inputs)]:
        if f"gradient of {name}" in failing:
            return f"gradient of {name} (backward)"
    if "weights before training" in failing:
        worker.request("forward", indices=[0])
        worker.request("gradients", index=0)
        if found := reference.differing_weight(worker):
            return f"{found} before training"
    for step in range(1, len(task.batches) + 1):
        worker.request("train", indices=[step - 1])
        reference.train(step - 1)
        if found := reference.differing_weight(worker) or reference.differing_layer(worker, training=False):
            return f"{found} after training step {step}"
    return failing[0] if failing else ""


class _References:
    """The reference and its runs in stochastic arithmetic, trained side by side."""

    def __init__(self, task: Task, dtype: str) -> None:
        rounded = [Rounded(dtype, noise_generator(run)) for run in range(NOISE_RUNS)]
        workload = task.workload
        self._models = [
            ReferenceModel(workload.model, task.weights, workload.optimiser, arithmetic)
            for arithmetic in (Exact(), *rounded)
        ]
        self._task, self._dtype = task, dtype

    def train(self, index: int) -> None:
        """One training step on batch `index`."""
        for model in self._models:
            model.train_step(self._task.batches[index])

    def differing_layer(self, worker: Worker, training: bool) -> str:
        """The first layer whose output on the first batch differs, and the mode; empty if all agree."""
        got = dict(worker.request("trace", index=0, training=training)["values"])
        names = self._differing(got, lambda model: model.trace(self._task.batches[0], training))
        return f"{names[0]} ({'training' if training else 'inference'})" if names else ""

    def differing_weight(self, worker: Worker) -> str:
        """The first weight or running statistic that differs; `all weights` if all do; empty if none does."""
        names = self._differing(worker.request("weights"), lambda model: model.weights())
        if names and set(trainable_names(self._task.workload.model)) <= set(names):
            return "all weights"
        return repr(names[0]) if names else ""

    def _differing(self, got: Values, values: Callable[[ReferenceModel], Values]) -> list[str]:
        exact, *runs = (values(model) for model in self._models)
        noise = noise_of(exact, runs, self._dtype)
        return [quantity.name for quantity in compare_all(exact, got, self._dtype, noise) if not quantity.agrees]
