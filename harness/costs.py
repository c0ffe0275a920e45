"""What a contender costs before its first result, set against what it saves afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.spec import Workload
from harness.cost_records import BreakEven, ColdStart
from harness.results import CaseResult


def find_break_evens(cold_starts: Sequence[ColdStart], cases: Sequence[CaseResult]) -> list[BreakEven]:
    """After how many calls the contender that compiles longer and runs faster has caught up with each other one.

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
        call_s = {
            case.contender: case.speed.time_s
            for case in cases
            if case.outcome == "ok" and case.speed and case.parsed_workload().name == name
        }
        for contender in call_s.keys() & before_s.keys():
            for other in call_s.keys() & before_s.keys() - {contender}:
                longer_s, saved_s = before_s[contender] - before_s[other], call_s[other] - call_s[contender]
                if longer_s > 0 and saved_s > 0:
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
