"""Speed by workload, as the page shows it: who can be compared, in which unit, and who cannot and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from faceoff.core.contract import STAGES
from faceoff.report.text import counted, duration, finite, percent, significant, time_unit, with_interval
from faceoff.report.words import WorkloadText, describe_workload, read_workload
from faceoff.results.costs import Ceiling
from faceoff.results.records import CaseResult, Comparison, NoiseFloor, Result, Speed
from faceoff.speed.criteria import host_peak_bytes, memory_bytes
from faceoff.speed.rounds import WAIT_SHARE
from faceoff.speed.statistics import LEAST_FOR_DRIFT, unsteadiness
from faceoff.workloads.presets import PUBLISHED_V100_MS, Sized

# With fewer, one call alone is the 99th percentile.
LEAST_CALLS_OF_A_99TH = 100


@dataclass(frozen=True)
class SpeedRow:
    """A comparable contender on one workload.

    Attributes:
        time, interval: in the unit of the group.
        ratio, ratio_interval: to the baseline of the group; empty when none was recorded.
        verdict: the recorded one; empty for the baseline itself and where there is none.
        latency: 50th, 90th and, of 100 calls and more, 99th percentile of single calls, in the unit of the group.
        pipelined, pipelined_interval: time per call when only the last is waited for, likewise; empty when unknown.
        calls_in_a_row: in such a round, and rounds; empty when unknown.
        last_wait: how much of such a round waiting for its last call added at most, with why there were no more calls.
        cpu: processor time per call, likewise.
        memory: of the process or the card while it was timed, and at its peak meanwhile; empty when unknown.
        flops: operations of matrix products per second; None when unknown.
        share: of the machine's best rate of operations; None where that was not measured.
        copy_share: of the rate at which it copies, of the least that has to be moved; None likewise.
        unsteady: what shows that no steady state was reached, in words; empty where nothing does.
        untold: whether too few rounds were run to see a trend in them.
        speed: the record.
    """

    contender: str
    time: str
    interval: str
    latency: str
    pipelined: str
    pipelined_interval: str
    calls_in_a_row: str
    last_wait: str
    cpu: str
    memory_bytes: float | None
    memory: str
    flops: float | None
    share: float | None
    copy_share: float | None
    unsteady: str
    untold: bool
    ratio: str
    ratio_interval: str
    verdict: str
    is_baseline: bool
    speed: Speed


@dataclass(frozen=True)
class LeftOut:
    """A contender that is not comparable on one workload, and why."""

    contender: str
    outcome: str
    reason: str


@dataclass(frozen=True)
class SpeedGroup:
    """One workload.

    Attributes:
        unit: `s`, `ms`, `µs` or `ns`; `unit_s` is its length in seconds.
        rows: comparable contenders, the lowest time first.
        floor: how surely they could be told apart; None where that was not recorded.
        published: what others have published for these sizes, a sentence; empty where there is nothing.
    """

    workload: WorkloadText
    unit: str
    unit_s: float
    baseline: str
    rows: list[SpeedRow]
    left_out: list[LeftOut]
    floor: Floor | None
    published: str = ""

    @property
    def on_gpu(self) -> bool:
        """Whether memory is that of a card, and rates are those of calls in a row."""
        return self.workload.device == "gpu"

    @property
    def card(self) -> str:
        """What the GPU said of itself while this was timed, a sentence; empty where it said nothing."""
        uses = [process.card for row in self.rows for process in row.speed.processes if process.card]
        if not uses:
            return ""
        clocks = [clock for use in uses for clock in use.clock_mhz or ()]
        degrees = [celsius for use in uses for celsius in use.temperature_c or ()]
        told = (clocks, "MHz"), (degrees, "°C")
        said = [f"{_span(values)} {unit}" for values, unit in told if values]
        reasons = [use.throttled for use in uses if use.throttled is not None]
        throttled = Counter[str]()
        for rounds_by_reason in reasons:
            throttled.update(rounds_by_reason)
        told_of = sum(len(row.speed.rounds_s) for row in self.rows)
        slowed = ", ".join(f"{reason} ({rounds:,} of {told_of:,} rounds)" for reason, rounds in throttled.items())
        if reasons:
            said.append(f"throttled by {slowed}" if slowed else "not throttled")
        else:
            said.append("whether it was throttled is not told")
        others = [use.others for use in uses if use.others is not None]
        said.append(
            f"{counted(max(others), 'process', 'processes')} of others on it"
            if others
            else "who else was on it is not known"
        )
        return f"The GPU while this was timed: {'; '.join(said)}."

    @property
    def device_memory(self) -> list[tuple[str, str, str]]:
        """Contender, peak as the framework counts it, and as the driver does for the process, with kernels and all."""
        found = []
        for row in self.rows:
            own = max((process.memory.get("device_peak_bytes", 0) for process in row.speed.processes), default=0)
            driver = max((process.card.process_bytes for process in row.speed.processes if process.card), default=0)
            if own or driver:
                own_text, driver_text = (f"{size / 2**20:,.0f} MiB" if size else "–" for size in (own, driver))
                found.append((row.contender, own_text, driver_text))
        return found

    @property
    def device_times(self) -> list[tuple[str, str]]:
        """Contender and median time per call between the device's events around a round, where it has such."""
        found = [(row.contender, [p.device_s for p in row.speed.processes if p.device_s]) for row in self.rows]
        return [(name, f"{significant(median(times) / self.unit_s)} {self.unit}") for name, times in found if times]

    @property
    def stages(self) -> list[tuple[str, list[str]]]:
        """Contender and the time of each of `STAGES`, for whoever tells them apart."""
        found = [(row.contender, row.speed.stages_s) for row in self.rows]
        return [
            (who, [duration(told.get(name)) if name in told else "" for name in STAGES]) for who, told in found if told
        ]


