"""CPU against GPU: the same workload on both, by the same contender and by each framework's fastest mode there."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import altair as alt

from faceoff.core.spec import DenseSpec, Workload
from faceoff.machine.description import card_name
from faceoff.report.charts import Identities, Spec, colour_of, finish, lines_with_intervals, size_axis, time_axis
from faceoff.report.text import clip, counted, significant
from faceoff.report.words import Identity, WorkloadText, describe_workload, outcome_word, read_workload
from faceoff.results.records import CaseResult, Result

HEIGHT = 260
DASHES = alt.Scale(domain=["CPU", "GPU"], range=[[4, 3], [1, 0]])
Times = tuple[float, float, float]
"""Time and 95 % interval, seconds."""


@dataclass(frozen=True)
class Side:
    """A case on one device: its times, or None and what stands in their place."""

    contender: str
    times: Times | None
    gap: str = ""

    @property
    def mode(self) -> str:
        return self.contender.partition(":")[2]


# By contender and size.
Sides = dict[str, dict[int, Side]]


@dataclass(frozen=True)
class Point:
    """One size on both devices."""

    size: int
    cpu: Side
    gpu: Side

    @property
    def ratio(self) -> Times | None:
        """CPU time over GPU time: above 1 the GPU is ahead. The two were measured in runs of their own."""
        cpu, gpu = self.cpu.times, self.gpu.times
        if cpu is None or gpu is None:
            return None
        middle = math.log(cpu[0] / gpu[0])
        half = math.hypot(*(math.log(times[2] / times[1]) / 2 for times in (cpu, gpu)))
        return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


Points = Sequence[Point]


@dataclass(frozen=True)
class Crossing:
    """A model, step and dtype on a processor and on a card.

    Attributes:
        workload: the first of them, for its words.
        dtype: of both.
        measure: what its sizes are: `batch size`, or `rows and columns` of square matrix products.
        processor: its name and the threads on it.
        card: the GPU's name; empty where it was not told.
        points: of contenders that ran on both, ascending.
        fastest: by framework, where it has several modes: whichever came out fastest, on either device.
    """

    workload: WorkloadText
    dtype: str
    measure: str
    processor: str
    card: str
    points: dict[str, Points]
    fastest: dict[str, Points]

    def sentence(self, points: Points) -> str:
        """From which size on the GPU is ahead, as far as the intervals tell."""
        told = [(point.size, point.ratio) for point in points if point.ratio]
        if not told:
            return "no size has a time on both"
        # Who is ahead at each size that tells them apart; the first such size, and each at which the lead changes.
        leads = [(size, "GPU" if ratio[1] > 1 else "CPU") for size, ratio in told if ratio[1] > 1 or ratio[2] < 1]
        turns = leads[:1] + [later for earlier, later in pairwise(leads) if earlier[1] != later[1]]
        if not leads:
            return "no size tells them apart"
        (first, leader), (last, _) = leads[0], leads[-1]
        if len(told) == 1:
            return f"the {leader} is ahead at {self.measure} {first:,}, the only size with a time on both"
        end = f" (beyond {told[-1][0]:,} there is no time on both)" if points[-1].size > told[-1][0] else ""
        if len(turns) == 1 and leader == "GPU":
            return f"the GPU is ahead from {self.measure} {first:,} on, the smallest told apart{end}"
        if len(turns) == 1:
            return f"the CPU is ahead up to {self.measure} {last:,}, the largest told apart{end}"
        if len(turns) == 2 and leader == "CPU":
            before = max(size for size, who in leads if who == "CPU")
            return f"the GPU overtakes between {self.measure} {before:,} and {turns[1][0]:,}{end}"
        rest = ", ".join(f"the {who} from {size:,}" for size, who in turns[1:])
        return f"the {leader} is ahead from {self.measure} {first:,}, {rest} on{end}"

    def modes(self, points: Points) -> str:
        """Which modes were the fastest on either device, in words."""
        by_device = {"CPU": [point.cpu for point in points], "GPU": [point.gpu for point in points]}
        modes = {
            device: dict.fromkeys(side.mode for side in sides if side.times) for device, sides in by_device.items()
        }
        return "; ".join(f"{device}: {', '.join(names) or 'none'}" for device, names in modes.items())


def crossings(results: Sequence[Result]) -> list[Crossing]:
    """What the results have on both devices, in their order: for each card, and each processor with so many threads.

    The last record of a case counts.
    """
    found: dict[str, dict[str, dict[str, Sides]]] = {"cpu": {}, "gpu": {}}
    families: dict[str, tuple[WorkloadText, str, str]] = {}
    for result in results:
        processor = clip(str(result.machine.get("processor") or "unknown processor"))
        names = {"cpu": f"{processor}, {counted(result.threads, 'thread')}", "gpu": card_name(result.machine)}
        for case in result.cases:
            workload = read_workload(case.workload)
            if workload is None:
                continue
            family, measure, size = _family(workload)
            families.setdefault(family, (describe_workload(case.workload), workload.dtype, measure))
            of_device = found[workload.device].setdefault(names[workload.device], {})
            of_device.setdefault(family, {}).setdefault(case.contender, {})[size] = _side(case)
    crossed = [
        Crossing(
            *words, processor, card, _of_contenders(cpu[family], gpu[family]), _of_fastest(cpu[family], gpu[family])
        )
        for card, gpu in found["gpu"].items()
        for processor, cpu in found["cpu"].items()
        for family, words in families.items()
        if family in cpu and family in gpu
    ]
    return [crossing for crossing in crossed if crossing.points or crossing.fastest]


def _side(case: CaseResult) -> Side:
    speed = case.speed if case.outcome == "ok" else None
    times = (speed.time_s, *speed.interval_s) if speed else None
    if times and all(math.isfinite(value) and value > 0 for value in times):
        return Side(case.contender, times)
    return Side(case.contender, None, "no time" if case.outcome == "ok" else outcome_word(case.outcome, case.reason))


def _of_contenders(cpu: Sides, gpu: Sides) -> dict[str, Points]:
    found: dict[str, Points] = {name: _points(cpu[name], gpu[name]) for name in cpu if name in gpu}
    return {name: points for name, points in found.items() if points}


def _of_fastest(cpu: Sides, gpu: Sides) -> dict[str, Points]:
    found: dict[str, Points] = {}
    for framework in dict.fromkeys(_framework(name) for name in cpu):
        own = [{name: sizes for name, sizes in sides.items() if _framework(name) == framework} for sides in (cpu, gpu)]
        points = _points(*(_fastest(sides) for sides in own))
        if points and len({*own[0], *own[1]}) > 1:
            found[framework] = points
    return found


def _framework(contender: str) -> str:
    return contender.partition(":")[0]


def _fastest(sides: Sides) -> dict[int, Side]:
    """The fastest of all contenders at each size; where none has a time, the first."""
    by_size: dict[int, list[Side]] = {}
    for sizes in sides.values():
        for size, side in sizes.items():
            by_size.setdefault(size, []).append(side)
    return {size: min(found, key=lambda side: side.times or (math.inf,)) for size, found in by_size.items()}


def _points(cpu: Mapping[int, Side], gpu: Mapping[int, Side]) -> list[Point]:
    return [Point(size, cpu[size], gpu[size]) for size in sorted(cpu.keys() & gpu.keys())]


def _family(workload: Workload) -> tuple[str, str, int]:
    """What crosses as one curve: its name, what its sizes are, and this one's."""
    model, size = workload.model, workload.batch_size
    anywhere = workload.replace(device="gpu")
    if isinstance(model, DenseSpec) and set(model.layer_sizes) == {size} and model.num_layers == 1:
        square = dataclasses.replace(model, layer_sizes=(1, 1))
        return "square " + anywhere.replace(model=square, batch_size=1).name, "rows and columns", size
    return anywhere.replace(batch_size=1).name, "batch size", size


