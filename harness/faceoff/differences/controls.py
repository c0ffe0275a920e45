"""What tells of the machine between two runs: the contenders that are the same in both files, and the canary."""

from __future__ import annotations

import math
import statistics as central
from collections.abc import Sequence

from faceoff.core.spec import AT
from faceoff.differences.records import CaseChange, MachineChange
from faceoff.differences.sides import Side, switches
from faceoff.results.records import ContenderInfo, Result

IMPLEMENTATIONS = "impls"


def unchanged(before: Side, after: Side) -> list[str]:
    """The contenders whose code, versions, switches and interpreter are the same in both files."""
    if before.result.machine.get("python") != after.result.machine.get("python"):
        return []
    return [
        name
        for name, was in before.contenders.items()
        if (now := after.contenders.get(name)) is not None
        and switches(was) == switches(now)
        and was.installed == now.installed
        and _same_code(before.result, was, after.result, now)
    ]


def _same_code(before: Result, was: ContenderInfo, after: Result, now: ContenderInfo) -> bool:
    """Whether a contender's folder holds the same code; in older files that is known of its models alone."""
    if was.code and now.code:
        return was.code == now.code
    models = [_models_of(was.contender, result) for result in (before, after)]
    return bool(models[0]) and models[0] == models[1]


def _models_of(contender: str, result: Result) -> dict[str, str]:
    """Digests of the files of a contender's models, by path."""
    label = contender.partition(":")[0]
    folders = tuple(f"{IMPLEMENTATIONS}/{name}/" for name in (label, label.partition(AT)[0]))
    return {path: digest for path, digest in result.sources.items() if path.startswith(folders)}


def canaries(before: Side, after: Side) -> dict[str, dict[str, float]]:
    """What the fixed computations say of the machine, by workload and kind: the logarithm of later over earlier times.

    Only of workloads on the processor: of a card the canary knows nothing.
    """
    earlier = {canary.workload: canary for canary in before.result.canaries}
    on_processor = {
        workload
        for (workload, _), case in after.cases.items()
        if case.parsed_workload().device == "cpu" and workload in earlier
    }
    return {
        canary.workload: {
            kind: math.log(time_s / earlier[canary.workload].times_s[kind])
            for kind, time_s in canary.times_s.items()
            if kind in earlier[canary.workload].times_s
        }
        for canary in after.result.canaries
        if canary.workload in on_processor and canary.numpy == earlier[canary.workload].numpy
    }


def machine_change(before: Side, after: Side, cases: Sequence[CaseChange]) -> MachineChange:
    """What was taken for the machine's change, in all."""
    controls = unchanged(before, after)
    by_workload: dict[str, list[float]] = {}
    for case in cases:
        # Each control was judged by the others alone; here all of them are told together.
        of_controls = case.basis == "controls" and case.contender in controls
        if case.machine is not None and (of_controls or case.basis == "canary"):
            by_workload.setdefault(case.workload, []).append(case.machine * (case.ratio if of_controls else 1.0))
    for case in cases:
        if case.machine is not None:
            by_workload.setdefault(case.workload, [case.machine])
    workloads = {name: central.median(ratios) for name, ratios in by_workload.items()}
    told = [case for case in cases if case.contender in controls]
    of_kind: dict[str, list[float]] = {}
    for changes in canaries(before, after).values():
        for kind, change in changes.items():
            of_kind.setdefault(kind, []).append(change)
    return MachineChange(
        ratio=central.median(workloads.values()) if workloads else None,
        workloads=workloads,
        controls=[name for name in controls if any(case.contender == name for case in told)],
        cases=len(told),
        canary={kind: math.exp(central.median(found)) for kind, found in of_kind.items()},
    )
