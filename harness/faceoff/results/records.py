"""The typed result of a run: what the result file holds under its key `faceoff`.

Durations are seconds, sizes whole bytes. A number that was not finite is stored as null. `faceoff.results.file` reads
and writes the files.
"""

from __future__ import annotations

from statistics import median
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from faceoff.core.contract import STAGES
from faceoff.core.errors import Outcome
from faceoff.core.spec import Workload
from faceoff.results.agreements import Agreement
from faceoff.results.costs import BreakEven, Canary, CardUse, Ceiling, ColdStart, Record
from faceoff.results.ports import PairedModel
from faceoff.results.trainings import GradientNorms, TrainingRun
from faceoff.results.types import (
    Count,
    Duration,
    Interval,
    Probability,
    Ratio,
    Seconds,
    Size,
    WorkloadData,
)

SCHEMA_VERSION = 2
VerdictWord = Literal["faster", "slower", "tie", "unresolved"]


class ContenderInfo(Record):
    """What is known of a contender in this run.

    Attributes:
        outcome: `ok`, or why it could not start at all (`missing`, `crashed`, ...).
        reason: one line, empty when `ok`.
        next_step: what would mend it, such as the command that installs the framework.
        versions: distribution name to version.
        disk_bytes: size of the framework's files and of all that it requires; None when not known.
        installed: digest of everything that is installed for its interpreter; empty when not known.
        code: digest of its framework's folder, and of what that shares with others; empty in older files.
        settings: switches in force: device, threads, precision, environment, as the framework reports them.
    """

    contender: str
    outcome: Outcome
    reason: str = ""
    next_step: str = ""
    versions: dict[str, str] = {}
    disk_bytes: Count | None = None
    installed: str = ""
    code: str = ""
    settings: dict[str, Any] = {}


class Process(Record):
    """The rounds of one process of a contender: one replicate.

    Attributes:
        passes: how many rounds it ran, one in each pass; its part of `Speed.rounds_s`.
        disturbed: the passes whose round was disturbed, by the kernel's own accounting (`faceoff.worker.accounting`).
        pipelined_disturbed: which rounds of calls in a row were, in the order of `Speed.pipelined_rounds_s`.
        stolen_s: time that another machine had the cores while rounds were timed, or that a container was held back as
            it had had its share of them.
        waited_s: time that its threads waited for a core, for each other or for other processes.
        others_s: processor time of everything else on the machine meanwhile.
        switches: times that one of its threads had to leave its core to another thread or process.
        warmup_calls: calls before the first round, not recorded.
        warm: whether they got no faster any more before the time for warming up was over.
        memory: of the process after its rounds, in bytes: in use, and at peak since it was warm where that is told.
        drift: change from the first third of its rounds to the last, the machine's own taken out; 0 when steady.
        device_s: seconds per call between the device's events around a pipelined round, median; None without such.
        stages_s: of one inference from host memory to host memory, each of `faceoff.core.contract.STAGES`, medians of
            calls after the rounds; empty for other steps, and where the framework does not tell them apart.
        card: what the GPU said of itself meanwhile; None on a CPU, or where its driver does not answer.
    """

    passes: Size
    disturbed: list[Count] = []
    pipelined_disturbed: list[Count] = []
    stolen_s: Seconds = 0.0
    waited_s: Seconds = 0.0
    others_s: Seconds = 0.0
    switches: Count = 0
    warmup_calls: Count = 0
    warm: bool = True
    memory: dict[str, Count] = {}
    drift: float = 0.0
    device_s: Seconds | None = None
    stages_s: dict[str, Seconds] = {}
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
        pipelined_s: seconds per call of calls that follow another, of which only the last is waited for: one over the
            throughput. In older files the first call of a row is among them.
        pipelined_interval_s: its 95 % interval, from its own rounds as that of `time_s` from its.
        pipelined_rounds_s: these rounds, as many of each process, as `rounds_s` otherwise; not in older files.
        pipelined_calls: in a row, in each of them; None in older files, where they are few.
        last_wait: at most this share of such a round was added by waiting for its last call; 0 where the time of the
            first of several calls is taken off with it.
        few_calls: why there were no more calls, where that is above 1 %; empty otherwise.
        cpu_s: processor time per call, all threads.
    """

    rounds_s: Annotated[list[Duration], Field(min_length=1)]
    iterations: Size
    warmup_calls: Count
    time_s: Duration
    interval_s: Interval
    processes: list[Process] = []
    latency_s: tuple[Duration, Duration, Duration] | None = None
    pipelined_s: Duration | None = None
    pipelined_interval_s: Interval | None = None
    pipelined_rounds_s: list[Duration] = []
    pipelined_calls: Size | None = None
    last_wait: float | None = None
    few_calls: str = ""
    cpu_s: Seconds | None = None

    @property
    def stages_s(self) -> dict[str, float]:
        """Of each stage that was told, in the contract's order: the median of the processes."""
        told = {name: [p.stages_s[name] for p in self.processes if name in p.stages_s] for name in STAGES}
        return {name: median(seconds) for name, seconds in told.items() if seconds}

    @model_validator(mode="after")
    def _rounds_are_those_of_the_processes(self) -> Speed:
        if self.processes and sum(process.passes for process in self.processes) != len(self.rounds_s):
            raise ValueError(f"{len(self.rounds_s)} rounds do not fit the passes of its processes")
        if any(number >= process.passes for process in self.processes for number in process.disturbed):
            raise ValueError("a pass that was disturbed and never made")
        return self