@dataclass(frozen=True)
class Floor:
    """How surely contenders could be told apart on one workload, in words and figures.

    Attributes:
        resolvable: the smallest difference that can be told from none, as a share.
        twin: the contender whose processes differed most from each other, and its slowest over its fastest.
        disturbed, share_disturbed: share of rounds.
        noisy: the machine was busy.
    """

    resolvable: str
    twin: tuple[str, str] | None
    disturbed: str
    noisy: bool
    share_disturbed: float = 0.0


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def speed_groups(result: Result) -> list[SpeedGroup]:
    """The cases of a result by workload, in the order of the file."""
    disagreements = {
        (check.contender, describe_workload(check.workload).model_key)
        for check in result.agreements
        if check.outcome == "disagrees"
    }
    cases: dict[str, list[CaseResult]] = {}
    workloads: dict[str, WorkloadText] = {}
    for case in result.cases:
        workload = describe_workload(case.workload)
        workloads[workload.key] = workload
        cases.setdefault(workload.key, []).append(case)
    comparisons: dict[str, list[Comparison]] = {}
    for comparison in result.comparisons:
        comparisons.setdefault(comparison.workload, []).append(comparison)
    floors = {floor.workload: _floor(floor) for floor in result.noise_floors}
    ceilings = {(ceiling.dtype, ceiling.device): ceiling for ceiling in result.ceilings}
    return [
        _group(workloads[key], found, disagreements, comparisons.get(key, []), floors.get(key), ceilings)
        for key, found in cases.items()
    ]


def _floor(floor: NoiseFloor) -> Floor:
    twins = {name: value for name, value in floor.twins.items() if finite(value) is not None}
    widest = max(twins, key=lambda name: twins[name], default=None)
    return Floor(
        resolvable=percent(floor.resolvable - 1),
        twin=(widest, significant(twins[widest], 4)) if widest is not None else None,
        disturbed=percent(floor.disturbed),
        noisy=floor.noisy,
        share_disturbed=finite(floor.disturbed) or 0.0,
    )


def _group(
    workload: WorkloadText,
    cases: list[CaseResult],
    disagreements: set[tuple[str, str]],
    comparisons: list[Comparison],
    floor: Floor | None,
    ceilings: Mapping[tuple[str, str], Ceiling],
) -> SpeedGroup:
    comparable: list[tuple[CaseResult, Speed]] = []
    left_out = []
    for case in cases:
        if case.outcome != "ok":
            left_out.append(LeftOut(case.contender, case.outcome, case.reason))
        elif (case.contender, workload.model_key) in disagreements:
            left_out.append(LeftOut(case.contender, "disagrees", "it disagrees with the reference on this model"))
        elif case.speed is None or not _is_finite(case.speed):
            left_out.append(LeftOut(case.contender, "ok", case.reason or "it ran, but no time was recorded"))
        else:
            comparable.append((case, case.speed))
    comparable.sort(key=lambda pair: pair[1].time_s)
    baselines = [c.baseline for c in comparisons]
    lead = comparable[0][0].contender if comparable else ""
    baseline = lead if lead in baselines else baselines[0] if baselines else ""
    ratios = {c.contender: c for c in comparisons if c.baseline == baseline}
    unit_s, unit = time_unit(comparable[0][1].time_s) if comparable else (1.0, "s")
    rows = [_row(case, speed, unit_s, baseline, ratios.get(case.contender), ceilings) for case, speed in comparable]
    published = _published(cases[0].workload)
    return SpeedGroup(workload, unit, unit_s, baseline, rows, left_out, floor, published)


def _published(record: Mapping[str, Any]) -> str:
    workload = read_workload(record)
    if workload is None or workload.step != "inference":
        return ""
    published_ms = PUBLISHED_V100_MS.get(Sized(workload.model, workload.batch_size).name)
    if published_ms is None:
        return ""
    return (
        f"DeepBench published {published_ms:g} ms for these sizes on an NVIDIA V100: float32, forward, "
        "without the product of the inputs, which is in the times here."
    )


