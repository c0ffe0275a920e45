"""The norm of dLoss/dh_t over the time steps: how far the gradient of a vanilla RNN and of an LSTM reaches back.

Going back one step multiplies the gradient by W_hh^T and by the slope of the activation (Bengio, Simard and Frasconi
1994; Pascanu, Mikolov and Bengio 2013). The signal is kept so small that the slope of tanh stays near 1: then the
spectral radius of W_hh alone decides. At full size tanh saturates, and its slope makes up for a radius of 1.5.

An LSTM's cell state is multiplied by the forget gate at every step (Gers, Schmidhuber and Cummins 2000), so what
decides there is how far that gate is open. With a signal this small it stands at the sigmoid of its bias, and a curve
is made for several of them (Jozefowicz, Zaremba and Sutskever 2015 recommend 1 or more), all with the radius that lets
the RNN's gradient vanish. With a bias of 0 the gate is half shut, and the gradient vanishes too.

For a many-to-one model dLoss/dh_t is the gradient by the initial state of the same model, run over the rest of the
sequence and started at h_t (and c_t). So every contender gives its curve through `Model.gradients`, with one model for
each length; the reference finds its own in one backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np

from faceoff.agreement.comparison import NOISE_LIMIT, compare_quantity
from faceoff.agreement.findings import MISSING_GRADIENT
from faceoff.agreement.noise import NOISE_RUNS, Noise, noise_of, remembered, rms, task_key
from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender, LstmSpec, RecurrentSpec, RnnSpec, Workload
from faceoff.core.weights import Batch, Weights, seeded_batch, seeded_weights
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.memory import reason_of
from faceoff.pool.worker import Worker
from faceoff.reference import ReferenceModel
from faceoff.reference.arithmetic import noise_generator, unit_roundoff
from faceoff.reference.rounding import Rounded
from faceoff.results.agreements import Quantity
from faceoff.results.trainings import GradientNorms

SPECS: dict[str, RecurrentSpec] = {"rnn": RnnSpec(8, 32, 10, 60), "lstm": LstmSpec(8, 32, 10, 60)}
BATCH_SIZE = 8
SPECTRAL_RADII = (0.5, 1.0, 1.5)
# Of an LSTM's forget gate, which then stands at 0.5, 0.73, 0.88 and 0.993; at the smallest of the radii above.
FORGET_BIASES = (0.0, 1.0, 2.0, 5.0)
LSTM_RADIUS = SPECTRAL_RADII[0]
# A power of two, so that scaled values stay exact in float32.
SIGNAL = 2.0**-30
# Time steps left after t. Geometric: each length is a model of its own, to be built and compiled, so that there are
# few where something is compiled.
STEPS_LEFT = (60, 40, 25, 15, 8, 4, 2, 1)
FEW_STEPS_LEFT = (60, 25, 1)

Curve = dict[int, np.ndarray]
"""dLoss/dh_t `(batch_size, hidden_size)` by t."""


def choose_contenders(contenders: Sequence[Contender]) -> list[Contender]:
    """One contender of each framework: the first that is quick to build for many lengths, else the first."""
    chosen: dict[str, Contender] = {}
    for contender in contenders:
        kept = chosen.setdefault(contender.framework, contender)
        if _compiles(contender) != "slowly" and _compiles(kept) == "slowly":
            chosen[contender.framework] = contender
    return list(chosen.values())


def _compiles(contender: Contender) -> str:
    mode = FRAMEWORKS[contender.framework].modes.get(contender.mode)
    return mode.compiles if mode else "slowly"


def settings(kind: str) -> list[tuple[float, float | None]]:
    """Spectral radius and forget-gate bias of each curve of a model family."""
    if SPECS[kind].num_gates == 1:
        return [(radius, None) for radius in SPECTRAL_RADII]
    return [(LSTM_RADIUS, bias) for bias in FORGET_BIASES]


def steps_left(contender: Contender) -> tuple[int, ...]:
    """The lengths that a contender is built for; few where each has to be compiled."""
    return STEPS_LEFT if _compiles(contender) == "nothing" else FEW_STEPS_LEFT


@dataclass(frozen=True)
class NormTask:
    """What reference and contender both compute, for one model, one spectral radius and one bias of the forget gate.

    Args:
        workload: the whole sequence; its dtype does not matter to the reference.
        spectral_radius: largest of the spectral radii of the gates' blocks of W_hh; the vanilla RNN has one block.
        forget_bias: of every unit's forget gate; None for a model without one.
        weights, batch: canonical, float64, exact in float32.
    """

    workload: Workload
    spectral_radius: float
    forget_bias: float | None
    weights: Weights
    batch: Batch

    @staticmethod
    def seeded(kind: str, spectral_radius: float, forget_bias: float | None, device: str, seed: int) -> NormTask:
        """The task of a model family.

        W_hh is scaled as a whole, inputs, initial states and all biases but the forget gate's by `SIGNAL`.
        """
        spec = SPECS[kind]
        workload = Workload(spec, BATCH_SIZE, "float64", device, "gradients")
        weights, batch = seeded_weights(spec, seed), seeded_batch(workload, seed)
        weight_hh = weights["layer.0.weight_hh"]
        scaled = weight_hh * (spectral_radius / largest_radius(spec, weight_hh))
        weights["layer.0.weight_hh"] = scaled.astype(np.float32).astype(np.float64)
        bias = weights["layer.0.bias"] * SIGNAL
        if forget_bias is not None:
            bias[spec.hidden_size : 2 * spec.hidden_size] = forget_bias
        weights["layer.0.bias"] = bias
        inputs = {name: value * SIGNAL for name, value in batch.inputs.items()}
        return NormTask(workload, spectral_radius, forget_bias, weights, Batch(inputs, batch.targets))

    @property
    def spec(self) -> RecurrentSpec:
        spec = self.workload.model
        assert isinstance(spec, RecurrentSpec)
        return spec

    def rest(self, t: int, states: Mapping[str, np.ndarray]) -> tuple[Workload, Batch]:
        """The same task from time step t on, started at `states`, each `(batch_size, hidden_size)`."""
        spec = replace(self.spec, sequence_length=self.spec.sequence_length - t)
        starts = {name: value[np.newaxis] for name, value in states.items()}
        batch = Batch({"x": self.batch.inputs["x"][:, t:], **starts}, self.batch.targets)
        return self.workload.replace(model=spec), batch.astype("float64")


def largest_radius(spec: RecurrentSpec, weight_hh: np.ndarray) -> float:
    """The largest spectral radius of the gates' blocks of `weight_hh` `(num_gates * hidden_size, hidden_size)`."""
    return max(float(np.abs(np.linalg.eigvals(block)).max()) for block in np.split(weight_hh, spec.num_gates))


