"""Charts of what contenders cost: every round, time over batch sizes and over calls, memory, share of the ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt

from faceoff.report.charts import (
    ROW_HEIGHT,
    Identities,
    Spec,
    colour_of,
    finish,
    lines_with_intervals,
    shape_of,
    size_axis,
    time_axis,
)
from faceoff.report.sections import ColdGroup
from faceoff.report.speed import SpeedGroup
from faceoff.report.sweeps import Sweep
from faceoff.report.text import finite, significant
from faceoff.results.costs import ColdStart

CHART_HEIGHT = 260
# Calls over which total time is drawn: from the first to where compiling has paid off or never will.
MOST_CALLS_EXPONENT = 6
TABLE_CALLS = (1, 100, 10_000, 1_000_000)


def rounds_chart(group: SpeedGroup, identities: Identities) -> Spec | None:
    """Every recorded round as a tick, a line for each process; hollow circles are disturbed rounds."""
    rows = []
    for row in group.rows:
        label = identities[row.contender].label
        at = 0
        for number, process in enumerate(row.speed.processes, 1):
            disturbed = set(process.disturbed)
            for index, round_s in enumerate(row.speed.rounds_s[at : at + process.passes]):
                if finite(round_s) is not None and round_s > 0:
                    rows.append(
                        {
                            "contender": label,
                            "process": number,
                            "time": float(f"{round_s / group.unit_s:.4g}"),
                            "disturbed": "disturbed" if index in disturbed else "undisturbed",
                        }
                    )
            at += process.passes
    if not rows:
        return None
    names = [row.contender for row in group.rows]
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_point(size=30, opacity=0.75)
        .encode(
            x=alt.X(
                "time:Q",
                title=f"{group.unit} per call, logarithmic",
                scale=alt.Scale(type="log", nice=False, padding=8),
                axis=alt.Axis(tickCount=5, format=",~r"),
            ),
            y=alt.Y("contender:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False, labelPadding=8)),
            yOffset=alt.YOffset("process:O"),
            color=colour_of(identities, names),
            shape=alt.Shape(
                "disturbed:N",
                legend=None,
                scale=alt.Scale(domain=["undisturbed", "disturbed"], range=["stroke", "circle"]),
            ),
            tooltip=[
                alt.Tooltip("contender:N"),
                alt.Tooltip("process:O"),
                alt.Tooltip("time:Q", title=group.unit),
                alt.Tooltip(
                    "disturbed:N",
                    title="by the kernel's and the card's accounting" if group.card else "by the kernel's accounting",
                ),
            ],
        )
    )
    return finish(chart, (ROW_HEIGHT + 12) * len(names))


def memory_chart(group: SpeedGroup, identities: Identities) -> Spec | None:
    """Memory of each contender, of its process or of the card, as a bar; None when none is known."""
    found = {row.contender: row.memory_bytes / 2**20 for row in group.rows if row.memory_bytes}
    return _bars(found, "MiB on the card, peak" if group.on_gpu else "MiB of a process", ",.0f", identities)


def ceiling_chart(group: SpeedGroup, identities: Identities) -> Spec | None:
    """Each contender's share of the machine's best rate of operations as a bar; None when none is known."""
    found = {row.contender: 100 * row.share for row in group.rows if row.share}
    return _bars(found, "% of the machine's best", ".3~r", identities)


def _bars(found: Mapping[str, float], title: str, digits: str, identities: Identities) -> Spec | None:
    if not found:
        return None
    rows = [{"contender": identities[name].label, "value": float(f"{value:.4g}")} for name, value in found.items()]
    bars = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_bar(size=16)
        .encode(
            x=alt.X("value:Q", title=title, scale=alt.Scale(zero=True, nice=True), axis=alt.Axis(tickCount=5)),
            y=alt.Y("contender:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False, labelPadding=8)),
            color=colour_of(identities, list(found)),
            tooltip=[alt.Tooltip("contender:N"), alt.Tooltip("value:Q", title=title, format=digits)],
        )
    )
    return finish(bars, ROW_HEIGHT * len(found))


def batch_chart(sweep: Sweep, identities: Identities) -> Spec | None:
    """Time per example over batch size, both logarithmic; a line breaks where a contender has no time."""
    names = [name for name, series in sweep.per_example_s.items() if any(series)]
    if not names:
        return None
    rows = []
    for name in names:
        for size, times in zip(sweep.sizes, sweep.per_example_s[name], strict=True):
            row: dict[str, object] = {"contender": identities[name].label, "batch": size, "time": None}
            if times is not None:
                row |= {key: float(f"{value:.5g}") for key, value in zip(("time", "low", "high"), times, strict=True)}
                row["shown"] = f"{significant(times[0] * 1e6)} µs"
            rows.append(row)
    times_s = [times[0] for name in names for times in sweep.per_example_s[name] if times]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X(
            "batch:Q",
            title="batch size",
            scale=alt.Scale(type="log", nice=False, padding=12),
            axis=size_axis(sweep.sizes),
        ),
        y=alt.Y("time:Q", title="per example", scale=alt.Scale(type="log", nice=True), axis=time_axis(times_s)),
        color=colour_of(identities, names),
        tooltip=[alt.Tooltip("contender:N"), alt.Tooltip("batch:Q"), alt.Tooltip("shown:N", title="per example")],
    )
    return finish(lines_with_intervals(base, identities, names), CHART_HEIGHT)


@dataclass(frozen=True)
class Total:
    """What a contender needs from process start on: the first result, and each further call. Seconds."""

    contender: str
    first_s: float
    call_s: float

    def after(self, calls: int) -> float:
        """Seconds until that many results."""
        return self.first_s + (calls - 1) * self.call_s


def starts_by_model(groups: Sequence[ColdGroup]) -> dict[tuple[str, str], ColdStart]:
    """The cold starts that reached their first result, by contender and `WorkloadText.model_key`."""
    return {(start.contender, group.workload.model_key): start for group in groups for start in group.rows}


def totals(group: SpeedGroup, starts: Mapping[tuple[str, str], ColdStart]) -> list[Total]:
    """The contenders that were timed in inference and started cold with the same model; none if there are not two.

    Args:
        group: a workload.
        starts: see `starts_by_model`.
    """
    if group.workload.step != "inference":
        return []
    found = [
        Total(row.contender, starts[row.contender, group.workload.model_key].total_s, row.speed.time_s)
        for row in group.rows
        if (row.contender, group.workload.model_key) in starts
    ]
    return found if len(found) > 1 else []


def totals_table(found: Sequence[Total]) -> list[tuple[str, list[float]]]:
    """Each contender with its seconds after each of `TABLE_CALLS`."""
    return [(total.contender, [total.after(calls) for calls in TABLE_CALLS]) for total in found]


def total_chart(found: Sequence[Total], identities: Identities) -> Spec:
    """From process start to the nth result; where two lines cross, the longer start is paid off."""
    rows = []
    for total in found:
        for quarter in range(4 * MOST_CALLS_EXPONENT + 1):
            calls = round(10 ** (quarter / 4))
            shown = {"contender": identities[total.contender].label, "calls": calls}
            rows.append(shown | {"total": float(f"{total.after(calls):.5g}"), "marked": quarter % 4 == 0})
    names = [total.contender for total in found]
    times_s = [total.after(calls) for total in found for calls in (1, 10**MOST_CALLS_EXPONENT)]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X(
            "calls:Q", title="calls", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(format="~s", tickCount=6)
        ),
        y=alt.Y("total:Q", title="from process start", scale=alt.Scale(type="log", nice=True), axis=time_axis(times_s)),
        color=colour_of(identities, names),
        tooltip=[alt.Tooltip("contender:N"), alt.Tooltip("calls:Q", format="~s"), alt.Tooltip("total:Q", title="s")],
    )
    marks = base.transform_filter("datum.marked")
    layers = [
        base.mark_line(strokeWidth=1.5),
        marks.mark_point(filled=True, size=55, opacity=1).encode(shape=shape_of(identities, names)),
    ]
    return finish(alt.LayerChart(layer=layers), CHART_HEIGHT)
