"""Do latency and throughput agree where a framework waits anyway? `python -m tests.calibration.throughput`.

On a CPU PyTorch and TensorFlow return when a call is done, so what is timed call by call and what is timed in a row are
the same work. Both come with intervals of the same statistics, from rounds that take turns; so all but one in twenty or
so must overlap. And no case may have a wait of more than 1 % in the time of a call, or it says why. Exit status 1 when
either is missed. It takes as long as `faceoff bench`, on a machine that does nothing else.

`faceoff bench` times such frameworks once for both, which this study justifies; here both are timed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

from faceoff import bench
from faceoff.results.file import write_text
from faceoff.results.records import Result
from faceoff.speed import rounds
from faceoff.speed.rounds import WAIT_SHARE

LEAST_AGREEING = 0.95
WAITS_BY_ITSELF = ("pytorch", "tensorflow")


def compared(result: Result) -> list[dict[str, Any]]:
    """Of every case that was timed, both times with their intervals, and whether these overlap."""
    found = []
    for case in result.cases:
        speed = case.speed
        if speed is None or speed.pipelined_s is None or speed.pipelined_interval_s is None:
            continue
        low_s, high_s = speed.pipelined_interval_s
        found.append(
            {
                "case": case.name,
                "waits_by_itself": case.contender.split(":")[0] in WAITS_BY_ITSELF,
                "latency_s": [speed.time_s, *speed.interval_s],
                "throughput_s": [speed.pipelined_s, low_s, high_s],
                "overlap": low_s <= speed.interval_s[1] and speed.interval_s[0] <= high_s,
                "calls_in_a_row": speed.pipelined_calls,
                "rounds": len(speed.pipelined_rounds_s),
                "last_wait": speed.last_wait,
                "few_calls": speed.few_calls,
            }
        )
    return found


def time_shares(result: Result) -> tuple[float, float]:
    """Seconds of all rounds of latency, and of all of throughput."""
    speeds = [case.speed for case in result.cases if case.speed]
    latency_s = math.fsum(sum(speed.rounds_s) * speed.iterations for speed in speeds)
    return latency_s, math.fsum(sum(speed.pipelined_rounds_s) * (speed.pipelined_calls or 0) for speed in speeds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", help="by commas; all four by default")
    parser.add_argument("--contenders", help="by commas; all that are installed by default")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--budget", default="standard")
    parser.add_argument("--out", type=Path, help="a JSON file for what was found")
    asked = parser.parse_args()
    chosen = {name: text.split(",") for name in ("models", "contenders") if (text := getattr(asked, name))}
    # No wait is so short.
    rounds.OWN_WAIT_SHARE = -math.inf
    with tempfile.TemporaryDirectory() as folder:
        result = bench(preset=asked.preset, budget=asked.budget, out=folder, **chosen)
    cases = compared(result)
    waiting = [case for case in cases if case["waits_by_itself"]]
    agreeing = sum(case["overlap"] for case in waiting)
    unsaid = [case["case"] for case in cases if case["last_wait"] > WAIT_SHARE and not case["few_calls"]]
    latency_s, throughput_s = time_shares(result)
    for case in waiting:
        if not case["overlap"]:
            print(f"apart: {case['case']}: {case['latency_s']} and {case['throughput_s']}", file=sys.stderr)
    print(f"{agreeing} of {len(waiting)} cases whose framework waits by itself agree")
    print(f"{sum(case['last_wait'] <= WAIT_SHARE for case in cases)} of {len(cases)} cases: last wait below 1 %")
    print(f"rounds of latency took {latency_s:.1f} s, of throughput {throughput_s:.1f} s")
    if asked.out:
        document = {"machine": result.machine, "duration_s": result.duration_s, "cases": cases}
        write_text(asked.out, json.dumps(document, indent=1))
    return int(bool(unsaid) or agreeing < LEAST_AGREEING * len(waiting))


if __name__ == "__main__":
    sys.exit(main())