class ExpectedNorms:
    """The reference's curve of a task, and its rounding noise.

    Args:
        task: what is computed.
        seed: of the stochastic arithmetic.
    """

    def __init__(self, task: NormTask, seed: int) -> None:
        self.task = task
        self._seed = seed
        self._noise: dict[tuple[str, bool], dict[str, float]] = {}
        states, gradients = ReferenceModel(task.spec, task.weights).through_time(task.batch)
        self._states = states
        self.curve: Curve = dict(enumerate(gradients))

    def states(self, t: int) -> dict[str, np.ndarray]:
        """h_t, and c_t of an LSTM, each `(batch_size, hidden_size)`."""
        return {name: values[t] for name, values in self._states.items()}

    def noise(self, dtype: str, alike: bool = False) -> dict[str, float]:
        """The rms rounding noise of dLoss/dh_t in `dtype`, by t as text.

        Args:
            dtype: working dtype.
            alike: equal values are rounded alike. A gate that stands at its bias is off by the same at every step; over
                n steps that grows with n, and errors of their own with the root of n.
        """
        if (dtype, alike) not in self._noise:
            settings = self.task.workload.to_json(), dtype, self._seed, STEPS_LEFT, alike
            key = task_key("gradient norms", settings, self.task.weights, [self.task.batch])
            self._noise[dtype, alike] = remembered(key, lambda: self._find_noise(dtype, alike))
        return self._noise[dtype, alike]

    def underflows(self, t: int, dtype: str) -> bool:
        """Whether elements of dLoss/dh_t, or terms that still count in them, are too small to be normal in `dtype`."""
        return rms(self.curve[t]) < float(np.finfo(dtype).tiny) / unit_roundoff(dtype)

    def _find_noise(self, dtype: str, alike: bool) -> dict[str, float]:
        if alike:
            # Each by itself: in one batch equal values of all runs would be rounded alike.
            runs = [self.run_alike(dtype, number) for number in range(NOISE_RUNS)]
        else:
            arithmetic = Rounded(dtype, noise_generator(self._seed))
            disturbed = {str(t): self._disturbed(t, arithmetic, NOISE_RUNS) for t in self._moments}
            runs = [{name: gradients[run] for name, gradients in disturbed.items()} for run in range(NOISE_RUNS)]
        noise = noise_of({str(t): self.curve[t] for t in self._moments}, runs, dtype)
        return {name: found.rms for name, found in noise.items()}

    def run_alike(self, dtype: str, number: int) -> dict[str, np.ndarray]:
        """dLoss/dh_t by t as text, from one run in which equal values are rounded alike."""
        arithmetic = Rounded(dtype, noise_generator(self._seed, number), alike=True)
        return {str(t): self._disturbed(t, arithmetic, 1)[0] for t in self._moments}

    @property
    def _moments(self) -> list[int]:
        return [self.task.spec.sequence_length - left for left in STEPS_LEFT]

    def _disturbed(self, t: int, arithmetic: Rounded, count: int) -> np.ndarray:
        """dLoss/dh_t from runs over the rest of the sequence `(runs, batch_size, hidden_size)`.

        Examples do not meet before the mean loss, and each is rounded on its own: one large batch holds all runs.
        """
        starts = {name: np.tile(value, (count, 1)) for name, value in self.states(t).items()}
        for value in starts.values():
            arithmetic.disturb(value)  # as the contender's start is rounded when it is handed over
        workload, batch = self.task.rest(t, starts)
        x, targets = np.tile(batch.inputs["x"], (count, 1, 1)), np.tile(batch.targets, count)
        model = ReferenceModel(workload.model, self.task.weights, arithmetic=arithmetic)
        gradients = model.gradients(Batch({**batch.inputs, "x": x}, targets))["inputs"]["h0"]
        runs: np.ndarray = count * gradients.reshape(count, *self.curve[t].shape)
        return runs


