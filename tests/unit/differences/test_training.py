"""Trainings in `faceoff diff`: one task with several optimisers and dtypes, and a file that is not sound."""

import pytest

from faceoff import diff
from faceoff.core.errors import ResultFileError
from tests.unit.results.samples import long_training


def test_trainings_of_one_task_with_several_optimisers_and_dtypes_are_kept_apart():
    before, after = long_training(), long_training()
    bad = after.training_runs[5]
    bad.outcome, bad.reason = "disagrees", "loss at step 2 is 50 noise units off"
    (change,) = diff(before, after).outcomes
    assert (change.kind, change.after, change.name) == ("training", "disagrees", "dense on digits, momentum, float64")


def test_a_training_of_no_model_is_refused():
    spoiled = long_training()
    spoiled.training_runs[0].workload = {"model": 5}
    with pytest.raises(ResultFileError, match="not a workload"):
        diff(long_training(), spoiled)
