"""What a contender costs before its first result, set against what it saves afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from faceoff.core.spec import Workload
from faceoff.results.costs import BreakEven, ColdStart
from faceoff.results.records import CaseResult


def find_break_evens(cold_starts: Sequence[ColdStart], cases: Sequence[CaseResult]) -> list[BreakEven]:
    """After how many calls the contender that compiles longer and runs faster has caught up with each other one.

    Where the intervals of both times overlap, nothing says that there is anything to catch up with.

    Args:
        cold_starts: of inference, measured with empty compile caches.
        cases: timed; those of inference on the same workloads count.
    """
    compile_s: dict[str, dict[str, float]] = {}
    for start in cold_starts:
        if start.outcome == "ok":
            name = Workload.from_json(start.workload).name
            compile_s.setdefault(name, {})[start.contender] = start.build_s + start.first_call_s
    found = []
    for name, before_s in compile_s.items():
        speeds = {
            case.contender: case.speed
            for case in cases
            if case.outcome == "ok" and case.speed and case.parsed_workload().name == name
        }
        for contender in speeds.keys() & before_s.keys():
            for other in speeds.keys() & before_s.keys() - {contender}:
                longer_s = before_s[contender] - before_s[other]
                saved_s = speeds[other].time_s - speeds[contender].time_s
                if longer_s > 0 and speeds[contender].interval_s[1] < speeds[other].interval_s[0]:
                    found.append(
                        BreakEven(
                            workload=name,
                            contender=contender,
                            other=other,
                            longer_s=longer_s,
                            saved_s=saved_s,
                            calls=longer_s / saved_s,
                        )
                    )
    return sorted(found, key=lambda b: (list(compile_s).index(b.workload), b.contender, b.calls))
