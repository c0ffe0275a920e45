"""Ranking for a situation: probabilities against closed forms and simulation, and every answer it can give."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from harness.ranking import (
    CRITERIA,
    MOST_WEIGHT,
    Costs,
    Measured,
    Place,
    Situation,
    factor,
    leaders_by_weight,
    measured,
    rank,
)
from harness.statistics import TIE_MARGIN
from tests.unit import result_samples as samples

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
    assert rank([workload(costs)], situation({"memory": 4, "latency": 1})).answer == "best"


def test_throughput_has_its_own_interval_beside_that_of_latency():
    costs = {"a": seconds(1, 0.01, throughput=1), "b": seconds(2, 0.01, throughput=1.1)}
    costs = {name: dataclasses.replace(cost, throughput_deviation=0.05) for name, cost in costs.items()}
    first, _ = rank([workload(costs)], situation({"throughput": 2})).places
    assert first.deviation == pytest.approx(0.05)
    first, _ = rank([workload(costs)], situation({"throughput": 2, "latency": 2})).places
    assert first.deviation == pytest.approx(0.03)


def test_a_cost_is_the_weighted_geometric_mean_over_workloads_and_criteria():
    both = [
        workload({"a": seconds(1, start=8.0), "b": seconds(2, start=2.0)}, "one"),
        workload({"a": seconds(4, start=8.0), "b": seconds(6, start=2.0)}, "two"),
    ]
    ranking = rank(both, situation({"latency": 3, "start": 1}))
    costs = {"a": (1 * 4) ** (3 / 8) * 8 ** (1 / 4), "b": (2 * 6) ** (3 / 8) * 2 ** (1 / 4)}
    first, second = ranking.places
    assert factor(first, second)[0] == pytest.approx(costs[second.contender] / costs[first.contender])
    # Three quarters of the weight is on time, whose mean over two workloads has the deviation of one over the root.
    assert first.deviation == pytest.approx(0.75 * 0.01 / math.sqrt(2))
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
    assert math.exp(costs.latency) == pytest.approx(speed.time_s)
    assert math.exp(costs.throughput) == pytest.approx(speed.pipelined_s)
    # Of its two processes the one that holds nothing of checks before.
    assert math.exp(costs.memory) == pytest.approx(300 * 2**20)
    low, high = speed.interval_s
    assert math.exp(2 * 1.959964 * costs.deviation) == pytest.approx(high / low)
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


def test_no_difference_in_latency_is_surer_than_the_comparison_with_the_baseline():
    result = samples.main_job()
    result.comparisons[0].interval = (0.5, 8.0)
    found = {m.name: m for m in measured(result)}
    widened = 0
    for comparison in result.comparisons:
        costs = found[comparison.workload].costs
        ours, theirs = costs[comparison.contender], costs[comparison.baseline]
        low, high = comparison.interval
        of_both = math.log(high / low) / (2 * 1.959964)
        speed = next(c.speed for c in result.cases if c.name == f"{comparison.workload}[{comparison.contender}]")
        own = math.log(speed.interval_s[1] / speed.interval_s[0]) / (2 * 1.959964)
        # Its own interval, or as much more as the comparison asks for, and no more.
        needed = math.sqrt(max(0.0, of_both**2 - theirs.deviation**2))
        assert ours.deviation == pytest.approx(max(own, needed), rel=1e-6)
        widened += needed > own
    assert widened > 0


def test_times_that_are_no_numbers_are_not_ranked():
    result = samples.main_job()
    first, second = result.cases[0], result.cases[1]
    first.speed.time_s = math.nan
    second.speed.interval_s = (math.nan, math.inf)
    found = {m.name: m for m in measured(result)}[first.name.split("[")[0]]
    assert found.absent == {first.contender: "not timed", second.contender: "not timed"}
