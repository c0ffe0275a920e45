"""CPU against GPU: the same workload and contender on both, and the size from which the GPU is ahead."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import altair as alt

from harness.core.spec import DenseSpec, Workload
from harness.machine import card_name
from harness.report.charts import Identities, Spec, colour_of, finish, lines_with_intervals
from harness.report.overview import MOST_WORKLOADS
from harness.report.text import significant
from harness.report.words import WorkloadText, describe_workload, read_workload
from harness.results import Result

HEIGHT = 260
DASHES = alt.Scale(domain=["CPU", "GPU"], range=[[4, 3], [1, 0]])
Times = tuple[float, float, float]
"""Time and 95 % interval, seconds."""


@dataclass(frozen=True)
class Point:
    """One size of a contender on both devices; None where it has no time, and the outcome that stands there."""

    size: int
    cpu: Times | None
    gpu: Times | None
    cpu_outcome: str = ""
    gpu_outcome: str = ""

    @property
    def ratio(self) -> Times | None:
        """CPU time over GPU time: above 1 the GPU is ahead. The two were measured in runs of their own."""
        if self.cpu is None or self.gpu is None:
            return None
        middle = math.log(self.cpu[0] / self.gpu[0])
        half = math.hypot(*(math.log(times[2] / times[1]) / 2 for times in (self.cpu, self.gpu)))
        return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


@dataclass
class Crossing:
    """A model, step and dtype on both devices.

    Attributes:
        workload: the smallest of them, for its words.
        measure: what its sizes are: `batch size`, or `rows and columns` of square matrix products.
        card: the GPU's name; empty where it was not told.
        points: by contender, ascending.
    """

    workload: WorkloadText
    measure: str
    card: str = ""
    points: dict[str, list[Point]] = field(default_factory=dict)

    def sentence(self, contender: str) -> str:
        """From which size on the GPU is ahead, as far as the intervals tell."""
        told = [(point.size, point.ratio) for point in self.points[contender] if point.ratio]
        ahead = [size for size, ratio in told if ratio[1] > 1]
        behind = [size for size, ratio in told if ratio[2] < 1]
        if not told:
            return "no size has a time on both"
        if not behind and not ahead:
            return "no size tells them apart"
        if not behind:
            return f"the GPU is ahead from {self.measure} {ahead[0]:,} on, the smallest told apart"
        if not ahead:
            return f"the CPU is ahead up to {self.measure} {behind[-1]:,}, the largest told apart"
        from_size = next((size for size in ahead if size > behind[-1]), None)
        if from_size is None:
            return f"the GPU is ahead at {self.measure} {ahead[0]:,}, and the CPU again at {behind[-1]:,}"
        return f"the GPU overtakes between {self.measure} {behind[-1]:,} and {from_size:,}"


def crossings(results: Sequence[Result]) -> list[Crossing]:
    """What the results have on both devices, in their order, for each card; the last record of a case counts."""
    times: dict[str, dict[tuple[str, str, int], tuple[Times | None, str]]] = {}
    families: dict[str, tuple[WorkloadText, str]] = {}
    for result in results:
        for case in result.cases:
            workload = read_workload(case.workload)
            if workload is None:
                continue
            family, measure, size = _family(workload)
            families.setdefault(family, (describe_workload(case.workload), measure))
            speed = case.speed if case.outcome == "ok" else None
            found = (speed.time_s, *speed.interval_s) if speed else None
            if found and not all(math.isfinite(value) and value > 0 for value in found):
                found = None
            where = f"gpu {card_name(result.machine)}" if workload.device == "gpu" else "cpu"
            times.setdefault(where, {})[family, case.contender, size] = found, case.outcome
    on_cpu = times.pop("cpu", {})
    crossed: dict[tuple[str, str], Crossing] = {}
    for where, on_gpu in times.items():
        for key in sorted((key for key in on_gpu if key in on_cpu), key=lambda key: key[2]):
            family, contender, size = key
            card = where.removeprefix("gpu ")
            crossing = crossed.setdefault((family, where), Crossing(*families[family], card))
            (cpu, cpu_outcome), (gpu, gpu_outcome) = on_cpu[key], on_gpu[key]
            crossing.points.setdefault(contender, []).append(Point(size, cpu, gpu, cpu_outcome, gpu_outcome))
    ordered = [(family, where) for where in times for family in families]
    return [crossed[key] for key in ordered if key in crossed][:MOST_WORKLOADS]


def _family(workload: Workload) -> tuple[str, str, int]:
    """What crosses as one curve: its name, what its sizes are, and this one's."""
    model, size = workload.model, workload.batch_size
    anywhere = workload.replace(device="gpu")
    if isinstance(model, DenseSpec) and set(model.layer_sizes) == {size} and model.num_layers == 1:
        square = dataclasses.replace(model, layer_sizes=(1, 1))
        return "square " + anywhere.replace(model=square, batch_size=1).name, "rows and columns", size
    return anywhere.replace(batch_size=1).name, "batch size", size


def crossing_chart(crossing: Crossing, identities: Identities) -> Spec | None:
    """Time per call over size on both devices, both axes logarithmic; None for a single size."""
    sizes = sorted({point.size for points in crossing.points.values() for point in points})
    if len(sizes) < 2:
        return None
    rows = []
    for contender, points in crossing.points.items():
        for point in points:
            for device, times in (("CPU", point.cpu), ("GPU", point.gpu)):
                row: dict[str, object] = {"contender": identities[contender].label, "size": point.size, "time": None}
                row |= {"device": device, "line": f"{identities[contender].label} {device}"}
                if times is not None:
                    row |= {
                        key: float(f"{value:.5g}") for key, value in zip(("time", "low", "high"), times, strict=True)
                    }
                    row["shown"] = f"{significant(times[0] * 1e3)} ms"
                rows.append(row)
    names = list(crossing.points)
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X(
            "size:Q",
            title=crossing.measure,
            scale=alt.Scale(type="log", nice=False, padding=12),
            axis=alt.Axis(values=sizes, format="d"),
        ),
        y=alt.Y("time:Q", title="s per call", scale=alt.Scale(type="log", nice=True), axis=alt.Axis(format="~s")),
        color=colour_of(identities, names),
        detail="line:N",
        strokeDash=alt.StrokeDash("device:N", scale=DASHES, legend=None),
        tooltip=[
            alt.Tooltip("contender:N"),
            alt.Tooltip("device:N"),
            alt.Tooltip("size:Q"),
            alt.Tooltip("shown:N", title="per call"),
        ],
    )
    return finish(lines_with_intervals(base, identities, names), HEIGHT)
