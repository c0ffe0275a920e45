"""Gradient norms over the time steps as the page shows them: grouping, words and figures of what the file holds."""

from __future__ import annotations

from dataclasses import dataclass

from harness.report.text import counted, finite, listed, significant
from harness.report.words import WorkloadText, describe_workload
from harness.results import Result
from harness.training_records import GradientNorms


@dataclass(frozen=True)
class NormGroup:
    """All curves of one model.

    Attributes:
        workload: the model; dtype and step in it are those of the first curve.
        records: every contender's, whatever its outcome.
        radii: spectral radii in the order of the file.
        reference: the reference's norm by spectral radius and time step; all contenders share one reference.
        drawn: the curves that the chart shows: those in the last dtype, the narrowest that was run.
    """

    workload: WorkloadText
    records: list[GradientNorms]
    radii: list[float]
    reference: dict[float, dict[int, float | None]]
    drawn: list[GradientNorms]

    @property
    def time_steps(self) -> list[int]:
        """Every t of any curve, ascending."""
        return sorted({t for curve in self.reference.values() for t in curve})

    @property
    def series(self) -> list[tuple[str, str]]:
        """Contender and dtype of the curves that hold figures, once each."""
        return list(dict.fromkeys((r.contender, dtype_of(r)) for r in self.records if r.norms))

    @property
    def drawn_dtype(self) -> str:
        return dtype_of(self.drawn[0]) if self.drawn else ""

    @property
    def drawn_contenders(self) -> list[str]:
        return list(dict.fromkeys(record.contender for record in self.drawn))


def norm_groups(result: Result) -> list[NormGroup]:
    """The gradient norms of a result by model, in the order of the file."""
    found: dict[str, list[GradientNorms]] = {}
    for record in result.gradient_norms:
        found.setdefault(describe_workload(record.workload).model_key, []).append(record)
    return [_group(records) for records in found.values()]


def _group(records: list[GradientNorms]) -> NormGroup:
    reference: dict[float, dict[int, float | None]] = {}
    for record in records:
        points = zip(record.time_steps, record.reference_norms, strict=False)
        reference.setdefault(record.spectral_radius, {}).update({t: finite(norm) for t, norm in points})
    dtypes = [dtype_of(record) for record in records if record.norms]
    return NormGroup(
        workload=describe_workload(records[0].workload),
        records=records,
        radii=list(reference),
        reference=reference,
        drawn=[record for record in records if record.norms and dtype_of(record) == dtypes[-1]],
    )


def norms_text(norms: GradientNorms) -> str:
    """Which curve of gradient norms a record holds."""
    workload = describe_workload(norms.workload)
    return f"{workload.kind}, spectral radius {norms.spectral_radius:g}, {workload.conditions}"


def dtype_of(record: GradientNorms) -> str:
    """The dtype of a record, as text whatever the file holds."""
    return str(record.workload.get("dtype", "unknown dtype"))


def figures(group: NormGroup, radius: float, contender: str, dtype: str) -> dict[int, tuple[float | None, bool]]:
    """Per time step of one curve: its norm, and whether it underflowed and was not judged."""
    for record in group.records:
        if (record.spectral_radius, record.contender, dtype_of(record)) == (radius, contender, dtype):
            return {
                t: (finite(norm), t in record.underflow)
                for t, norm in zip(record.time_steps, record.norms, strict=False)
            }
    return {}


def worst_distance(record: GradientNorms) -> str:
    """The largest distance of the points that were judged, with its unit."""
    judged = [
        finite(distance)
        for t, distance in zip(record.time_steps, record.distances, strict=False)
        if t not in record.underflow
    ]
    if not judged:
        return "none judged"
    known = [distance for distance in judged if distance is not None]
    return f"{significant(max(known) if len(known) == len(judged) else None, 2)} noise units"


def change(group: NormGroup, radius: float) -> float | None:
    """The reference's norm at the first time step over the one at the last; None when it cannot be told."""
    steps = sorted(group.reference.get(radius, {}))
    if len(steps) < 2:
        return None
    first, last = (group.reference[radius][t] for t in (steps[0], steps[-1]))
    return finite(first / last) if first is not None and last else None


def sentences(group: NormGroup) -> str:
    """How the reference's gradient changes on its way back, and how many curves agree with it."""
    parts = []
    for radius in group.radii:
        factor = change(group, radius)
        if factor is not None:
            verb = "shrinks" if factor < 1 else "grows"
            parts.append(f"{verb} by a factor {significant(factor, 2)} at spectral radius {radius:g}")
    said = ""
    if parts:
        first, last = group.time_steps[0], group.time_steps[-1]
        said = f"From t = {last} back to t = {first} the {group.workload.kind}'s gradient {listed(parts)}. "
    agree = sum(record.outcome == "ok" for record in group.records)
    said += (
        f"{agree} of {counted(len(group.records), 'curve')} {'agrees' if agree == 1 else 'agree'} with the reference"
    )
    small = sum(len(record.underflow) for record in group.records)
    return said + (f"; {counted(small, 'point')} underflowed and could not be judged." if small else ".")