def identities_of_frameworks(identities: Identities) -> dict[str, Identity]:
    """How a framework's fastest mode looks: as the first contender of the framework does."""
    found: dict[str, Identity] = {}
    for name, identity in identities.items():
        label = f"{_framework(identity.label)}, fastest mode"
        found.setdefault(_framework(name), Identity(label, identity.slot))
    return found


def crossing_chart(curves: Mapping[str, Points], measure: str, identities: Identities) -> Spec | None:
    """Time per call over size on both devices, both axes logarithmic; None for a single size."""
    sizes = sorted({point.size for points in curves.values() for point in points})
    if len(sizes) < 2:
        return None
    rows = []
    for name, points in curves.items():
        label = identities[name].label
        for point in points:
            for device, side in (("CPU", point.cpu), ("GPU", point.gpu)):
                row: dict[str, object] = {"contender": label, "size": point.size, "time": None}
                row |= {"device": device, "line": f"{label} {device}", "mode": side.mode}
                if side.times is not None:
                    figures = zip(("time", "low", "high"), side.times, strict=True)
                    row |= {key: float(f"{value:.5g}") for key, value in figures}
                    row["shown"] = f"{significant(side.times[0] * 1e3)} ms"
                rows.append(row)
    names = list(curves)
    times_s = [side.times[0] for points in curves.values() for p in points for side in (p.cpu, p.gpu) if side.times]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("size:Q", title=measure, scale=alt.Scale(type="log", nice=False, padding=12), axis=size_axis(sizes)),
        y=alt.Y("time:Q", title="per call", scale=alt.Scale(type="log", nice=True), axis=time_axis(times_s)),
        color=colour_of(identities, names),
        detail="line:N",
        strokeDash=alt.StrokeDash("device:N", scale=DASHES, legend=None),
        tooltip=[
            alt.Tooltip("contender:N"),
            alt.Tooltip("device:N"),
            alt.Tooltip("mode:N"),
            alt.Tooltip("size:Q"),
            alt.Tooltip("shown:N", title="per call"),
        ],
    )
    return finish(lines_with_intervals(base, identities, names), HEIGHT)
