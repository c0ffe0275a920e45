"""Vega-Lite specifications of the charts. Colours are CSS variables, so one drawing serves light, dark and paper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import altair as alt

from faceoff.report.norms import NormGroup, Setting, change, setting_of_curve
from faceoff.report.sections import ColdGroup, Task
from faceoff.report.speed import SpeedGroup
from faceoff.report.text import duration, finite, significant
from faceoff.report.words import Identity

Spec = dict[str, Any]
Identities = Mapping[str, Identity]

# From this ratio of slowest to quickest on, equal ratios are better read as equal distances.
LOG_AXIS_RATIO = 4.0
ROW_HEIGHT = 30
LOSS_HEIGHT = 240
MARKED_POINTS = 8
# A radius below, at and above 1 look apart from one another; the contenders' own colours would say something else.
CURVE_COLOURS = ("var(--p2)", "var(--p1)", "var(--p5)", "var(--c3)", "var(--c4)", "var(--c7)")
# Labels of sizes on an axis, so that none is dropped on a telephone.
MOST_SIZES = 4
MOST_DECADES_IN_PARTS = 2
# Vega would write 2 ms as 2m. Ticks of a logarithmic axis are a little off the powers of ten.
TIME_LABELS = " : ".join(
    [
        f"datum.value > {0.999 * unit} ? format(datum.value / {unit}, '~r') + ' {name}'"
        for unit, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs"))
    ]
    + ["format(datum.value / 1e-9, '~r') + ' ns'"]
)
PHASES = ("interpreter", "import", "configure", "build", "first call")
CONFIG: Spec = {
    "background": "var(--surface)",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line-strong)",
        "tickColor": "var(--line-strong)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": 500,
        "titlePadding": 10,
        "labelLimit": 170,
        "labelOverlap": "greedy",
    },
    "axisY": {"labelColor": "var(--text)"},
    # Within so many pixels of the end a number would be cut off in half.
    "axisX": {"labelFlush": 20},
}


def speed_chart(group: SpeedGroup, identities: Identities) -> Spec:
    """Time and interval of every comparable contender, the quickest on top."""
    rows = []
    for row in group.rows:
        low_s, high_s = row.speed.interval_s
        rows.append(
            {
                "contender": identities[row.contender].label,
                "time": row.speed.time_s / group.unit_s,
                "low": low_s / group.unit_s,
                "high": high_s / group.unit_s,
                "shown": f"{row.time} {row.interval} {group.unit}",
            }
        )
    low = min(row.speed.interval_s[0] for row in group.rows) / group.unit_s
    high = max(row.speed.interval_s[1] for row in group.rows) / group.unit_s
    if low > 0 and high / low > LOG_AXIS_RATIO:
        scale = alt.Scale(type="log", domain=[low * 0.85, high * 1.18], nice=False)
        title = f"{group.unit} per call, logarithmic"
    else:
        scale = alt.Scale(zero=True, nice=True)
        title = f"{group.unit} per call"
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y("contender:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False, labelPadding=8)),
        color=colour_of(identities, [row.contender for row in group.rows]),
        tooltip=[alt.Tooltip("contender:N"), alt.Tooltip("shown:N", title="time and interval")],
    )
    interval = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", scale=scale, title=title, axis=alt.Axis(tickCount=5, format=",~r")), x2="high:Q"
    )
    # Ends taller than the point, so that an interval narrower than the point is still seen.
    ends = [base.mark_tick(thickness=1.5, size=16).encode(x=end) for end in ("low:Q", "high:Q")]
    point = base.mark_point(filled=True, size=60, opacity=1).encode(
        x="time:Q", shape=shape_of(identities, [row.contender for row in group.rows])
    )
    return finish(alt.LayerChart(layer=[interval, *ends, point]), ROW_HEIGHT * len(group.rows))


def cold_chart(group: ColdGroup, identities: Identities) -> Spec:
    """The parts of each cold start on top of one another, in the order in which they happen. Bars from 0."""
    rows = []
    for start in group.rows:
        parts_s = (start.interpreter_s, start.import_s, start.configure_s, start.build_s, start.first_call_s)
        for order, (phase, part_s) in enumerate(zip(PHASES, parts_s, strict=True)):
            rows.append(
                {
                    "contender": identities[start.contender].label,
                    "phase": phase,
                    "order": order,
                    "seconds": part_s,
                    "shown": duration(part_s),
                }
            )
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_bar(stroke="var(--surface)", strokeWidth=1, size=18)
        .encode(
            x=alt.X("seconds:Q", stack="zero", title="s from process start", axis=alt.Axis(tickCount=5)),
            y=alt.Y("contender:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False, labelPadding=8)),
            color=alt.Color(
                "phase:N",
                legend=None,
                scale=alt.Scale(domain=list(PHASES), range=[f"var(--p{i + 1})" for i in range(len(PHASES))]),
            ),
            order=alt.Order("order:Q"),
            tooltip=[alt.Tooltip("contender:N"), alt.Tooltip("phase:N"), alt.Tooltip("shown:N", title="time")],
        )
    )
    return finish(chart, ROW_HEIGHT * len(group.rows))


def loss_chart(task: Task, identities: Identities) -> Spec | None:
    """The loss before every step, every contender over the reference; None when no loss was recorded."""
    losses = {run.contender: [finite(loss) for loss in run.losses] for run in task.runs}
    layers = []
    if task.reference_losses:
        reference = _series({"reference": [finite(loss) for loss in task.reference_losses]}, 6)
        layers.append(_lines(reference, strokeWidth=6, opacity=0.3, color="var(--text)"))
    layers += _contender_layers(losses, identities, 6)
    if not layers:
        return None
    scale = alt.Scale(zero=False, nice=True)
    return _finish_layers(layers, scale, "loss", alt.Axis(tickCount=5))


def distance_chart(task: Task, identities: Identities) -> Spec | None:
    """Each loss's distance from the reference, the spread that rounding gives, and the limit, a multiple of it.

    None when nothing can be drawn. A distance of exactly 0 has no place on a logarithmic axis and is left out.
    """
    distances = distance_from_reference(task)
    noise = [value if value and finite(value) else None for value in task.noise]
    drawn = {name: [value or None for value in values] for name, values in distances.items()}
    layers = _contender_layers({name: values for name, values in drawn.items() if any(values)}, identities, 3)
    if any(noise):
        layers.append(_lines(_series({"rounding": noise}, 3), strokeWidth=2.5, strokeDash=[7, 3], color="var(--text)"))
    limit = [value * task.limit if value and task.limit else None for value in noise]
    if any(limit):
        layers.append(_lines(_series({"limit": limit}, 3), strokeWidth=1.5, strokeDash=[2, 3], color="var(--text)"))
    if not layers:
        return None
    shown = [value for values in (noise, limit, *drawn.values()) for value in values if value]
    exponents = range(math.floor(math.log10(min(shown))), math.ceil(math.log10(max(shown))) + 1)
    # One line a decade: Vega's nine make the curves hard to see.
    axis = alt.Axis(values=[float(f"1e{exponent}") for exponent in exponents], format=".0e")
    return _finish_layers(layers, alt.Scale(type="log", nice=True), "distance in loss, logarithmic", axis)


def distance_from_reference(task: Task) -> dict[str, list[float | None]]:
    """Per contender and step, |loss - reference loss|; None where either is not finite."""
    return {
        run.contender: [
            None if finite(ours) is None or finite(theirs) is None or ours is None else abs(ours - theirs)
            for ours, theirs in zip(run.losses, task.reference_losses, strict=False)
        ]
        for run in task.runs
    }


def norm_chart(group: NormGroup, identities: Identities) -> Spec | None:
    """The norm of dLoss/dh_t over t: the reference as lines, contenders as hollow marks; None if nothing can be drawn.

    Curves that agree coincide, so each contender's marks have a size of their own. A norm of 0 has no place on a
    logarithmic axis and is left out.
    """
    names = group.drawn_contenders
    labels, shapes = [identities[n].label for n in names], [identities[n].shape for n in names]
    sizes = [40 + 70 * place for place in range(len(names))]
    size = alt.Size("size:Q", scale=None)
    shape = alt.Shape("contender:N", legend=None, scale=alt.Scale(domain=labels, range=shapes))
    opacity = alt.Opacity("opacity:Q", scale=None)
    hints = [alt.Tooltip(f"{name}:N") for name in ("contender", "set", "t", "norm", "judged")]
    layers: list[alt.Chart] = []
    shown: list[float] = []
    for setting in group.settings:
        colour = curve_colour(group, setting)
        steps = sorted(group.reference[setting].items())
        line: list[dict[str, Any]] = [{"t": t, "value": _rounded(norm or None, 4)} for t, norm in steps]
        marks: list[dict[str, Any]] = [
            {
                "contender": identities[record.contender].label,
                "set": setting.words,
                "t": t,
                "value": _rounded(norm, 4),
                "norm": significant(norm),
                "judged": "underflow" if t in record.underflow else "judged",
                "opacity": 0.4 if t in record.underflow else 1,
                "size": sizes[names.index(record.contender)],
            }
            for record in group.drawn
            if setting_of_curve(record) == setting
            for t, norm in zip(record.time_steps, record.norms, strict=False)
            if norm and finite(norm)
        ]
        values = [row["value"] for row in (*line, *marks) if row["value"]]
        if not values:
            continue
        shown += values
        lines = alt.Chart(alt.InlineData(values=line)).mark_line(color=colour, strokeWidth=2)
        points = alt.Chart(alt.InlineData(values=marks)).mark_point(filled=False, color=colour, strokeWidth=1.5)
        layers += [
            lines.encode(x="t:Q", y="value:Q"),
            points.encode(x="t:Q", y="value:Q", shape=shape, size=size, opacity=opacity, tooltip=hints),
        ]
    if not layers:
        return None
    low, high = math.floor(math.log10(min(shown))), math.ceil(math.log10(max(shown)))
    decades = [float(f"1e{exponent}") for exponent in range(low, high + 1, max(1, (high - low) // 8))]
    first = layers[0].encode(
        x=alt.X("t:Q", title="time step t", scale=alt.Scale(nice=False), axis=alt.Axis(tickCount=6, format="d")),
        y=alt.Y(
            "value:Q",
            title="norm of dLoss/dh_t, logarithmic",
            scale=alt.Scale(type="log", nice=False),
            axis=alt.Axis(values=decades, format=".0e"),
        ),
    )
    return finish(alt.LayerChart(layer=[first, *layers[1:]]), LOSS_HEIGHT)


def curve_colour(group: NormGroup, setting: Setting) -> str:
    """The colour of what a curve was set to, in the chart and in its legend."""
    return CURVE_COLOURS[group.settings.index(setting) % len(CURVE_COLOURS)]


def norm_label(group: NormGroup) -> str:
    """The chart of gradient norms in words."""
    changes = [f"{setting.words}: {significant(change(group, setting), 2)} times" for setting in group.settings]
    what = f"{group.workload.kind}, from the last time step back to the first"
    return chart_label("Norm of the loss's gradient by the hidden state", what, changes)


def chart_label(kind: str, what: str, figures: list[str]) -> str:
    """What a chart shows, for those who do not see it."""
    return f"{kind}, {what}. " + "; ".join(figures)


def speed_label(group: SpeedGroup, identities: Identities) -> str:
    """The speed chart in words."""
    figures = [f"{identities[row.contender].label} {row.time} {row.interval} {group.unit}" for row in group.rows]
    return chart_label("Time per call with its interval", f"{group.workload.title}, {group.workload.sizes}", figures)


def cold_label(group: ColdGroup, identities: Identities) -> str:
    """The cold start chart in words."""
    figures = [f"{identities[start.contender].label} {duration(start.total_s)}" for start in group.rows]
    return chart_label("Cold start by parts", f"{group.workload.title}, {group.workload.sizes}", figures)


def _contender_layers(series: dict[str, list[float | None]], identities: Identities, digits: int) -> list[alt.Chart]:
    """A line per contender, and marks at a few steps, shifted so that none hides another."""
    names = [name for name, values in series.items() if values]
    if not names:
        return []
    labelled = {identities[name].label: series[name] for name in names}
    marked = []
    for place, name in enumerate(names):
        values = series[name]
        stride = max(1, len(values) // MARKED_POINTS)
        for step in range(place * stride // len(names), len(values), stride):
            if values[step] is not None:
                row = {"name": identities[name].label, "step": step, "value": _rounded(values[step], digits)}
                marked.append(row)
    colour, shape = colour_of(identities, names, "name"), shape_of(identities, names, "name")
    lines = _lines(_series(labelled, digits), strokeWidth=1.25, opacity=0.85).encode(color=colour)
    points = (
        alt.Chart(alt.InlineData(values=marked))
        .mark_point(filled=True, size=60, opacity=1)
        .encode(
            x="step:Q",
            y="value:Q",
            color=colour,
            shape=shape,
            tooltip=[
                alt.Tooltip("name:N", title="contender"),
                alt.Tooltip("step:Q"),
                alt.Tooltip("value:Q", format=".6g"),
            ],
        )
    )
    return [lines, points]


def _series(series: dict[str, list[float | None]], digits: int) -> alt.InlineData:
    """One row a series, with its values as one list: a tenth of the size of one row a step."""
    return alt.InlineData(
        values=[
            {"name": name, "step": list(range(len(values))), "value": [_rounded(value, digits) for value in values]}
            for name, values in series.items()
        ]
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")


def _lines(data: alt.InlineData, **mark: Any) -> alt.Chart:
    chart: alt.Chart = alt.Chart(data).transform_flatten(["step", "value"]).mark_line(**mark)
    return chart.encode(x="step:Q", y="value:Q", detail="name:N")


def _finish_layers(layers: list[alt.Chart], scale: alt.Scale, title: str, axis: alt.Axis) -> Spec:
    first = layers[0].encode(
        x=alt.X("step:Q", title="training step", scale=alt.Scale(nice=False), axis=alt.Axis(tickCount=6, format="d")),
        y=alt.Y("value:Q", title=title, scale=scale, axis=axis),
    )
    return finish(alt.LayerChart(layer=[first, *layers[1:]]), LOSS_HEIGHT)


def colour_of(identities: Identities, names: list[str], field: str = "contender") -> alt.Color:
    """Each contender in its own colour."""
    labels, colours = [identities[n].label for n in names], [identities[n].colour for n in names]
    return alt.Color(f"{field}:N", legend=None, scale=alt.Scale(domain=labels, range=colours))


def shape_of(identities: Identities, names: list[str], field: str = "contender") -> alt.Shape:
    """Each contender in its own shape."""
    labels, shapes = [identities[n].label for n in names], [identities[n].shape for n in names]
    return alt.Shape(f"{field}:N", legend=None, scale=alt.Scale(domain=labels, range=shapes))


def lines_with_intervals(base: alt.Chart, identities: Identities, names: list[str]) -> alt.LayerChart:
    """Each contender's `time` as a line with marks and bars from `low` to `high`; it breaks where there is no time."""
    line = base.mark_line(strokeWidth=1.5, invalid="break-paths-filter-domains")
    held = base.transform_filter("isValid(datum.time)")
    interval = held.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q")
    point = held.mark_point(filled=True, size=60, opacity=1).encode(shape=shape_of(identities, names))
    return alt.LayerChart(layer=[line, interval, point])


