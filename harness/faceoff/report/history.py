"""Several runs of one machine over time: each contender's time in every run, and what changed from one to the next."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import altair as alt

from faceoff.core.errors import HarnessError
from faceoff.differences.changes import diff
from faceoff.differences.records import Diff
from faceoff.machine.description import card_name
from faceoff.report.charts import Identities, Spec, colour_of, finish, lines_with_intervals
from faceoff.report.overview import MOST_WORKLOADS
from faceoff.report.speed import speed_groups
from faceoff.report.text import moment, time_unit
from faceoff.report.words import WorkloadText
from faceoff.results.records import Result

HEIGHT = 220


@dataclass
class Timeline:
    """One workload in every run.

    Attributes:
        times_s: contender to time, low and high of each run; None where it has no time.
    """

    workload: WorkloadText
    times_s: dict[str, list[tuple[float, float, float] | None]] = field(default_factory=dict)

    @property
    def unit(self) -> tuple[float, str]:
        """Its length in seconds, and its name."""
        return time_unit(min(times[0] for series in self.times_s.values() for times in series if times))


@dataclass(frozen=True)
class Change:
    """From one run to the next: what `faceoff diff` says, or why it can say nothing."""

    before: str
    after: str
    diff: Diff | None
    reason: str = ""


@dataclass(frozen=True)
class History:
    """Runs of one processor with as many cores and threads, the earliest first.

    Attributes:
        runs: name and time of each.
        timelines: of the workloads that at least two runs have.
        changes: from each run to the next.
        more: how many more workloads there are.
    """

    machine: str
    runs: list[tuple[str, str]]
    timelines: list[Timeline]
    changes: list[Change]
    more: int = 0


def histories(results: Sequence[tuple[str, Result]]) -> list[History]:
    """The histories in some results: one for each machine of which there are two runs or more that timed something."""
    machines: dict[str, list[tuple[str, Result]]] = {}
    for name, result in results:
        if not any(case.speed for case in result.cases):
            continue
        machine = f"{result.machine.get('processor')}, {result.machine.get('cores')} cores, {result.threads} threads"
        # A run on a GPU says nothing of how one on the CPU, or on another card, has changed.
        if any(case.workload.get("device") == "gpu" for case in result.cases):
            machine += f", {card_name(result.machine) or 'a GPU'}"
        machines.setdefault(machine, []).append((name, result))
    return [
        _history(machine, sorted(runs, key=lambda run: run[1].created))
        for machine, runs in machines.items()
        if len(runs) > 1
    ]


def _history(machine: str, runs: list[tuple[str, Result]]) -> History:
    timelines: dict[str, Timeline] = {}
    for number, (_, result) in enumerate(runs):
        for group in speed_groups(result):
            timeline = timelines.setdefault(group.workload.key, Timeline(group.workload))
            for row in group.rows:
                series = timeline.times_s.setdefault(row.contender, [None] * len(runs))
                series[number] = (row.speed.time_s, *row.speed.interval_s)
    kept = [
        timeline
        for timeline in timelines.values()
        if sum(any(times) for times in zip(*timeline.times_s.values(), strict=True)) > 1
    ]
    changes = [_change(*pair) for pair in itertools.pairwise(runs)]
    names = [(name, moment(result.created)) for name, result in runs]
    return History(machine, names, kept[:MOST_WORKLOADS], changes, max(0, len(kept) - MOST_WORKLOADS))


def _change(before: tuple[str, Result], after: tuple[str, Result]) -> Change:
    try:
        return Change(before[0], after[0], diff(before[1], after[1], force=True))
    except HarnessError as error:
        return Change(before[0], after[0], None, error.what)


def history_chart(timeline: Timeline, history: History, identities: Identities) -> Spec:
    """Time per call in each run, logarithmic; a line breaks where a contender has no time."""
    names, (unit_s, unit) = list(timeline.times_s), timeline.unit
    rows = []
    for name, series in timeline.times_s.items():
        for number, times in enumerate(series, 1):
            row: dict[str, object] = {"contender": identities[name].label, "run": number, "time": None}
            row["when"] = history.runs[number - 1][1]
            if times is not None:
                shown = (float(f"{value / unit_s:.5g}") for value in times)
                row |= dict(zip(("time", "low", "high"), shown, strict=True))
            rows.append(row)
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("run:O", title="run, the earliest first", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("time:Q", title=f"{unit} per call, logarithmic", scale=alt.Scale(type="log", nice=True, padding=6)),
        color=colour_of(identities, names),
        tooltip=[alt.Tooltip("contender:N"), alt.Tooltip("when:N", title="run"), alt.Tooltip("time:Q", title=unit)],
    )
    return finish(lines_with_intervals(base, identities, names), HEIGHT)
