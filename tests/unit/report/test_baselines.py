"""Ratios to a baseline that the reader picks: they are those of a run with `--baseline`."""

from __future__ import annotations

import numpy as np

from faceoff.report.baselines import ratios_by_baseline
from faceoff.report.speed import speed_groups
from faceoff.report.text import with_interval
from faceoff.speed.statistics import Precision, Sample, adjusted, verdict
from tests.unit.results import samples

NAMES = ("pytorch:eager", "jax:jit", "tensorflow:xla")


def test_every_pair_has_the_ratio_and_the_verdict_of_a_run_with_that_baseline() -> None:
    result = samples.main_job(NAMES, samples.MODELS[:2])
    found = ratios_by_baseline(speed_groups(result))
    assert {entry["baseline"] for entry in found} == set(NAMES)
    for entry in found:
        baseline, expected = entry["baseline"], {}
        for number in range(4):
            cases = result.cases[number * len(NAMES) : (number + 1) * len(NAMES)]
            rounds = {case.contender: np.array(case.speed.rounds_s).reshape(2, 20) for case in cases if case.speed}
            disturbed = np.zeros((2, 20), dtype=bool)
            disturbed[0, 3] = True
            precision = Precision({name: Sample(row, disturbed) for name, row in rounds.items()})
            expected |= {(number, name): precision.ratio(name, baseline) for name in NAMES if name != baseline}
        adjusted_p = adjusted([ratio.p_value for ratio in expected.values()])
        told = {(number, name): said for number, row in entry["workloads"].items() for name, said in row.items()}
        assert told == {
            key: (
                *with_interval(ratio.ratio, ratio.low, ratio.high),
                verdict((ratio.low, ratio.high), ratio.ratio, p_value),
            )
            for (key, ratio), p_value in zip(expected.items(), adjusted_p, strict=True)
        }
    assert {said[2] for entry in found for row in entry["workloads"].values() for said in row.values()} > {
        "slower",
        "faster",
    }


def test_workloads_whose_rounds_cannot_be_compared_are_left_out() -> None:
    result = samples.main_job(NAMES, samples.MODELS[:1])
    assert result.cases[0].speed
    result.cases[0].speed.processes = []
    found = ratios_by_baseline(speed_groups(result))
    assert {number for entry in found for number in entry["workloads"]} == {1}
    assert ratios_by_baseline(speed_groups(samples.empty())) == []
    assert ratios_by_baseline(speed_groups(samples.main_job(NAMES[:1], samples.MODELS[:1]))) == []


def test_a_workload_whose_contenders_have_unlike_numbers_of_processes_is_left_out() -> None:
    result = samples.main_job(NAMES, samples.MODELS[:1])
    speed = result.cases[0].speed
    assert speed
    one = speed.processes[0]
    speed.processes = [one.model_copy(update={"passes": 10, "disturbed": []}) for _ in range(4)]
    found = ratios_by_baseline(speed_groups(result))
    assert {number for entry in found for number in entry["workloads"]} == {1}
