"""Budgets by name and in seconds, and refusals that say what would do."""

import pytest

from faceoff.core.errors import InputError
from faceoff.speed.budget import BUDGETS, Budget, parse_budget


def test_a_name_gives_its_budget():
    assert parse_budget("thorough", 5, 2) is BUDGETS["thorough"]


def test_seconds_are_shared_by_all_cases():
    assert parse_budget("56", 8, 7).max_time_s == pytest.approx(1.0)


@pytest.mark.parametrize("text", ["soon", "nan", "-3", "0.1", "inf"])
def test_what_is_no_budget_or_too_small_for_one_is_refused(text):
    with pytest.raises(InputError, match=r"budget"):
        parse_budget(text, 8, 7)


def test_the_least_budget_is_what_the_fewest_passes_of_all_processes_take():
    with pytest.raises(InputError, match=r"at least 6\.72 s"):
        parse_budget("6.7", 8, 7)
    # Of two contenders twice as many processes run.
    with pytest.raises(InputError, match=r"at least 3\.84 s"):
        parse_budget("3.8", 8, 2)


def test_one_process_is_refused_for_it_says_nothing_of_another():
    with pytest.raises(InputError, match="processes"):
        Budget(processes=1)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_no_time_at_all_is_refused(seconds):
    with pytest.raises(InputError, match="more than 0 s"):
        Budget(max_time_s=seconds)


@pytest.mark.parametrize(("contenders", "expected"), [(7, 2), (3, 3), (2, 4), (1, 2)])
def test_few_contenders_run_in_more_processes(contenders, expected):
    assert Budget().processes_for(contenders) == expected


def test_the_quick_budget_needs_few_processes_and_fewer_seconds():
    quick = parse_budget("quick", 8, 7)
    assert quick.processes_for(2) == 2
    assert quick.max_time_s < Budget().max_time_s
