"""What the page needs to rank contenders for the reader's situation: the measured costs, and what can be asked for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from faceoff.core.spec import STEPS
from faceoff.report.speed import SpeedGroup, SpeedRow
from faceoff.report.trust import MANY_DISTURBED, few_calls
from faceoff.report.words import KIND_TITLES, Identity, describe_workload
from faceoff.results.agreements import meaning_checked_in
from faceoff.results.records import Result
from faceoff.speed import ranking
from faceoff.speed.criteria import LEAST_ERROR_UNITS, Measured, measured
from faceoff.speed.statistics import CONFIDENCE, TIE_MARGIN

CRITERIA = {
    "latency": "Latency (each call waited for)",
    "throughput": "Throughput (calls in a row)",
    "start": "Start-up to the first result",
    "memory": "Memory",
    "error": "Numerical error",
}
LEVELS = ("not at all", "a little", "some", "much", "most")
USUAL_WEIGHT = 2


@dataclass(frozen=True)
class Choose:
    """The controls of one result, and the costs that the page's script ranks by.

    Attributes:
        facts: what `choose.js` reads.
        kinds: kind of model and its title.
        steps, dtypes, devices, batches: what was measured, in order.
        usual: what the controls say at first.
        criteria: name, label, whether it was measured at all.
    """

    facts: dict[str, Any]
    kinds: list[tuple[str, str]]
    steps: list[str]
    dtypes: list[str]
    devices: list[str]
    batches: list[int]
    usual: ranking.Situation
    criteria: list[tuple[str, str, bool]]


def choose(result: Result, groups: Sequence[SpeedGroup], identities: Mapping[str, Identity]) -> Choose | None:
    """What can be chosen by in a result; None where no contender can be compared on anything.

    Args:
        result: whose cases are ranked.
        groups: its workloads as the page shows them, whose figures stand in the panel too.
        identities: of its contenders.
    """
    workloads = measured(result)
    if not any(workload.costs for workload in workloads):
        return None
    steps = [step for step in STEPS if any(workload.step == step for workload in workloads)]
    dtypes = list(dict.fromkeys(workload.dtype for workload in workloads))
    devices = list(dict.fromkeys(workload.device for workload in workloads))
    batches = sorted({workload.batch_size for workload in workloads})
    kinds = [kind for kind in KIND_TITLES if any(workload.kind == kind for workload in workloads)]
    usual = ranking.Situation(
        models=frozenset(kinds),
        step="training" if "training" in steps else steps[0],
        dtype="float32" if "float32" in dtypes else dtypes[0],
        device=devices[0],
        batch=(batches[0], batches[-1]),
        weights={"latency": USUAL_WEIGHT},
    )
    return Choose(
        facts=_facts(result, workloads, {group.workload.key: group for group in groups}, identities),
        kinds=[(kind, KIND_TITLES[kind]) for kind in kinds],
        steps=steps,
        dtypes=dtypes,
        devices=devices,
        batches=batches,
        usual=replace(usual, batch=(batches[0], _largest_for_all(workloads, usual))),
        criteria=[(name, label, ranking.is_measured(workloads, name)) for name, label in CRITERIA.items()],
    )


def _texts(row: SpeedRow, unit: str) -> list[str]:
    return [f"{row.time} {unit}", f"{row.pipelined} {unit}" if row.pipelined else ""]


def _largest_for_all(workloads: list[Measured], situation: ranking.Situation) -> int:
    """The largest batch size up to which everybody has a place who has one at all: beyond it memory may run out."""
    fitting = sorted((w for w in workloads if situation.fits(w)), key=lambda w: w.batch_size)
    largest, placed = situation.batch[1], set[str]()
    for size, group in itertools.groupby(fitting, key=lambda w: w.batch_size):
        still = set.intersection(*(set(workload.costs) for workload in group))
        if placed and not placed <= still:
            break
        largest, placed = size, still
    return largest


def _facts(
    result: Result,
    workloads: list[Measured],
    groups: Mapping[str, SpeedGroup],
    identities: Mapping[str, Identity],
) -> dict[str, Any]:
    names = list(dict.fromkeys(name for w in workloads for name in (*w.costs, *w.absent)))
    number = {name: at for at, name in enumerate(names)}
    titles = {}
    for case in result.cases:
        words = describe_workload(case.workload)
        titles[words.key] = f"{words.title} ({words.sizes}; {words.batch})"
    return {
        "margin": TIE_MARGIN,
        "confidence": CONFIDENCE,
        "busyWidening": ranking.BUSY_WIDENING,
        "mostIfBusy": ranking.MOST_IF_BUSY,
        "manyDisturbed": MANY_DISTURBED,
        "leastError": LEAST_ERROR_UNITS,
        "levels": LEVELS,
        "contenders": names,
        # Of those that offer no float64.
        "meaning": {number[n]: dtype for n, dtype in meaning_checked_in(result.agreements).items() if n in number},
        "looks": [[identities[n].label, identities[n].colour, identities[n].shape_index] for n in names],
        "workloads": [
            {
                "name": workload.name,
                "title": titles[workload.name],
                "kind": workload.kind,
                "step": workload.step,
                "dtype": workload.dtype,
                "device": workload.device,
                "batch": workload.batch_size,
                "rows": [
                    [number[name], *(None if value is None else float(f"{value:.9g}") for value in astuple(costs))]
                    for name, costs in workload.costs.items()
                ],
                "busy": workload.busy,
                "disturbed": workload.disturbed,
                "unsteady": [number[row.contender] for row in groups[workload.name].rows if row.unsteady],
                "fewCalls": [number[name] for name in few_calls(groups[workload.name])],
                # As they stand in the tables and cards, for where there is one workload alone.
                "times": {
                    number[row.contender]: _texts(row, groups[workload.name].unit) for row in groups[workload.name].rows
                },
                "absent": [[number[name], outcome] for name, outcome in workload.absent.items()],
            }
            for workload in workloads
        ],
    }
