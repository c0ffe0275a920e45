"""Do verdicts hold from one run to the next? `python -m tests.calibration.between_runs RESULT...`.

Takes the result files of some runs of one commit on one machine, of which nothing has changed from one to the other. It
compares every pair both ways and counts regressions, which are all false. Then it slows one contender of one run down,
by scaling its rounds, and counts against how many of the other runs `diff` finds that: for every run and contender, or
for those that are named. It prints JSON. Exit status 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faceoff.differences.changes import diff
from faceoff.differences.records import Diff
from faceoff.results.file import load, write_text
from faceoff.results.records import Result
from faceoff.speed.statistics import CONFIDENCE

THRESHOLDS = (10.0, 5.0)
# Of about 3,700 comparisons of equals, so many regressions at each threshold.
MOST_FALSE = {10.0: 4 / 3700, 5.0: 8 / 3700}
LEAST_FOUND = 0.9
SLOWER_BY = 15.0


def slowed(result: Result, contender: str, percent: float) -> Result:
    """The result with every round of a contender longer by so many percent."""
    factor = 1 + percent / 100
    cases = []
    for case in result.cases:
        speed = case.speed
        if case.contender == contender and speed is not None:
            longer = {"rounds_s": [factor * s for s in speed.rounds_s], "time_s": factor * speed.time_s}
            case = case.model_copy(update={"speed": speed.model_copy(update=longer)})
        cases.append(case)
    return result.model_copy(update={"cases": cases})


def of_equals(runs: Sequence[Result]) -> dict[str, Any]:
    """What `diff` says of runs that are the same, every pair both ways."""
    pairs = list(itertools.permutations(range(len(runs)), 2))
    found: dict[str, Any] = {"pairs": len(pairs) // 2}
    for threshold in THRESHOLDS:
        diffs = {pair: diff(runs[pair[0]], runs[pair[1]], threshold) for pair in pairs}
        found[f"threshold {threshold:g} %"] = _counted(diffs)
    found |= _spread(diffs.values())
    return found


def _counted(diffs: dict[tuple[int, int], Diff]) -> dict[str, Any]:
    false = [(pair, case) for pair, found in diffs.items() for case in found.regressions]
    cases = [case for found in diffs.values() for case in found.cases]
    return {
        # One way is the other one's mirror image.
        "comparisons": len(cases) // 2,
        "false_regressions": len(false),
        "unsure": sum(case.unsure for case in cases) // 2,
        "which": [
            {"before": pair[0], "after": pair[1], "workload": c.workload, "contender": c.contender, "ratio": c.ratio}
            for pair, c in false
        ],
    }


def _spread(diffs: Iterable[Diff]) -> dict[str, Any]:
    """How far the same differs, as it is and with the machine's change taken out; percent."""
    cases = [case for found in diffs for case in found.cases]
    own = np.abs(np.log([case.ratio for case in cases]))
    raw = np.abs(np.log([case.ratio * (case.machine or 1.0) for case in cases]))
    half = [np.log(case.interval[1] / case.interval[0]) / 2 for case in cases]
    inside = [case.interval[0] <= 1 <= case.interval[1] for case in cases]
    return {
        "differ_by": _quantiles(raw),
        "differ_by_without_the_machine": _quantiles(own),
        "half_width": _quantiles(np.array(half)),
        "interval_holds_1": float(np.mean(inside)),
    }


def _quantiles(values: np.ndarray) -> dict[str, float]:
    middle, ninth, most = 100 * np.expm1(np.quantile(values, [0.5, 0.9, 1.0]))
    return {"median": round(float(middle), 2), "90th percentile": round(float(ninth), 2), "most": round(float(most), 2)}


def of_planted(runs: Sequence[Result], contenders: Sequence[str], percent: float) -> dict[str, Any]:
    """Against how many of the other runs a slowdown of one contender of one run is found, and what else is then."""
    by_contender: dict[str, dict[str, Any]] = {}
    for contender in contenders:
        found, others, cases, least = [], 0, [], 1.0
        for index, run in enumerate(runs):
            planted, hits = slowed(run, contender, percent), []
            for other in (*runs[:index], *runs[index + 1 :]):
                regressions = diff(other, planted).regressions
                hits.append(any(case.contender == contender for case in regressions))
                cases.append(sum(case.contender == contender for case in regressions))
                others += sum(case.contender != contender for case in regressions)
            found += hits
            least = min(least, float(np.mean(hits)))
        by_contender[contender] = {
            "found": sum(found), "of": len(found), "least_of_a_run": least, "cases": float(np.mean(cases)),
            "regressions_of_others": others,
        }  # fmt: skip
    return {
        "percent": percent,
        "found": sum(one["found"] for one in by_contender.values()),
        "of": sum(one["of"] for one in by_contender.values()),
        "contenders": by_contender,
    }


def study(runs: Sequence[Result], contenders: Sequence[str] = (), percent: float = SLOWER_BY) -> dict[str, Any]:
    """Both rates, and whether the bars are met.

    Args:
        runs: of one commit.
        contenders: to slow down in turn; all by default.
        percent: by how much.
    """
    timed = list(dict.fromkeys(case.contender for run in runs for case in run.cases if case.outcome == "ok"))
    equals = of_equals(runs)
    planted = of_planted(runs, contenders or timed, percent)
    met = {}
    for threshold in THRESHOLDS:
        counts = equals[f"threshold {threshold:g} %"]
        most = MOST_FALSE[threshold] * counts["comparisons"]
        met[f"false at {threshold:g} %"] = counts["false_regressions"] <= most
    met["interval"] = equals["interval_holds_1"] >= CONFIDENCE - 0.02
    met["planted"] = planted["found"] >= LEAST_FOUND * planted["of"]
    return {"runs": len(runs), "equals": equals, "planted": planted, "met": met}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="result files of one commit, two at least")
    parser.add_argument("--contenders", help="to slow down, by commas; all by default")
    parser.add_argument("--percent", type=float, default=SLOWER_BY, help="by which they are")
    parser.add_argument("--out", type=Path, help="a JSON file for what was found")
    asked = parser.parse_args()
    if len(asked.results) < 2:
        parser.error("two result files at least")
    found = study(
        [load(path) for path in asked.results],
        asked.contenders.split(",") if asked.contenders else (),
        asked.percent,
    )
    text = json.dumps(found, indent=1)
    if asked.out:
        write_text(asked.out, text)
    print(text)
    return 0 if all(found["met"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
