"""What timed calls have to return, at the whole size of their batch, judged by the reference's results on few examples.

A timed batch holds the examples that were compared, over and over, in an order that leaves no part of it with the same
mixture as another. Outputs, loss, gradients and training steps of the whole then follow from those of the few, batch
norm included, and whoever computes part of a batch computes something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from faceoff.agreement.check import WIDE_DTYPES, Expected
from faceoff.agreement.comparison import compare_all
from faceoff.agreement.noise import Noise, Values, rms
from faceoff.agreement.quantities import (
    RESET_STEP,
    Held,
    after_steps,
    flat,
    input_gradient,
    is_output,
    named_gradients,
    named_outputs,
)
from faceoff.core.spec import OwnSpec, Workload
from faceoff.core.weights import STATES, Batch, seeded_batch
from faceoff.pool.memory import timed_batches
from faceoff.pool.worker import Worker
from faceoff.results.agreements import Quantity
from faceoff.workloads.task import TRAINING_STEPS, Task
from faceoff.workloads.work import counted_flops

# Where time is measured, no more examples are compared, and of large models no more than these operations forward, as
# far as that leaves a few: the reference, which trains 18 times, would take minutes otherwise.
MOST_EXAMPLES, FEWEST_EXAMPLES = 64, 4
MOST_FLOPS = 4e9
# The reference side of a user's own model is asked for more, eagerly and on one thread.
MOST_FLOPS_OF_OWN = 1e9
# A batch that no suitable number of examples divides is computed by the reference as a whole, once, up to this size.
MOST_FLOPS_OF_A_WHOLE = 8e9
# As far where operations are not counted.
MOST_EXAMPLES_OF_A_WHOLE = 1024
# Examples of a timed batch come up so often at most in what is compared, from its first to its last.
MOST_COPIES = 16
# These add up large batches so coarsely that only this share of a gradient is judged: eight times as much is too much.
NARROW, COARSE = ("float16", "bfloat16", "mixed_bfloat16"), 1 / 64
SMALLEST_FLOAT16 = 2.0**-24
LOSSES = "losses in training"
OF_LAST_CALL, OF_NEW_CALL = " of the last timed call", " of a call on a new batch"
TIMED_AGAIN = ", timed again from the starting weights"
LAST_LOSS = f"loss{OF_LAST_CALL}"
TRAINED = after_steps(TRAINING_STEPS)


def examples_compared(workload: Workload) -> int:
    """On how many examples the agreement of a timed workload is checked: if it can be, a divisor of its batch size."""
    own, size = isinstance(workload.model, OwnSpec), workload.batch_size
    one = counted_flops(workload.replace(batch_size=1, step="inference")) or 0
    most = MOST_EXAMPLES
    if one:
        most = min(most, max(FEWEST_EXAMPLES, int((MOST_FLOPS_OF_OWN if own else MOST_FLOPS) // one)))
    if size <= most or own:
        # Of a user's own model the whole is computed too, so that no number need divide it.
        return min(size, most)
    divisor = next(count for count in range(most, 0, -1) if size % count == 0)
    enough = max(FEWEST_EXAMPLES, most // 8) if one * size > MOST_FLOPS_OF_A_WHOLE else most / 2
    return divisor if divisor >= enough else most


def is_judged_whole(workload: Workload, examples: int) -> bool:
    """Whether loss, gradients and training of a timed batch are known, of which so many examples were compared.

    Otherwise its outputs alone are: no suitable number divides it, and it is too large for the reference.
    """
    whole = workload.replace(step="inference")
    flops = counted_flops(whole)
    if flops is None:
        return whole.batch_size <= MOST_EXAMPLES_OF_A_WHOLE
    follows = whole.batch_size % examples == 0 and not isinstance(workload.model, OwnSpec)
    return follows or whole.batch_size == examples or flops <= MOST_FLOPS_OF_A_WHOLE


def choose_rows(examples: int, size: int, seed: int) -> np.ndarray:
    """Which of the `examples` stands at each of the `size` places of a batch; each as often as any other, or once more.

    An example's copies stand mostly near each other: so each part of the batch has a mixture of its own.
    """
    rows = np.arange(size) % examples
    if size == examples:
        return rows
    rng = np.random.default_rng([seed, size])
    return rows[np.argsort(rng.random(examples)[rows] + rng.random(size))]


class TimedExpected:
    """The task that is timed, and what each of its steps has to return.

    Args:
        workload: what is timed, of any step.
        part: the reference's side of the same with the examples that were compared.
        seed: of the order of examples.
    """

    def __init__(self, workload: Workload, part: Expected, seed: int) -> None:
        self._part, self._size, self._seed = part, workload.batch_size, seed
        self._examples = part.task.workload.batch_size
        # Every batch has an order of its own. Only what the first one gives is known, but for training.
        count = TRAINING_STEPS if self._size == self._examples else timed_batches(workload)
        orders = [choose_rows(self._examples, self._size, seed + index) for index in range(count)]
        self._rows = orders[0]
        self.task = part.task
        if self._size != self._examples:
            batches = [batch.pick(rows) for batch, rows in zip(part.task.batches, orders, strict=False)]
            self.task = Task(workload.replace(step="training"), part.task.weights, batches)
        # Along which axis the examples lie; initial states have the layers first.
        self._of_inputs = {input_gradient(name): int(name in STATES) for name in part.task.batches[0].inputs}
        self._whole: dict[str, Values] = {}

    def problem(self, step: str, got: Values, dtype: str, new: bool = False) -> str:
        """What is wrong with the `timed_values` of a step; empty when nothing is.

        Args:
            step: inference, gradients or training.
            got: what a process returned.
            dtype: working dtype.
            new: on the first of the batches that were never loaded, not on the first of those that were.
        """
        return self._problem(self._values(step, dtype), step, got, dtype, new)

    def _problem(self, expected: Values, step: str, got: Values, dtype: str, new: bool) -> str:
        """The same by the `_values` of a step."""
        where = OF_NEW_CALL if new else TIMED_AGAIN if step == "training" else OF_LAST_CALL
        for name, value in got.items():
            if not np.isfinite(value).all():
                return f"{name}{'' if name == LAST_LOSS else where}: not finite"
        for name in (name for name in expected if self._is_by_example(name) and name in got):
            shape = list(expected[name].shape)
            shape[self._axis(name)] = self._size
            if list(got[name].shape) != shape:
                return f"{name}{where}: wrong shape: got {list(got[name].shape)}, expected {shape}"
        noises = self._noises(dtype)
        noise = self._noise(expected, dtype, next(noises))
        for places in self._copies(new):
            of_copy, folded = self._copy_of(expected, places), self._picked(got, places)
            found = self._disagreeing(of_copy, folded, dtype, noise)
            while found and (larger := next(noises, None)):
                noise = self._noise(expected, dtype, larger)
                found = self._disagreeing(of_copy, folded, dtype, noise)
            for quantity in found:
                what = quantity.problem or f"{quantity.noise_units:.3g} noise units off"
                return f"{quantity.name}{where}: {what} (limit {quantity.limit:g})"
            # All else is compared once.
            expected = {name: value for name, value in expected.items() if self._is_by_example(name)}
        return ""

    def _is_by_example(self, name: str) -> bool:
        """Whether a quantity has a part for each example, along `_axis`."""
        return is_output(name) or name in self._of_inputs

    def _axis(self, name: str) -> int:
        return self._of_inputs.get(name, 0)

    def _copy_of(self, expected: Values, places: np.ndarray) -> Values:
        """What is expected at places that hold every example once: of all copies the same."""
        return expected

    def _picked(self, values: Values, places: np.ndarray) -> Values:
        """The values at some places of the batch, of what has a part for each example."""
        return {
            name: np.take(value, places, self._axis(name)) if self._is_by_example(name) else value
            for name, value in values.items()
        }

    def _noises(self, dtype: str) -> Iterator[dict[str, Noise]]:
        """The noise of the compared examples, and larger ones for what that does not explain."""
        yield self._part.noise(dtype)
        yield self._part.larger_noise(dtype)
        yield self._part.grown_noise(dtype)

    def _disagreeing(self, expected: Values, got: Values, dtype: str, noise: Mapping[str, Noise]) -> list[Quantity]:
        """What a timed step got wrong, in the order of computation; a ReLU that rounding decides is nobody's fault."""
        quantities = compare_all(expected, got, dtype, noise)
        if not all(quantity.agrees for quantity in quantities) and dtype in WIDE_DTYPES:
            # As the examples that were compared have it by themselves.
            more = self._size / self._examples
            up = {name: more if name in self._of_inputs else 1.0 for name in expected}
            alone = {name: got[name] * up[name] for name in expected if name in got}
            own_noise = {name: noise[name].times(up[name]) for name in expected}
            settled = self._part.settle(quantities, alone, dtype, own_noise)
            quantities = settled.quantities if settled else quantities
        return [quantity for quantity in quantities if not quantity.agrees]

    def new_batch(self, index: int) -> Batch:
        """One that was never loaded, another for every `index`; the first is the first batch in reverse order."""
        if not index:
            return self.task.batches[0].pick(np.arange(self._size)[::-1])
        few = self._part.task.workload.replace(dtype="float64")
        return seeded_batch(few, self._seed, TRAINING_STEPS + index).pick(self._rows)

    def _copies(self, new: bool) -> Iterator[np.ndarray]:
        """Places in a batch at which every example stands once: of its copies the first, ..., the last."""
        rows = self._rows[::-1] if new else self._rows
        places = [np.flatnonzero(rows == example) for example in range(self._examples)]
        most = max(len(of_one) for of_one in places)
        for copy in np.unique(np.linspace(0, most - 1, min(most, MOST_COPIES)).astype(int)):
            yield np.array([of_one[min(copy, len(of_one) - 1)] for of_one in places])

    def _values(self, step: str, dtype: str) -> Values:
        """What is known of a step, float64; of what has a part for each example, one copy."""
        part = self._part.values(dtype)
        names = [name for name in part if self._belongs(name, step)]
        if self._size == self._examples:
            return {name: part[name] for name in names}
        share = self._examples / self._size
        found = {name: part[name] * (share if name in self._of_inputs else 1.0) for name in names}
        if self._size % self._examples == 0 or step == "inference":
            return found
        if not is_judged_whole(self.task.workload, self._examples):
            # Without batch norm no example's gradient depends on how often others stand in the batch.
            if self.task.workload.model.kind == "residual":
                return {}
            return {name: value for name, value in found.items() if self._is_by_example(name)}
        whole = self._compute_whole(dtype)
        return self._picked({name: whole[name] for name in names}, next(self._copies(new=False)))

    def _belongs(self, name: str, step: str) -> bool:
        if step == "inference":
            return is_output(name)
        if step == "gradients":
            return name == "loss" or name.startswith("gradient of ")
        if len(self.task.batches) == 1:
            return name in ("loss", RESET_STEP)
        return name == LOSSES or (name.endswith(TRAINED) and not name.startswith("output"))

    def _compute_whole(self, dtype: str) -> Values:
        if dtype not in self._whole:
            self._whole = {dtype: self._part.values_of(self.task, dtype)}
        return self._whole[dtype]

    def _noise(self, expected: Values, dtype: str, noise: Mapping[str, Noise]) -> dict[str, Noise]:
        """That of the compared examples, and what sums over so many more of them add to it."""
        more = self._size / self._examples
        starting = {name: value.astype(np.float64) for name, value in self.task.cast_weights(dtype).items()}
        before = {f"weight {name!r} {TRAINED}": value for name, value in starting.items()} | {
            RESET_STEP: flat(starting)
        }
        found = {}
        for name, value in expected.items():
            if is_output(name) or more == 1:
                found[name] = noise[name]
                continue
            scale = 1 / more if name in self._of_inputs else 1.0
            least = COARSE * rms(value - before.get(name, 0.0)) if dtype in NARROW else 0.0
            if dtype == "float16":
                least += SMALLEST_FLOAT16 * (1.0 if name in self._of_inputs else np.sqrt(self._size))
            found[name] = noise[name].times(scale * np.sqrt(more))
            if least:
                found[name] = Noise(float(np.hypot(found[name].rms, least)))
        return found


