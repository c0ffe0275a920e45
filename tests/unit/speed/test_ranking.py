"""Ranking for a situation: probabilities against closed forms and simulation, and every answer it can give."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from faceoff.report.text import with_interval
from faceoff.results.records import NoiseFloor
from faceoff.speed.criteria import Costs, Measured, measured, step_error
from faceoff.speed.ranking import (
    BUSY_WIDENING,
    CRITERIA,
    MOST_IF_BUSY,
    MOST_WEIGHT,
    Place,
    Situation,
    factor,
    leaders_by_weight,
    rank,
)
from faceoff.speed.statistics import TIE_MARGIN
from tests.unit.results import samples

LATENCY = {"latency": 1.0}


def workload(costs: dict[str, Costs], name: str = "w", batch_size: int = 32, **changes: Any) -> Measured:
    """A workload of an LSTM in training."""
    at = Measured(name, "lstm", "training", "float32", "cpu", batch_size, costs, {})
    return dataclasses.replace(at, **changes)


def situation(weights: dict[str, float] = LATENCY, **changes: Any) -> Situation:
    """One that `workload` fits."""
    at = Situation(frozenset({"lstm"}), "training", "float32", "cpu", (1, 64), weights)
    return dataclasses.replace(at, **changes)


def seconds(value: float, deviation: float = 0.01, **more: float) -> Costs:
    """Costs of a time in seconds and of others in their own units."""
    return Costs(math.log(value), deviation, **{name: math.log(other) for name, other in more.items()})


def test_two_contenders_have_the_probability_of_the_normal_difference():
    ranking = rank([workload({"a": seconds(1.0, 0.02), "b": seconds(1.03, 0.015)})], situation())
    first, second = ranking.places
    spread = math.hypot(0.02, 0.015)
    assert first.best == pytest.approx(norm.cdf(math.log(1.03) / spread), abs=1e-9)
    assert second.best == pytest.approx(norm.cdf(-math.log(1.03) / spread), abs=1e-9)
    assert second.near == pytest.approx(norm.cdf((math.log1p(TIE_MARGIN) - math.log(1.03)) / spread), abs=1e-9)


@pytest.mark.parametrize("widest", [0.02, 0.5])
def test_many_contenders_have_the_probabilities_of_a_simulation(widest):
    rng = np.random.default_rng(5)
    middles, deviations = rng.normal(0, 0.05, 7), rng.uniform(0.001, widest, 7)
    costs = {
        f"c{n}": Costs(middle, deviation) for n, (middle, deviation) in enumerate(zip(middles, deviations, strict=True))
    }
    ranking = rank([workload(costs)], situation())
    drawn = middles + deviations * rng.standard_normal((400_000, 7))
    best = np.bincount(drawn.argmin(axis=1), minlength=7) / len(drawn)
    others = np.stack([np.delete(drawn, n, axis=1).min(axis=1) for n in range(7)], axis=1)
    near = (drawn <= others + math.log1p(TIE_MARGIN)).mean(axis=0)
    assert sum(place.best for place in ranking.places) == pytest.approx(1, abs=0.003)
    for place in ranking.places:
        number = int(place.contender[1:])
        assert place.best == pytest.approx(best[number], abs=0.005)
        assert place.near == pytest.approx(near[number], abs=0.005)


def test_what_was_measured_once_has_no_probability():
    costs = {"a": seconds(1, memory=5), "b": seconds(2, memory=5), "c": seconds(1, memory=7)}
    ranking = rank([workload(costs)], situation({"memory": 1}))
    assert (ranking.answer, ranking.leaders) == ("least", ["a", "b"])
    assert [(place.best, place.near) for place in ranking.places] == [(None, None)] * 3
    # Of a whole of which a part has none there is none either.
    ranking = rank([workload(costs)], situation({"memory": 4, "latency": 1}))
    assert (ranking.answer, ranking.leaders) == ("least", ["a"])
    assert {place.best for place in ranking.places} == {None}


@pytest.mark.parametrize("criterion", ["start", "memory", "error"])
def test_no_weight_of_what_was_measured_once_enters_a_stated_certainty(criterion):
    costs = {"a": seconds(1, **{criterion: 5}), "b": seconds(9, **{criterion: 5})}
    assert rank([workload(costs)], situation({"latency": 4})).answer == "best"
    ranking = rank([workload(costs)], situation({"latency": 4, criterion: 1}))
    assert ranking.answer == "least"
    first, second = ranking.places
    assert (first.best, first.near, second.best) == (None, None, None)
    ratio, low, high = factor(first, second)
    assert low == ratio == high


def test_throughput_without_an_interval_has_no_probability():
    costs = {"a": seconds(1, throughput=1), "b": seconds(2, throughput=2)}
    assert rank([workload(costs)], situation({"throughput": 2})).answer == "least"
    assert rank([workload(costs)], situation({"latency": 2})).answer == "best"


def test_on_a_busy_machine_intervals_count_as_wider_and_no_high_probability_is_stated():
    costs = {"a": seconds(1.0, 0.02), "b": seconds(1.03, 0.015)}
    quiet, busy = (rank([workload(costs, busy=busy)], situation()) for busy in (False, True))
    spread = BUSY_WIDENING * math.hypot(0.02, 0.015)
    assert busy.places[0].best == pytest.approx(norm.cdf(math.log(1.03) / spread), abs=1e-9)
    assert 0.5 < busy.places[0].best < quiet.places[0].best
    # A ratio is what it is, whatever is thought of it.
    assert factor(*busy.places) == factor(*quiet.places)
    clear = rank([workload({"a": seconds(1.0), "b": seconds(12.3)}, busy=True)], situation())
    assert clear.answer == "best"
    assert clear.places[0].best == MOST_IF_BUSY
    # One busy workload among those that fit is enough.
    both = [workload({"a": seconds(1.0), "b": seconds(12.3)}, name, busy=name == "two") for name in ("one", "two")]
    assert rank(both, situation()).places[0].best == MOST_IF_BUSY


def test_intervals_are_taken_as_much_wider_as_calibration_found_them_to_lack_on_a_busy_machine():
    path = Path(__file__).parents[3] / "reports" / "published" / "calibration.json"
    needed = []
    for comparison in json.loads(path.read_text())["comparisons"]:
        if comparison["condition"] != "quiet" and comparison["slowdown"]:
            low, high = comparison["interval"]
            off = abs(math.log(comparison["ratio"] / (1 + comparison["slowdown"])))
            needed.append(2 * off / math.log(high / low))
    assert len(needed) > 50
    assert np.quantile(needed, 0.95) == pytest.approx(BUSY_WIDENING, abs=0.1)


def test_throughput_has_its_own_interval_beside_that_of_latency():
    costs = {"a": seconds(1, 0.01, throughput=1), "b": seconds(2, 0.01, throughput=1.1)}
    costs = {name: dataclasses.replace(cost, throughput_deviation=0.05) for name, cost in costs.items()}
    first, _ = rank([workload(costs)], situation({"throughput": 2})).places
    assert first.deviation == pytest.approx(0.05)
    first, _ = rank([workload(costs)], situation({"throughput": 2, "latency": 2})).places
    assert first.deviation == pytest.approx(0.03)


def test_what_the_last_wait_added_makes_throughput_less_sure():
    result = samples.main_job()
    case = next(case for case in result.cases if case.speed)
    name = case.parsed_workload().name
    result.comparisons = [comparison for comparison in result.comparisons if comparison.workload != name]
    before = {m.name: m for m in measured(result)}[name].costs[case.contender]
    case.speed.last_wait, case.speed.few_calls = 0.2, "each call is long"
    after = {m.name: m for m in measured(result)}[name].costs[case.contender]
    assert after.throughput_deviation == pytest.approx(math.hypot(before.throughput_deviation, 0.2))
    assert after.deviation == before.deviation


def test_a_cost_is_the_weighted_geometric_mean_over_workloads_and_criteria():
    both = [
        workload({"a": seconds(1, start=8.0), "b": seconds(2, start=2.0)}, "one"),
        workload({"a": seconds(4, start=8.0), "b": seconds(6, start=2.0)}, "two"),
    ]
    ranking = rank(both, situation({"latency": 3, "start": 1}))
    costs = {"a": (1 * 4) ** (3 / 8) * 8 ** (1 / 4), "b": (2 * 6) ** (3 / 8) * 2 ** (1 / 4)}
    first, second = ranking.places
    assert factor(first, second)[0] == pytest.approx(costs[second.contender] / costs[first.contender])
    assert first.deviation == 0
    # The mean over two workloads has the deviation of one over the root.
    assert rank(both, situation()).places[0].deviation == pytest.approx(0.01 / math.sqrt(2))
    assert ranking.workloads == ["one", "two"]


@pytest.mark.parametrize(
    ("costs", "answer", "leaders"),
    [
        ({"a": seconds(1), "b": seconds(1.2)}, "best", ["a"]),
        ({"a": seconds(1, 0.002), "b": seconds(1.02, 0.002), "c": seconds(1.4, 0.002)}, "alike", ["a", "b"]),
        ({"a": seconds(1, 0.1), "b": seconds(1.05, 0.1), "c": seconds(9, 0.1)}, "open", ["a", "b"]),
        ({"a": seconds(1)}, "only", ["a"]),
        ({}, "nothing", []),
    ],
)
def test_the_answer_says_what_is_certain(costs, answer, leaders):
    ranking = rank([workload(costs)], situation())
    assert (ranking.answer, ranking.leaders) == (answer, leaders)


def test_the_factor_has_the_interval_of_both():
    first, other = Place("a", 0.0, 0.03, 1, 1), Place("b", math.log(2), 0.04, 0, 0)
    ratio, low, high = factor(first, other)
    assert ratio == pytest.approx(2)
    assert math.log(high / low) == pytest.approx(2 * 1.959964 * 0.05, rel=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"models": frozenset({"rnn"})},
        {"step": "inference"},
        {"dtype": "float64"},
        {"device": "gpu"},
        {"batch": (33, 64)},
        {"batch": (64, 1)},
        {"weights": {}},
        {"weights": {"latency": 0}},
        {"weights": {"start": 1}},
    ],
)
def test_what_does_not_fit_or_matter_or_was_not_measured_is_not_ranked(changes):
    ranking = rank([workload({"a": seconds(1), "b": seconds(2)})], situation(**changes))
    assert (ranking.answer, ranking.places) == ("nothing", [])


def test_who_was_not_measured_everywhere_has_no_place_and_is_named_with_the_reason():
    both = [
        workload({"a": seconds(1, start=1), "b": seconds(2), "c": seconds(3, start=3)}, "one"),
        workload({"a": seconds(1, start=1), "b": seconds(2)}, "two", absent={"c": "out_of_memory"}),
    ]
    ranking = rank(both, situation({"latency": 1, "start": 1}))
    assert ranking.leaders == ["a"]
    assert ranking.left_out == {"b": "no start measured on one", "c": "out_of_memory on two"}
    assert [place.contender for place in rank(both, situation()).places] == ["a", "b"]


def test_the_first_place_is_followed_as_one_weight_grows():
    costs = {"quick": seconds(1, start=10), "light": seconds(1.5, start=2)}
    leaders = leaders_by_weight([workload(costs)], situation({"latency": 2}))
    assert leaders["start"] == ["quick", "light", "light", "light", "light"]
    assert leaders["latency"] == ["", *["quick"] * MOST_WEIGHT]
    assert leaders["memory"] == ["quick"] * (MOST_WEIGHT + 1)
    assert set(leaders) == set(CRITERIA)


def test_a_result_is_measured_by_all_criteria_and_who_disagrees_is_absent():
    result = samples.main_job()
    before = {m.name: m for m in measured(result)}
    name = samples.workload(samples.MODELS[3], "training").name
    costs = before[name].costs["pytorch:eager"]
    speed = next(c.speed for c in result.cases if c.name == f"{name}[pytorch:eager]")
    assert math.exp(costs.time) == pytest.approx(speed.time_s)
    assert math.exp(costs.row_time) == pytest.approx(speed.pipelined_s)
    # Of its two processes the one that holds nothing of checks before.
    assert math.exp(costs.memory) == pytest.approx(300 * 2**20)
    units = max(
        q.noise_units
        for check in result.agreements
        if (check.contender, check.check) == ("pytorch:eager", "precision")
        and check.workload["model"]["kind"] == "lstm"
        for q in check.quantities
    )
    assert math.exp(costs.error) == pytest.approx(units)
    result.agreements.append(samples.disagreeing("pytorch:eager", samples.MODELS[3]))
    after = {m.name: m for m in measured(result)}
    assert after[name].absent == {"pytorch:eager": "disagrees"}
    assert "pytorch:eager" not in after[name].costs


@pytest.mark.parametrize("criterion", ["latency", "throughput"])
def test_a_ratio_has_one_value_and_one_interval_wherever_it_stands(criterion):
    result = samples.main_job()
    for number, comparison in enumerate(result.comparisons):
        # As ratios over common passes are: not those of the times, and not as wide.
        comparison.ratio *= 1.003
        width = (1.001, 1.03, 1.3)[number % 3]
        comparison.interval = (comparison.ratio / width, comparison.ratio * width)
        comparison.pipelined_ratio = 1.1 * comparison.ratio
        comparison.pipelined_interval = (comparison.pipelined_ratio / 1.02, comparison.pipelined_ratio * 1.02)
    workloads = {m.name: m for m in measured(result)}
    for comparison in result.comparisons:
        here = workloads[comparison.workload]
        asked = Situation(frozenset({here.kind}), here.step, "float32", "cpu", (32, 32), {criterion: 2})
        places = {place.contender: place for place in rank([here], asked).places}
        ratio, low, high = factor(places[comparison.baseline], places[comparison.contender])
        told = (comparison.ratio, *comparison.interval)
        if criterion == "throughput":
            told = (comparison.pipelined_ratio, *comparison.pipelined_interval)
        assert (ratio, low, high) == pytest.approx(told, rel=1e-9)
        assert with_interval(ratio, low, high) == with_interval(*told)


def test_start_up_is_of_the_step_that_was_started_and_of_no_other():
    result = samples.main_job()
    for at in measured(result):
        known = {costs.start is not None for costs in at.costs.values()}
        assert known == {at.step == "inference"}, at.name
    asked = Situation(frozenset({"lstm"}), "training", "float32", "cpu", (32, 32), {"start": 4})
    assert rank(measured(result), asked).answer == "nothing"
    assert rank(measured(result), dataclasses.replace(asked, step="inference")).answer == "least"


def test_an_error_is_of_what_the_step_computes():
    check = samples.agreement("jax:jit", samples.MODELS[3], "precision", random.Random(1))
    for quantity in check.quantities:
        quantity.noise_units = 0.5
    by_name = {quantity.name: quantity for quantity in check.quantities}
    by_name["weight 'layer.0.bias' after 3 training steps"].noise_units = 3.0
    by_name["gradient of 'layer.0.bias'"].noise_units = 2.0
    by_name["outputs"].noise_units = 1.0
    found = [step_error(check, step) for step in ("inference", "gradients", "training")]
    assert found == [1.0, 2.0, 3.0]
    assert step_error(None, "inference") is None
    by_name["outputs"].noise_units = None
    assert step_error(check, "inference") is None
    assert step_error(check, "gradients") == 2.0


def test_what_was_busy_or_disturbed_is_known_of_each_workload():
    result = samples.main_job()
    at = result.cases[0].parsed_workload().name
    result.noise_floors = [NoiseFloor(workload=at, resolvable=1.1, twins={}, disturbed=0.27, noisy=True)]
    found = {m.name: (m.busy, m.disturbed) for m in measured(result)}
    assert found.pop(at) == (True, 0.27)
    assert set(found.values()) == {(False, 0.0)}


def test_times_that_are_no_numbers_are_not_ranked():
    result = samples.main_job()
    first, second = result.cases[0], result.cases[1]
    first.speed.time_s = math.nan
    second.speed.interval_s = (math.nan, math.inf)
    found = {m.name: m for m in measured(result)}[first.name.split("[")[0]]
    assert found.absent == {first.contender: "not timed", second.contender: "not timed"}
