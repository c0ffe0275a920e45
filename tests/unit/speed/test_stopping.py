"""Who is measured on: the close ones, until their intervals are narrow; not who is clearly slower or faster."""

import math
from dataclasses import replace

import numpy as np
import pytest

from faceoff.core.spec import Contender
from faceoff.pool.workers import Seat
from faceoff.speed.budget import Budget
from faceoff.speed.statistics import Precision, Sample
from faceoff.speed.stopping import Question, between_contenders
from faceoff.speed.stopping import undecided as still_undecided

A, B, C, D = (Contender("pytorch", mode) for mode in ("eager", "compile", "a", "b"))
BUDGET = Budget()


def undecided(found, active, question, budget, done=0.5):
    return still_undecided(found, active, question, budget, dict.fromkeys(active, done))


def precision(ratios, noise=0.03, passes=12):
    rng = np.random.default_rng(0)
    return Precision(
        {
            contender: Sample(
                ratio * np.exp(noise * rng.standard_normal((2, passes))), np.zeros((2, passes), dtype=bool)
            )
            for contender, ratio in ratios.items()
        }
    )


RATIOS = {A: 1.0, B: 1.03, C: 2.0, D: 5.0}


def test_who_is_clearly_slower_than_the_fastest_is_measured_no_further():
    assert undecided(precision(RATIOS), RATIOS, between_contenders(None, list(RATIOS)), BUDGET) == {A, B}


@pytest.mark.parametrize(("ratio", "goes_on"), [(1.02, True), (1.05, True), (1.2, False)])
def test_what_is_beyond_all_doubt_is_measured_no_further_and_what_is_only_likely_is(ratio, goes_on):
    found = precision({A: 1.0, B: ratio}, noise=0.1, passes=48)
    half = math.log(found.ratio(B, A).high / found.ratio(B, A).ratio)
    assert goes_on == (math.log(found.ratio(B, A).ratio) < (1 + BUDGET.clear) * half)
    assert undecided(found, [A, B], between_contenders(A, [A, B]), BUDGET) == ({A, B} if goes_on else set())


def test_a_named_baseline_goes_on_and_who_is_clearly_faster_does_not():
    assert undecided(precision(RATIOS), RATIOS, between_contenders(C, list(RATIOS)), BUDGET) == set()
    found = precision({A: 1.0, B: 1.9, C: 2.0}, noise=0.06)
    assert undecided(found, [A, B, C], between_contenders(C, [A, B, C]), BUDGET) == {B, C}


def test_who_is_narrow_is_measured_no_further_unless_it_may_be_the_fastest():
    rng = np.random.default_rng(3)
    noise = {A: 0.002, B: 0.002, C: 0.002, D: 0.1}
    found = Precision(
        {
            contender: Sample(
                ratio * np.exp(noise[contender] * rng.standard_normal((2, 12))), np.zeros((2, 12), dtype=bool)
            )
            for contender, ratio in {A: 1.0, B: 1.001, C: 1.2, D: 1.06}.items()
        }
    )
    assert undecided(found, [A, B, C, D], between_contenders(None, [A, B, C, D]), BUDGET) == {A, B, D}
    assert undecided(found, [A, B, C, D], between_contenders(A, [A, B, C, D]), BUDGET) == {A, D}
    assert undecided(found, [B, C, D], between_contenders(A, [A, B, C, D]), BUDGET) == set()


def test_all_go_on_until_every_interval_is_narrow_and_then_none():
    close = {A: 1.0, B: 1.05, C: 1.1}
    question = between_contenders(None, list(close))
    assert undecided(precision(close, noise=0.1), close, question, BUDGET) == {A, B, C}
    assert undecided(precision(close, noise=0.002), close, question, BUDGET) == set()


def test_a_budget_without_a_clear_distance_measures_everybody():
    budget = replace(BUDGET, clear=math.inf)
    assert undecided(precision(RATIOS), RATIOS, between_contenders(None, list(RATIOS)), budget) == set(RATIOS)


def test_who_is_clear_goes_on_until_its_own_time_is_known_roughly():
    # Ten times as slow is clear in any noise; how slow exactly is not.
    noisy = precision({A: 1.0, B: 10.0}, noise=0.3)
    question = between_contenders(None, [A, B])
    assert undecided(noisy, [A, B], question, BUDGET) == {A, B}
    assert undecided(noisy, [A, B], question, replace(BUDGET, rough=1.0)) == set()


def with_processes_that_differ(by, passes, noise=0.02):
    rng = np.random.default_rng(1)
    levels = {A: [0.0, by], B: [0.04, by + 0.04]}
    return Precision(
        {
            contender: Sample(
                np.exp(np.array(level)[:, None] + noise * rng.standard_normal((2, passes))), np.zeros((2, passes), bool)
            )
            for contender, level in levels.items()
        }
    )


def test_who_no_further_round_would_tell_is_measured_no_further():
    question = between_contenders(A, [A, B])
    late, early = with_processes_that_differ(0.2, 24), with_processes_that_differ(0.2, 21)
    assert undecided(late, [A, B], question, BUDGET) == set()
    assert undecided(early, [A, B], question, BUDGET) == {A, B}
    # Rounds so unlike that half of them leave much unsure; and processes alike enough for a verdict to come.
    noisy, alike = with_processes_that_differ(0.2, 24, noise=0.8), with_processes_that_differ(0.03, 24)
    assert undecided(noisy, [A, B], question, BUDGET) == {A, B}
    assert math.log(alike.ratio(B, A).high / alike.ratio(B, A).ratio) > BUDGET.precision
    assert undecided(alike, [A, B], question, BUDGET) == {A, B}


def test_more_passes_lessen_what_sampling_leaves_unsure_and_not_what_processes_differ_by():
    def halves(found):
        ratio = found.ratio(B, A)
        return math.log(ratio.high / ratio.low) / 2, [found.half_width_after(times, B, A) for times in (1, 4, 1e6)]

    now, (same, later, last) = halves(with_processes_that_differ(0.0, 24, noise=0.3))
    assert same == pytest.approx(now)
    assert last < later < now
    assert last < 0.5 * now
    now, (same, _, last) = halves(with_processes_that_differ(2.0, 24, noise=0.3))
    assert same == pytest.approx(now)
    assert last > 0.9 * now


def test_who_is_compared_with_nobody_is_measured_until_its_own_time_is_known():
    alone = between_contenders(None, [A])
    assert undecided(precision({A: 1.0}, noise=0.1), [A], alone, BUDGET) == {A}
    assert undecided(precision({A: 1.0}, noise=0.002), [A], alone, BUDGET) == set()


def test_who_has_ended_is_not_taken_up_again():
    assert undecided(precision(RATIOS), [A, C], between_contenders(None, list(RATIOS)), BUDGET) == set()


def test_processes_can_be_grouped_otherwise():
    seats = [Seat(A, number) for number in range(4)]
    question = Question(lambda seat: seat.process % 2, lambda found, key: (0, 1))
    groups = {question.group(seat) for seat in seats}
    found = precision({0: 1.0, 1: 1.02}, noise=0.06)
    assert undecided(found, groups, question, BUDGET) == {0, 1}
