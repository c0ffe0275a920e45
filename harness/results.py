"""The typed result of a run: what the result file holds under its key `faceoff`.

Durations are seconds, sizes whole bytes. A number that was not finite is stored as null. `harness.result_file` reads
and writes the files.
"""

from __future__ import annotations

from typing import Any, Literal

from harness.core.errors import Outcome
from harness.core.spec import Workload
from harness.cost_records import BreakEven, CardUse, Ceiling, ColdStart, Record
from harness.training_records import GradientNorms, TrainingRun

SCHEMA_VERSION = 2
EVERYDAY = "everyday"
VerdictWord = Literal["faster", "slower", "tie", "unresolved"]


class ContenderInfo(Record):
    """What is known of a contender in this run.

    Attributes:
        outcome: `ok`, or why it could not start at all (`missing`, `crashed`, ...).
        reason: one line, empty when `ok`.
        next_step: what would mend it, such as the command that installs the framework.
        versions: distribution name to version.
        disk_bytes: size of the framework's files and of all that it requires; None when not known.
        settings: switches in force: device, threads, precision, environment, as the framework reports them.
    """

    contender: str
    outcome: Outcome
    reason: str = ""
    next_step: str = ""
    versions: dict[str, str] = {}
    disk_bytes: int | None = None
    settings: dict[str, Any] = {}


