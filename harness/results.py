"""The typed result of a run: what the result file holds under its key `faceoff`.

Durations are seconds, sizes whole bytes. A number that was not finite is stored as null. `harness.result_file` reads
and writes the files.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from harness.core.errors import Outcome
from harness.core.spec import Workload

SCHEMA_VERSION = 1
VerdictWord = Literal["faster", "slower", "tie", "unresolved"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")


class ContenderInfo(_Record):
    """What is known of a contender in this run.

    Attributes:
        outcome: `ok`, or why it could not start at all (`missing`, `crashed`, ...).
        reason: one line, empty when `ok`.
        next_step: what would mend it, such as the command that installs the framework.
        versions: distribution name to version.
        settings: switches in force: device, threads, precision, environment, as the framework reports them.
    """

    contender: str
    outcome: Outcome
    reason: str = ""
    next_step: str = ""
    versions: dict[str, str] = {}
    settings: dict[str, Any] = {}


class Quantity(_Record):
    """One quantity compared with the reference.

    Attributes:
        name: `outputs`, `loss`, `gradient of 'layer.0.weight'`, `gradient of input 'x'`,
            `weight 'head.bias' after 3 training steps`, ...
        agrees: within the limit of its check.
        error: largest absolute error divided by the reference's largest absolute value; null when not finite.
        noise_units: rms error in units of this computation's rounding noise in its dtype; null when not finite.
        limit: what `noise_units` may reach.
        worst_index, got, reference: the element with the largest error; `got` is null when not finite or absent.
        problem: what else is wrong, such as `not finite`, `wrong shape`, `missing`; empty otherwise.
    """

    name: str
    agrees: bool
    error: float | None
    noise_units: float | None
    limit: float
    worst_index: list[int]
    got: float | None
    reference: float | None
    problem: str = ""


class Agreement(_Record):
    """One contender against the reference on one model, batch size, dtype and device, over all quantities.

    Attributes:
        workload: as `Workload.to_json`; its step is `training`, which covers all quantities.
        check: `meaning` (float64) or `precision` (the working dtype).
        outcome: `ok`, `disagrees`, or how the case ended otherwise; `reason` says more.
        first_difference: the first layer, gradient or weight that differs, empty when all agree.
        message: the disagreement in words, empty when all agree.
        again: the command that repeats this check.
        log_tail: the end of the worker's log when it crashed or hung.
    """

    workload: dict[str, Any]
    contender: str
    check: Literal["meaning", "precision"]
    outcome: Outcome
    quantities: list[Quantity] = []
    first_difference: str = ""
    message: str = ""
    again: str = ""
    reason: str = ""
    log_tail: str = ""

    @property
    def worst(self) -> Quantity | None:
        """The quantity nearest to, or farthest over, its limit; None when nothing was compared."""
        return max(self.quantities, key=_badness, default=None)


def _badness(quantity: Quantity) -> float:
    if quantity.problem or quantity.noise_units is None:
        return float("inf")
    return quantity.noise_units / quantity.limit


class Speed(_Record):
    """Steady-state rounds of one case.

    Attributes:
        rounds_s: recorded rounds in the order they were run, seconds per call (iterations divided out).
        iterations: calls in each round.
        warmup_calls: calls before the first round, not recorded.
        median_s, interval_s: median of the rounds, and its 95 % interval from order statistics.
    """

    rounds_s: list[float]
    iterations: int
    warmup_calls: int
    median_s: float
    interval_s: tuple[float, float]


class CaseResult(_Record):
    """One workload run by one contender, with exactly one outcome.

    Attributes:
        name: unique in the file: workload name and contender.
        ledger: the case's part of the fairness ledger: kernel, layout, what was compiled.
        speed: None unless it was timed; comparable only when `outcome` is `ok`.
    """

    name: str
    workload: dict[str, Any]
    contender: str
    outcome: Outcome
    reason: str = ""
    log_tail: str = ""
    ledger: dict[str, Any] = {}
    speed: Speed | None = None

    def parsed_workload(self) -> Workload:
        """The workload as an object; raises InputError when the file holds none that is valid."""
        return Workload.from_json(self.workload)


class Comparison(_Record):
    """A contender's time over the baseline's on one workload: above 1 is slower.

    Attributes:
        workload: the workload's name.
        ratio, interval: ratio of medians and its 95 % bootstrap interval over the interleaved rounds.
    """

    workload: str
    contender: str
    baseline: str
    ratio: float
    interval: tuple[float, float]
    verdict: VerdictWord


class ColdStart(_Record):
    """A new process to the first result, alone on the machine, with empty compile caches. Seconds.

    One new process a contender; it builds and calls each model in turn, so the models share the first three parts.

    Attributes:
        interpreter_s: process start to the first line of the worker.
        import_s: import of the framework.
        configure_s: device and runtime set-up, first trivial operation included.
        build_s: the model made from its weights.
        first_call_s: first call, compilation included.
    """

    workload: dict[str, Any]
    contender: str
    outcome: Outcome
    reason: str = ""
    interpreter_s: float = 0.0
    import_s: float = 0.0
    configure_s: float = 0.0
    build_s: float = 0.0
    first_call_s: float = 0.0

    @property
    def total_s(self) -> float:
        return self.interpreter_s + self.import_s + self.configure_s + self.build_s + self.first_call_s


class TrainingRun(_Record):
    """A contender trained on real data from the same weights over the same batches as the reference.

    Attributes:
        task: such as `lstm on digits, row by row`.
        losses: before every step; null entries were not finite. `reference_losses` likewise.
        noise: per step, the spread of the reference's loss under rounding (rms over the noise runs).
        noise_units: largest distance from the reference in units of that spread.
        accuracy, reference_accuracy: share of right answers on test data that was not trained on.
        accuracy_noise: largest difference in accuracy between the reference and its noise runs.
    """

    task: str
    workload: dict[str, Any]
    contender: str
    outcome: Outcome
    reason: str = ""
    losses: list[float | None] = []
    reference_losses: list[float] = []
    noise: list[float] = []
    noise_units: float | None = None
    limit: float = 0.0
    accuracy: float | None = None
    reference_accuracy: float | None = None
    accuracy_noise: float = 0.0


class GradientNorms(_Record):
    """A contender's norm of dLoss/dh_t over the time steps of one recurrent model at one spectral radius of W_hh.

    Attributes:
        workload: model, batch size and dtype; the model has the whole sequence length.
        spectral_radius: of W_hh; of an LSTM's four gates, the largest.
        time_steps: the t, ascending, 0 being the initial state; the lists below follow their order.
        norms: Euclidean, over all examples and hidden units, of the mean loss's gradient; null when not finite.
        reference_norms: the float64 reference's.
        noise: the reference's rounding noise of the gradient, rms over its elements.
        distances: rms error in noise units; null when not finite.
        limit: what each distance may reach.
        underflow: the t at which the gradient is too small for the dtype: recorded, not judged.
        again: the command that repeats it.
    """

    workload: dict[str, Any]
    spectral_radius: float
    contender: str
    outcome: Outcome
    reason: str = ""
    time_steps: list[int] = []
    norms: list[float | None] = []
    reference_norms: list[float | None] = []
    noise: list[float] = []
    distances: list[float | None] = []
    limit: float = 0.0
    underflow: list[int] = []
    again: str = ""


class Result(_Record):
    """Everything one run found.

    Attributes:
        command: the command line that repeats it.
        machine: processor, cores, memory, operating system, Python.
        baseline: the contender that ratios refer to, per workload name.
        harness_s: processor time of the harness itself: reference, rounding noise, comparison, transfer; 0 if unknown.
        interrupted: the run was stopped before its end.
    """

    schema_version: int = SCHEMA_VERSION
    created: str
    command: str
    seed: int
    threads: int
    duration_s: float
    harness_s: float = 0.0
    machine: dict[str, Any]
    contenders: list[ContenderInfo]
    cases: list[CaseResult] = []
    agreements: list[Agreement] = []
    comparisons: list[Comparison] = []
    cold_starts: list[ColdStart] = []
    training_runs: list[TrainingRun] = []
    gradient_norms: list[GradientNorms] = []
    interrupted: bool = False

    @property
    def records(self) -> list[Agreement | CaseResult | ColdStart | TrainingRun | GradientNorms]:
        """Everything that was run, each with contender, outcome and reason."""
        return [*self.agreements, *self.cases, *self.cold_starts, *self.training_runs, *self.gradient_norms]

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcome of every contender, agreement, case, cold start, training run and curve of gradient norms."""
        return [record.outcome for record in (*self.contenders, *self.records)]

    @property
    def exit_status(self) -> int:
        """0 all ran and agreed, 1 a disagreement, 3 something ended otherwise."""
        outcomes = set(self.outcomes)
        if "disagrees" in outcomes:
            return 1
        return 3 if outcomes - {"ok"} or self.interrupted else 0
