"""Gradient norms over the time steps as the page shows them: grouping, words and figures of what the file holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from faceoff.report.text import counted, finite, listed, significant
from faceoff.report.words import WorkloadText, describe_workload
from faceoff.results.records import Result
from faceoff.results.trainings import GradientNorms


class Setting(NamedTuple):
    """What one curve of a model was set to.

    Attributes:
        forget_bias: of an LSTM's forget gate; None where it was not set.
    """

    spectral_radius: float
    forget_bias: float | None = None

    @property
    def words(self) -> str:
        """What tells this curve from the others of its model: `spectral radius 1`, `forget-gate bias 2`."""
        if self.forget_bias is None:
            return f"spectral radius {self.spectral_radius:g}"
        return f"forget-gate bias {self.forget_bias:g}"

    @property
    def figure(self) -> str:
        """The same as a figure alone, of a bias with where the gate then stands."""
        if self.forget_bias is None:
            return significant(self.spectral_radius)
        return f"{self.forget_bias:g} (gate {significant((1 + math.tanh(self.forget_bias / 2)) / 2)})"


def setting_of_curve(record: GradientNorms) -> Setting:
    """What the curve of a record was set to."""
    return Setting(record.spectral_radius, record.forget_bias)


@dataclass(frozen=True)
class NormGroup:
    """All curves of one model.

    Attributes:
        workload: the model; dtype and step in it are those of the first curve.
        records: every contender's, whatever its outcome.
        settings: of the curves, in the order of the file.
        reference: the reference's norm by setting and time step; all contenders share one reference.
        drawn: the curves that the chart shows: those in the last dtype, the narrowest that was run.
    """

    workload: WorkloadText
    records: list[GradientNorms]
    settings: list[Setting]
    reference: dict[Setting, dict[int, float | None]]
    drawn: list[GradientNorms]

    @property
    def time_steps(self) -> list[int]:
        """Every t of any curve, ascending."""
        return sorted({t for curve in self.reference.values() for t in curve})

    @property
    def heading(self) -> str:
        """What the curves differ in."""
        return "Spectral radius" if any(s.forget_bias is None for s in self.settings) else "Forget-gate bias"

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
    reference: dict[Setting, dict[int, float | None]] = {}
    for record in records:
        points = zip(record.time_steps, record.reference_norms, strict=False)
        reference.setdefault(setting_of_curve(record), {}).update({t: finite(norm) for t, norm in points})
    dtypes = [dtype_of(record) for record in records if record.norms]
    return NormGroup(
        workload=describe_workload(records[0].workload),
        records=records,
        settings=list(reference),
        reference=reference,
        drawn=[record for record in records if record.norms and dtype_of(record) == dtypes[-1]],
    )


def norms_text(norms: GradientNorms) -> str:
    """Which curve of gradient norms a record holds."""
    workload = describe_workload(norms.workload)
    return f"{workload.kind}, {norms.setting}, {workload.conditions}"


def dtype_of(record: GradientNorms) -> str:
    """The dtype of a record, as text whatever the file holds."""
    return str(record.workload.get("dtype", "unknown dtype"))


def figures(group: NormGroup, setting: Setting, contender: str, dtype: str) -> dict[int, tuple[float | None, bool]]:
    """Per time step of one curve: its norm, and whether it underflowed and was not judged."""
    for record in group.records:
        if (setting_of_curve(record), record.contender, dtype_of(record)) == (setting, contender, dtype):
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


def change(group: NormGroup, setting: Setting) -> float | None:
    """The reference's norm at the first time step over the one at the last; None when it cannot be told."""
    steps = sorted(group.reference.get(setting, {}))
    if len(steps) < 2:
        return None
    first, last = (group.reference[setting][t] for t in (steps[0], steps[-1]))
    return finite(first / last) if first is not None and last else None


def sentences(group: NormGroup) -> str:
    """How the reference's gradient changes on its way back, and how many curves agree with it."""
    parts: list[str] = []
    for setting in group.settings:
        factor = change(group, setting)
        if factor is not None:
            size = f"falls to {significant(factor, 2)} of" if factor < 1 else f"grows to {significant(factor, 2)} times"
            parts.append(f"{size} {'it' if parts else 'its norm'} at {setting.words}")
    said = ""
    if parts:
        first, last = group.time_steps[0], group.time_steps[-1]
        said = f"From t = {last} back to t = {first} the {group.workload.kind}'s gradient {listed(parts)}. "
    if group.workload.kind == "LSTM" and any(setting.forget_bias is None for setting in group.settings):
        said += "Its forget gate was not set in this run: nearly all biases were 0, so it stood half shut. "
    agree = sum(record.outcome == "ok" for record in group.records)
    said += (
        f"{agree} of {counted(len(group.records), 'curve')} {'agrees' if agree == 1 else 'agree'} with the reference"
    )
    small = sum(len(record.underflow) for record in group.records)
    return said + (f"; {counted(small, 'point')} underflowed and could not be judged." if small else ".")


def lesson(groups: Sequence[NormGroup]) -> str:
    """How much farther the gradient of an LSTM with an open gate reaches than that of a vanilla RNN with such a W_hh.

    A sentence; empty where a result does not hold both curves, or where they do not show it.
    """
    rnn, lstm = (next((group for group in groups if group.workload.kind == kind), None) for kind in ("RNN", "LSTM"))
    if rnn is None or lstm is None:
        return ""
    biased = [setting for setting in lstm.settings if setting.forget_bias is not None]
    if not biased:
        return ""
    most_open = max(biased, key=lambda setting: setting.forget_bias or 0.0)
    ours, theirs = change(lstm, most_open), change(rnn, Setting(most_open.spectral_radius))
    if ours is None or theirs is None or not theirs < min(ours, 1):
        return ""
    return (
        f"At the same spectral radius of {most_open.spectral_radius:g} the RNN's gradient falls to "
        f"{significant(theirs, 2)} of its norm; with the forget gate open ({most_open.words}) the LSTM's "
        f"{'keeps' if ours < 1 else 'grows to'} {significant(ours, 2)} {'of it' if ours < 1 else 'times it'}."
    )