def _is_finite(speed: Speed) -> bool:
    return all(finite(value) is not None for value in (speed.time_s, *speed.interval_s))


def _row(
    case: CaseResult,
    speed: Speed,
    unit_s: float,
    baseline: str,
    comparison: Comparison | None,
    ceilings: Mapping[tuple[str, str], Ceiling],
) -> SpeedRow:
    low_s, high_s = speed.interval_s
    time, interval = with_interval(speed.time_s / unit_s, low_s / unit_s, high_s / unit_s)
    pipelined, pipelined_interval = _pipelined_text(speed, unit_s)
    is_baseline = case.contender == baseline
    ratio = ratio_interval = verdict = ""
    if comparison is not None and not is_baseline:
        ratio, ratio_interval = with_interval(comparison.ratio, *comparison.interval)
        verdict = comparison.verdict
    # Between calls that are waited for, one by one, a card rests.
    busy_s = speed.pipelined_s if case.workload.get("device") == "gpu" and speed.pipelined_s else speed.time_s
    flops = case.flops / busy_s if case.flops and busy_s > 0 else None
    ceiling = ceilings.get((str(case.workload.get("dtype")), str(case.workload.get("device"))))
    best = ceiling.best if ceiling is not None else None
    copied = finite(ceiling.copy_bytes) if ceiling is not None else None
    return SpeedRow(
        contender=case.contender,
        time=time,
        interval=interval,
        latency=_latency_text(speed, unit_s),
        pipelined=pipelined,
        pipelined_interval=pipelined_interval,
        calls_in_a_row=_calls_text(speed),
        last_wait=_last_wait_text(speed),
        cpu="" if speed.cpu_s is None else significant(speed.cpu_s / unit_s),
        memory_bytes=memory_bytes(case),
        memory=_memory_text(case),
        flops=flops,
        share=flops / best[1] if flops and best else None,
        copy_share=case.bytes / busy_s / copied if case.bytes and busy_s > 0 and copied else None,
        unsteady=unsteadiness(speed.processes),
        untold=any(process.passes < LEAST_FOR_DRIFT for process in speed.processes),
        ratio=ratio,
        ratio_interval=ratio_interval,
        verdict=verdict,
        is_baseline=is_baseline,
        speed=speed,
    )


def _latency_text(speed: Speed, unit_s: float) -> str:
    """The 50th, 90th and 99th percentile of single calls; the last one only where so many calls have one."""
    texts = [significant(value / unit_s) for value in speed.latency_s or ()]
    if texts and len(speed.rounds_s) * speed.iterations < LEAST_CALLS_OF_A_99TH:
        texts[-1] = "–"
    return " / ".join(texts)


def _pipelined_text(speed: Speed, unit_s: float) -> tuple[str, str]:
    if speed.pipelined_s is None:
        return "", ""
    if speed.pipelined_interval_s is None:
        return significant(speed.pipelined_s / unit_s), ""
    return with_interval(*(value / unit_s for value in (speed.pipelined_s, *speed.pipelined_interval_s)))


def _calls_text(speed: Speed) -> str:
    return f"{len(speed.pipelined_rounds_s)} × {speed.pipelined_calls:,}" if speed.pipelined_calls else ""


def _last_wait_text(speed: Speed) -> str:
    if speed.last_wait is None or finite(speed.last_wait) is None:
        return ""
    if speed.last_wait <= WAIT_SHARE:
        return "< 1 %"
    return f"{percent(speed.last_wait)} ({speed.few_calls})" if speed.few_calls else percent(speed.last_wait)


def _memory_text(case: CaseResult) -> str:
    size = memory_bytes(case)
    if size is None:
        return ""
    text = f"{size / 2**20:,.0f} MiB"
    # On a card the size is the peak already.
    peak = host_peak_bytes(case) if case.workload.get("device") == "cpu" else None
    return f"{text} ({peak / 2**20:,.0f} at peak)" if peak else text


def ceiling_text(result: Result) -> list[str]:
    """What the machine does at best, a sentence for each dtype."""
    found = []
    for ceiling in result.ceilings:
        if ceiling.best is None:
            continue
        size, (best, flops) = ceiling.product_size, ceiling.best
        text = (
            f"The best that this machine does in {ceiling.dtype} on the {ceiling.device}: "
            f"{significant(flops / 1e9)} billion operations a second, in a product of two {size}×{size} matrices "
            f"by {best}"
        )
        if ceiling.copy_bytes and finite(ceiling.copy_bytes) is not None:
            text += f"; {significant(ceiling.copy_bytes / 1e9)} GB read and written a second in a copy"
        found.append(text + ".")
    return found