def timed_values(worker: Worker, step: str, task: Task, dtype: str) -> Values:
    """What a process returned in the last timed call, on the first batch; for training, what timed steps do to it.

    Nobody knows where thousands of steps lead, so training starts again from the starting weights. Raises WorkerError.

    Args:
        worker: its model holds the batches of `task`, its last timed call was on the first of them.
        step: what was timed.
        task: what was timed.
        dtype: working dtype.
    """
    if step != "training":
        return last_values(worker, step)
    last, weights, losses = worker.request("last_value", step=step), task.cast_weights(dtype), []
    worker.request("reset", weights=weights)
    for index in range(len(task.batches)):
        worker.request("time", step=step, warmup=0, iterations=1, start=index)
        losses.append(worker.request("last_value", step=step)["value"])
    held = Held(worker.request("weights"), worker.request("optimiser_state"))
    found = {LAST_LOSS: last["value"]}
    if len(losses) == 1:
        return found | {"loss": losses[0], RESET_STEP: flat(held.weights)}
    return found | {LOSSES: np.stack(losses), **dict(held.named(TRAINED))}


def last_values(worker: Worker, step: str) -> Values:
    """What the last timed call of inference or gradients returned. Raises WorkerError."""
    value = worker.request("last_value", step=step)
    return named_gradients(value) if step == "gradients" else named_outputs(value["value"])