def make_expected(kind: str, device: str, seed: int) -> list[ExpectedNorms]:
    """The reference's side for one model family, in the order of `settings`."""
    return [ExpectedNorms(NormTask.seeded(kind, *setting, device, seed), seed) for setting in settings(kind)]


def contender_curves(
    worker: Worker, mode: str, expected: Sequence[ExpectedNorms], dtype: str, lengths: Sequence[int]
) -> list[Curve]:
    """A contender's curve for each of `expected`, which differ in weights alone. Raises WorkerError.

    Args:
        worker: of the contender.
        mode: its mode.
        expected: gives the states that the contender starts from.
        dtype: working dtype.
        lengths: numbers of time steps left, one model each.
    """
    curves: list[Curve] = [{} for _ in expected]
    for left in lengths:
        t = expected[0].task.spec.sequence_length - left
        rests = [reference.task.rest(t, reference.states(t)) for reference in expected]
        weights = [{n: value.astype(dtype) for n, value in e.task.weights.items()} for e in expected]
        workload = rests[0][0].replace(dtype=dtype).to_json()
        worker.request("build", workload=workload, mode=mode, weights=weights[0])
        worker.request("load", batches=[batch.astype(dtype).to_json() for _, batch in rests])
        for index, curve in enumerate(curves):
            worker.request("reset", weights=weights[index])
            by_inputs = worker.request("gradients", index=index)["inputs"]
            if "h0" not in by_inputs:
                what = f"gradient of input 'h0': {MISSING_GRADIENT}"
                raise WorkerError(what, outcome="disagrees", where=str(worker.contender))
            # The layer axis has length 1.
            curve[t] = np.asarray(by_inputs["h0"])[0]
    return curves