class CaseResult(Record):
    """One workload run by one contender, with exactly one outcome.

    Attributes:
        name: unique in the file: workload name and contender.
        ledger: the case's part of the fairness ledger: kernel, layout, what was compiled.
        speed: None unless it was timed; comparable only when `outcome` is `ok`.
        flops, bytes: of one call at least (`faceoff.workloads.work`); None when unknown.
    """

    name: str
    workload: WorkloadData
    contender: str
    flops: Count | None = None
    bytes: Count | None = None
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
    ratio: Ratio
    interval: Interval
    verdict: VerdictWord
    p_value: Probability | None = None
    adjusted_p: Probability | None = None
    pipelined_ratio: Ratio | None = None
    pipelined_interval: Interval | None = None


class TunedSetting(Record):
    """What one setting of a framework's mode `tuned` brings on a workload.

    Attributes:
        contender: the mode `tuned`.
        setting: its name.
        what: it does, in words.
        comparison: the mode without the setting against the whole mode, so its ratio is what the setting brings; null
            when one of them has no time.
    """

    workload: WorkloadData
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
    resolvable: Ratio
    twins: dict[str, Ratio]
    disturbed: Probability
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
    canaries: list[Canary] = []


class Result(Records):
    """Everything one run found.

    Attributes:
        command: the command line that repeats it.
        machine: processor, cores, memory, operating system, Python.
        baseline: the contender that ratios refer to, per workload name.
        harness_s: processor time of the harness itself: reference, rounding noise, comparison, transfer; 0 if unknown.
        sources: digest of each model's file by its path, as it was when this was made.
        ports: the weights of users' own models, as they were paired.
        interrupted: the run was stopped before its end.
        left_out: how many parts of the run were left out, as they did not fit into the minutes it was given.
        resumed: how often it went on after it was killed or interrupted.
    """

    schema_version: int = SCHEMA_VERSION
    created: str
    command: str
    seed: Count
    threads: Size
    duration_s: Seconds
    harness_s: Seconds = 0.0
    machine: dict[str, Any]
    contenders: list[ContenderInfo]
    break_evens: list[BreakEven] = []
    sources: dict[str, str] = {}
    ports: list[PairedModel] = []
    interrupted: bool = False
    left_out: Count = 0
    resumed: Count = 0

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
        """0 all that is offered ran and agreed, 1 a disagreement, 3 something ended otherwise."""
        outcomes = set(self.outcomes)
        if "disagrees" in outcomes:
            return 1
        return 3 if outcomes - {"ok", "not_offered"} or self.interrupted else 0