class Quantity(Record):
    """One quantity compared with the reference.

    Attributes:
        name: `output of layer.0 (training)`, `outputs`, `loss`, `gradient of 'layer.0.weight'`,
            `gradient of input 'x'`, `weight 'head.bias' after 3 training steps`,
            `momentum of 'head.bias' after 3 training steps`, ...
        agrees: within the limit of its check.
        error: largest absolute error divided by the reference's largest absolute value; null when not finite.
        noise_units: error in units of this computation's rounding noise in its dtype: of the whole by its rms, of the
            largest element, or of the slice that is farthest off, whichever is most; null when not finite.
        limit: what `noise_units` may reach.
        worst_index, got, reference: the element with the largest error; `got` is null when not finite or absent.
        problem: what else is wrong, such as `not finite`, `wrong shape`, `missing`; empty otherwise.
        where: the slice that `noise_units` is of, such as `column 511` or `time step 3`; empty for the whole.
        left_out: elements that were not judged, as they, or what they are computed from, leave the dtype's range.
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
    where: str = ""
    left_out: int = 0

    @property
    def in_short(self) -> str:
        """The problem in two or three words, without its details."""
        return self.problem.partition(":")[0]


class PathPoint(Record):
    """One quantity on the way from the starting weights through every training step, in the order of computation.

    Attributes:
        name, agrees, noise_units, problem: as in `Quantity`.
        first: it disagrees, and everything before it agrees.
    """

    name: str
    agrees: bool
    noise_units: float | None
    problem: str = ""
    first: bool = False


class Agreement(Record):
    """One contender against the reference on one model, batch size, dtype and device, over all quantities.

    Attributes:
        workload: as `Workload.to_json`; its step is `training`, which covers all quantities.
        check: `meaning` (float64) or `precision` (the working dtype).
        situation: kind of weights and inputs, as `harness.situations` names it.
        outcome: `ok`, `disagrees`, or how the case ended otherwise; `reason` says more.
        quantities: all that were compared; where another situation than the everyday one agrees, the worst alone.
        first_difference: the first layer, gradient or weight that differs, empty when all agree.
        message: the disagreement in words, empty when all agree.
        path: every quantity in the order of computation, when it was asked for (`--trace`).
        note: what has to be known of an agreement that holds, such as ReLUs that rounding alone decides; mostly empty.
        examples: of a batch of this size, where fewer were compared than the workload has; else None.
        timed: what is judged of timed calls on the whole batch then: `everything`, or `outputs` alone, as the reference
            does not compute as much. Empty where all examples were compared, and in files that do not tell.
        again: the command that repeats this check.
        log_tail: the end of the worker's log when it crashed or hung.
    """

    workload: dict[str, Any]
    contender: str
    check: Literal["meaning", "precision"]
    situation: str = EVERYDAY
    outcome: Outcome
    quantities: list[Quantity] = []
    path: list[PathPoint] = []
    note: str = ""
    examples: int | None = None
    timed: Literal["", "everything", "outputs"] = ""
    first_difference: str = ""
    message: str = ""
    again: str = ""
    reason: str = ""
    log_tail: str = ""

    @property
    def first(self) -> Quantity | None:
        """The first quantity in the order of computation that disagrees; None when all agree."""
        return next((quantity for quantity in self.quantities if not quantity.agrees), None)

    @property
    def worst(self) -> Quantity | None:
        """The quantity nearest to, or farthest over, its limit; None when nothing was compared."""
        return max(self.quantities, key=_badness, default=None)

    @property
    def is_everyday(self) -> bool:
        """Whether weights and inputs were as they are drawn."""
        return self.situation == EVERYDAY

    @property
    def check_name(self) -> str:
        """`meaning`, or `meaning in the situation large`."""
        return self.check if self.is_everyday else f"{self.check} in the situation {self.situation}"

    @property
    def badness(self) -> tuple[bool, float]:
        """Sorts checks by how far they are from agreeing."""
        return self.outcome != "ok", _badness(self.worst) if self.worst else 0.0


def _badness(quantity: Quantity) -> float:
    if quantity.problem or quantity.noise_units is None:
        return float("inf")
    return quantity.noise_units / quantity.limit


class Process(Record):
    """The rounds of one process of a contender: one replicate.

    Attributes:
        passes: how many rounds it ran, one in each pass; its part of `Speed.rounds_s`.
        disturbed: the passes whose round was disturbed, by the kernel's own accounting (`harness.worker.accounting`).
        pipelined_disturbed: which rounds of calls in a row were, in the order of `Speed.pipelined_rounds_s`.
        stolen_s: time that another machine had the cores while rounds were timed.
        waited_s: time that its threads waited for a core, for each other or for other processes.
        others_s: processor time of everything else on the machine meanwhile.
        switches: times that one of its threads had to leave its core to another thread or process.
        warmup_calls: calls before the first round, not recorded.
        warm: whether they got no faster any more before the time for warming up was over.
        memory: of the process after its rounds, in bytes: in use, and at peak since it was warm where that is told.
        drift: change from the first third of its rounds to the last, the machine's own taken out; 0 when steady.
        device_s: seconds per call between the device's events around a pipelined round, median; None without such.
        card: what the GPU said of itself meanwhile; None on a CPU, or where its driver does not answer.
    """

    passes: int
    disturbed: list[int] = []
    pipelined_disturbed: list[int] = []
    stolen_s: float = 0.0
    waited_s: float = 0.0
    others_s: float = 0.0
    switches: int = 0
    warmup_calls: int = 0
    warm: bool = True
    memory: dict[str, int] = {}
    drift: float = 0.0
    device_s: float | None = None
    card: CardUse | None = None


class Speed(Record):
    """Steady-state rounds of one case.

    Attributes:
        rounds_s: recorded rounds of calls that are waited for one by one, process by process, each in the order they
            were run, seconds per call (iterations divided out).
        iterations: calls in each round.
        warmup_calls: calls before the first round, not recorded, of all processes.
        time_s, interval_s: geometric mean of the processes' times, each the mean of the faster half of its rounds, and
            its 95 % interval, which covers the spread of rounds and that of processes.
        processes: how `rounds_s` is divided.
        latency_s: 50th, 90th and 99th percentile of single calls.
        pipelined_s: seconds per call when only the last of a round is waited for: one over the throughput.
        pipelined_interval_s: its 95 % interval, from its own rounds as that of `time_s` from its.
        pipelined_rounds_s: these rounds, as many of each process, as `rounds_s` otherwise; not in older files.
        pipelined_calls: in a row, in each of them; None in older files, where they are few.
        last_wait: at most this share of such a round was added by waiting for its last call.
        few_calls: why there were no more, where that is above 1 %; empty otherwise.
        cpu_s: processor time per call, all threads.
    """

    rounds_s: list[float]
    iterations: int
    warmup_calls: int
    time_s: float
    interval_s: tuple[float, float]
    processes: list[Process] = []
    latency_s: tuple[float, float, float] | None = None
    pipelined_s: float | None = None
    pipelined_interval_s: tuple[float, float] | None = None
    pipelined_rounds_s: list[float] = []
    pipelined_calls: int | None = None
    last_wait: float | None = None
    few_calls: str = ""
    cpu_s: float | None = None


class CaseResult(Record):
    """One workload run by one contender, with exactly one outcome.

    Attributes:
        name: unique in the file: workload name and contender.
        ledger: the case's part of the fairness ledger: kernel, layout, what was compiled.
        speed: None unless it was timed; comparable only when `outcome` is `ok`.
        flops, bytes: of one call at least (`harness.work`); None when unknown.
    """

    name: str
    workload: dict[str, Any]
    contender: str
    flops: int | None = None
    bytes: int | None = None
    outcome: Outcome
    reason: str = ""
    log_tail: str = ""
    ledger: dict[str, Any] = {}
    speed: Speed | None = None

    def parsed_workload(self) -> Workload:
        """The workload as an object; raises InputError when the file holds none that is valid."""
        return Workload.from_json(self.workload)


class Comparison(Record):
    """A contender's time over the baseline's on one workload: above 1 is slower.

    Attributes:
        workload: the workload's name.
        ratio, interval: ratio of times and its 95 % interval over processes and rounds.
        p_value: of no difference, for this comparison by itself.
        adjusted_p: the same after all verdicts of the run are accounted for.
        pipelined_ratio, pipelined_interval: of the times of calls in a row; None where there were none.
    """

    workload: str
    contender: str
    baseline: str
    ratio: float
    interval: tuple[float, float]
    verdict: VerdictWord
    p_value: float | None = None
    adjusted_p: float | None = None
    pipelined_ratio: float | None = None
    pipelined_interval: tuple[float, float] | None = None


class TunedSetting(Record):
    """What one setting of a framework's mode `tuned` brings on a workload.

    Attributes:
        contender: the mode `tuned`, such as `jax:tuned`.
        setting: its name.
        what: it does, in words.
        comparison: the mode without the setting against the whole mode, so its ratio is what the setting brings; null
            when one of them has no time.
    """

    workload: dict[str, Any]
    contender: str
    setting: str
    what: str
    outcome: Outcome
    reason: str = ""
    comparison: Comparison | None = None


class NoiseFloor(Record):
    """How surely contenders could be told apart on one workload.

    Attributes:
        workload: its name.
        resolvable: the ratio above 1 that two contenders must typically differ by.
        twins: each contender's slowest process over its fastest: the same thing against itself.
        disturbed: share of rounds that were disturbed.
        noisy: most were, or other processes or machines had more than a tenth of the processor time.
    """

    workload: str
    resolvable: float
    twins: dict[str, float]
    disturbed: float
    noisy: bool


class Records(Record):
    """What units of work add to a result.

    Attributes:
        tuned: each framework's mode `tuned` against the fastest of its others.
        tuned_settings: what each setting of these modes brings.
    """

    contenders: list[ContenderInfo] = []
    agreements: list[Agreement] = []
    cases: list[CaseResult] = []
    comparisons: list[Comparison] = []
    tuned: list[Comparison] = []
    tuned_settings: list[TunedSetting] = []
    noise_floors: list[NoiseFloor] = []
    cold_starts: list[ColdStart] = []
    training_runs: list[TrainingRun] = []
    gradient_norms: list[GradientNorms] = []
    ceilings: list[Ceiling] = []


class Result(Records):
    """Everything one run found.

    Attributes:
        command: the command line that repeats it.
        machine: processor, cores, memory, operating system, Python.
        baseline: the contender that ratios refer to, per workload name.
        harness_s: processor time of the harness itself: reference, rounding noise, comparison, transfer; 0 if unknown.
        sources: digest of each model's file by its path, as it was when this was made.
        interrupted: the run was stopped before its end.
        resumed: how often it went on after it was killed or interrupted.
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
    break_evens: list[BreakEven] = []
    sources: dict[str, str] = {}
    interrupted: bool = False
    resumed: int = 0

    @property
    def records(self) -> list[Agreement | CaseResult | TunedSetting | ColdStart | TrainingRun | GradientNorms]:
        """Everything that was run, each with contender, outcome and reason."""
        return [
            *self.agreements,
            *self.cases,
            *self.tuned_settings,
            *self.cold_starts,
            *self.training_runs,
            *self.gradient_norms,
        ]

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcome of every contender and of everything that was run."""
        return [record.outcome for record in (*self.contenders, *self.records)]

    @property
    def exit_status(self) -> int:
        """0 all ran and agreed, 1 a disagreement, 3 something ended otherwise."""
        outcomes = set(self.outcomes)
        if "disagrees" in outcomes:
            return 1
        return 3 if outcomes - {"ok"} or self.interrupted else 0
