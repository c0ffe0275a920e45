"""The calibration study counts verdicts rightly, and says of each bar whether it is missed."""

import json

import pytest

from faceoff.core.errors import InputError
from faceoff.frameworks.contenders import all_contenders
from tests.calibration import throughput
from tests.calibration.verdicts import CONTENDERS_OF_A_SET, count, earlier, missed, sets_of, share
from tests.unit.results import samples


def comparisons(condition="quiet", slowdown=0.0, **verdicts):
    """As many comparisons of each verdict, whose interval holds the truth, or lies above it for `uncovered`."""
    found = []
    for word, times in verdicts.items():
        low = 1 + slowdown + (0.01 if word == "uncovered" else -0.01)
        word = "tie" if word == "uncovered" else word
        record = {"condition": condition, "slowdown": slowdown, "verdict": word, "interval": [low, low + 0.02]}
        found += [record] * times
    return found


def problems(*groups):
    every = [comparison for group in groups for comparison in group]
    keys = dict.fromkeys((c["condition"], c["slowdown"]) for c in every)
    return missed([count(every, *key) for key in keys])


def test_comparisons_are_counted_by_condition_slowdown_and_verdict():
    every = [
        *comparisons(tie=3, slower=1, uncovered=2),
        *comparisons("loaded", tie=9),
        *comparisons(slowdown=0.1, slower=5),
    ]
    row = count(every, "quiet", 0.0)
    assert (row["comparisons"], row["tie"], row["slower"], row["faster"], row["covered"]) == (6, 5, 1, 0, 4)
    assert row["median_half_width"] == pytest.approx(0.01, rel=0.1)
    assert count(every, "loaded", 0.2)["median_half_width"] is None


def test_bars_that_are_met_are_not_missed():
    equals = comparisons(tie=285, slower=8, faster=7)
    assert (
        problems(equals, comparisons(slowdown=0.05, slower=80, tie=20), comparisons(slowdown=0.1, slower=95, tie=5))
        == []
    )
    # With a core busy nothing has to be found.
    assert problems(comparisons("loaded", unresolved=300), comparisons("loaded", 0.1, unresolved=50)) == []


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (comparisons(tie=284, slower=8, faster=8), "16 of 300 false verdicts"),
        (comparisons(tie=299), "299 comparisons, 300 wanted"),
        (comparisons(tie=278, uncovered=22), "holds the true ratio in 278 of 300"),
        (comparisons(slowdown=0.05, slower=79, tie=21), "79 of 100 called slower"),
        (comparisons(slowdown=0.1, slower=94, tie=6), "94 of 100 called slower"),
        (comparisons("loaded", 0.2, slower=99, faster=1), "1 called faster"),
    ],
)
def test_a_bar_that_is_missed_is_said(group, said):
    (problem,) = problems(group)
    assert said in problem


def test_all_contenders_are_studied_in_sets_that_are_alike():
    everybody = list(all_contenders())
    sets = sets_of(everybody)
    assert {contender for one in sets for contender in one} == set(everybody)
    assert all(len(one) == len(set(one)) == CONTENDERS_OF_A_SET for one in sets)
    assert sets_of(everybody[:2]) == [everybody[:2]]


def test_a_study_grows_only_by_what_is_like_it(tmp_path):
    path = tmp_path / "study.json"
    path.write_text(json.dumps({"budget": {"max_time_s": 2}, "comparisons": []}))
    assert earlier(path, {"budget": {"max_time_s": 2}})["comparisons"] == []
    with pytest.raises(InputError, match="another budget"):
        earlier(path, {"budget": {"max_time_s": 3}})
    with pytest.raises(InputError, match="no study to add to"):
        earlier(tmp_path / "none.json", {})


def test_a_share_has_its_exact_interval():
    assert share(0, 0) == "-"
    assert share(0, 10) == "0.0 % [0.0, 30.8]"


def test_both_kinds_of_rounds_are_set_beside_each_other_and_who_waits_by_itself_is_known():
    result = samples.main_job(("pytorch:eager", "jax:jit"), samples.MODELS[:1])
    first = next(case for case in result.cases if case.contender == "pytorch:eager")
    first.speed.pipelined_interval_s = (first.speed.interval_s[1] * 1.01, first.speed.interval_s[1] * 1.02)
    found = throughput.compared(result)
    assert [(case["waits_by_itself"], case["overlap"]) for case in found] == [
        (True, False), (False, True), (True, True), (False, True),
    ]  # fmt: skip
    latency_s, throughput_s = throughput.time_shares(result)
    rounds = [(case.speed.rounds_s, case.speed.pipelined_rounds_s) for case in result.cases]
    assert latency_s == pytest.approx(4 * sum(sum(waited) for waited, _ in rounds))
    assert throughput_s == pytest.approx(8 * sum(sum(in_a_row) for _, in_a_row in rounds))
