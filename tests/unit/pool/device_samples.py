"""Results of runs on a CPU and on a GPU, built by code, for the tests of the page."""

from __future__ import annotations

from faceoff.core.spec import LstmSpec
from faceoff.results.costs import CardUse
from faceoff.results.records import CaseResult, Process, Result, Speed
from tests.unit.results.samples import contender, workload

LSTM = LstmSpec(64, 256, 10, 25)
JIT = "jax:jit"


def speed(time_s, share=0.02):
    return Speed(
        rounds_s=[time_s] * 4,
        iterations=1,
        warmup_calls=3,
        time_s=time_s,
        interval_s=(time_s / (1 + share), time_s * (1 + share)),
    )


def result(device, times, model=LSTM, name=JIT, outcome="out_of_memory", **changes):
    """A run on one device; a time of None is a case that ended otherwise."""
    cases = []
    for size, time_s in times.items():
        at = workload(model, device=device, batch_size=size, **changes)
        ok = time_s is not None
        cases.append(
            CaseResult(
                name=f"{at.name}[{name}]",
                workload=at.to_json(),
                contender=name,
                outcome="ok" if ok else outcome,
                speed=speed(time_s) if ok else None,
            )
        )
    return Result(
        created="2026-01-01T00:00:00+00:00",
        command="faceoff bench",
        seed=0,
        threads=2,
        duration_s=1.0,
        machine={"processor": "a CPU", "cores": 2},
        contenders=[contender(name)],
        cases=cases,
    )


def joined(first, *others):
    """The first run with the contenders and cases of the others."""
    for other in others:
        first.contenders += [info for info in other.contenders if info not in first.contenders]
        first.cases += other.cases
    return first


def with_card(found):
    """The same with what a card said of itself."""
    use = CardUse(
        clock_mhz=(1350, 1980),
        memory_clock_mhz=(2600, 2600),
        temperature_c=(41, 63),
        throttled={"power limit": 2},
        process_bytes=900 * 2**20,
        others=1,
    )
    for case in (case for case in found.cases if case.speed):
        case.speed.processes = [
            Process(passes=2, memory={"device_peak_bytes": 300 * 2**20}, device_s=4e-4, card=use),
            Process(passes=2, card=use.model_copy(update={"clock_mhz": (1200, 1900), "throttled": {}})),
        ]
    return found