def judge_curve(record: GradientNorms, expected: ExpectedNorms, curve: Curve) -> GradientNorms:
    """Compares a contender's curve with the reference's, point by point, and fills the record.

    A point that underflows in the working dtype is recorded and not judged.
    """
    dtype = str(record.workload["dtype"])
    noise, moments = expected.noise(dtype), sorted(curve)

    def judge() -> dict[int, Quantity]:
        return {
            t: compare_quantity(f"dLoss/dh_{t}", curve[t], expected.curve[t], dtype, Noise(noise[str(t)]))
            for t in moments
        }

    points = judge()
    if not all(point.agrees for point in points.values()):
        alike = expected.noise(dtype, alike=True)
        noise = {t: max(value, alike[t]) for t, value in noise.items()}
        points = judge()
    record.time_steps = moments
    record.norms = [_norm(curve[t]) for t in moments]
    record.reference_norms = [_norm(expected.curve[t]) for t in moments]
    record.noise = [noise[str(t)] for t in moments]
    record.distances = [points[t].noise_units for t in moments]
    record.underflow = [t for t in moments if expected.underflows(t, dtype)]
    record.limit = NOISE_LIMIT
    failing = [t for t in moments if t not in record.underflow and not points[t].agrees]
    if failing:
        worst = max(failing, key=lambda t: np.inf if (found := points[t].noise_units) is None else found)
        record.outcome = "disagrees"
        record.reason = _reason(points[worst], _norm(curve[worst]), _norm(expected.curve[worst]))
        record.reason += f"; {len(failing)} of {len(moments)} time steps disagree; again: {record.again}"
    return record


def _norm(gradient: np.ndarray) -> float | None:
    norm = float(np.linalg.norm(gradient.astype(np.float64)))
    return norm if np.isfinite(norm) else None


def _reason(point: Quantity, norm: float | None, reference: float | None) -> str:
    if point.problem or point.noise_units is None:
        what = f"is {point.problem or 'not finite'}"
    else:
        what = f"is {point.noise_units:.3g} noise units off (limit {point.limit:g})"
    shown = ["not finite" if value is None else f"{value:.3g}" for value in (norm, reference)]
    return f"{point.name} {what}: norm {shown[0]}, reference {shown[1]}"


def judge_norms(
    get_worker: Callable[[], Worker],
    contender: Contender,
    expected: Callable[[], list[ExpectedNorms]],
    dtype: str,
    *,
    again: str,
    busy: AbstractContextManager[object],
) -> list[GradientNorms]:
    """A contender's curves for one model family, one record for each of its `settings`.

    A worker that dies, hangs or refuses becomes the outcome of all of them.

    Args:
        get_worker: gives the contender's worker, or raises WorkerError.
        contender: who computes.
        expected: gives the reference's side; its states are what the contender starts from.
        dtype: working dtype.
        again: the command that repeats it.
        busy: held while the worker computes, so that only so many do at a time.
    """
    references = expected()
    records = [
        GradientNorms(
            workload=reference.task.workload.replace(dtype=dtype).to_json(),
            spectral_radius=reference.task.spectral_radius,
            forget_bias=reference.task.forget_bias,
            contender=str(contender),
            outcome="ok",
            again=again,
        )
        for reference in references
    ]
    try:
        with busy:
            curves = contender_curves(get_worker(), contender.mode, references, dtype, steps_left(contender))
    except WorkerError as error:
        reason = reason_of(error, references[0].task.workload.device)
        return [record.model_copy(update={"outcome": error.outcome, "reason": reason}) for record in records]
    return [judge_curve(*parts) for parts in zip(records, references, curves, strict=True)]