def time_axis(times_s: Iterable[float]) -> alt.Axis:
    """Labels of a logarithmic axis of times, each in the unit that it is read in: decades, of few their parts too."""
    logarithms = [math.log10(time_s) for time_s in times_s if 0 < time_s < math.inf]
    low, high = math.floor(min(logarithms, default=0)), math.ceil(max(logarithms, default=0))
    parts = (1,) if high - low > MOST_DECADES_IN_PARTS else (1, 2, 5)
    values = [float(f"{part}e{exponent}") for exponent in range(low, high + 1) for part in parts]
    return alt.Axis(values=values, labelExpr=TIME_LABELS)


def size_axis(sizes: list[int]) -> alt.Axis:
    """Labels of a logarithmic axis of sizes (ascending) that leave each other room, that of the largest among them."""
    room = math.log(sizes[-1] / sizes[0]) / MOST_SIZES
    shown = [sizes[-1]]
    for size in reversed(sizes):
        if math.log(shown[-1] / size) > max(room, 0.1):
            shown.append(size)
    return alt.Axis(values=shown[::-1], format=",d")


def finish(chart: alt.Chart | alt.LayerChart, height: int) -> Spec:
    """The specification of a chart as wide as its box."""
    sized = chart.properties(
        width="container", height=height, autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
    )
    # Whether it is valid does not depend on the figures, and the check takes as long as all the rest: tests make it.
    spec: Spec = sized.to_dict(validate=False)
    # Altair's own default look stands in every chart; the page gives one configuration to all.
    spec.pop("config", None)
    return spec
