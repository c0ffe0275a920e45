"""A call on a batch that was seen must take as long as one on a new batch; what chance does to either is no fault."""

import numpy as np
import pytest

from faceoff.core.errors import WorkerError
from faceoff.speed.rounds import Rounds
from faceoff.speed.seen_before import LONGER, find_remembered
from tests.unit.agreement.test_timed_check import returned, timed

EXPECTED = timed("dense", 6)
ROUNDS = Rounds(1, 3, 1e-3)


class Calls:
    """A worker whose calls take what `take` says of them: `(seen, prepared, number)` to seconds."""

    def __init__(self, take, step="inference", batches=None):
        self.take, self.requests = take, []
        self.value = returned(EXPECTED, step, "float32", batches or [EXPECTED.new_batch(0)])

    def request(self, kind, **body):
        if kind == "last_value":
            return {"value": self.value["outputs"]}
        self.requests.append(body)
        number, prepared = len(self.requests) - 1, "other" in body
        seen_s, new_s = (self.take(seen, prepared, number) for seen in (True, False))
        return {"seen_ns": round(seen_s * 1e9), "new_ns": round(new_s * 1e9)}


def found(calls, step="inference"):
    return find_remembered(calls, step, ROUNDS, EXPECTED, "float32")


def test_who_remembers_is_found_and_told_of_with_both_times():
    calls = Calls(lambda seen, prepared, number: 0.8e-6 if seen else 310e-6)
    told = "calls on a batch that was seen before take 800 ns, on a new one 310 µs: results are remembered"
    assert found(calls) == told
    batches = [request["batch"]["inputs"]["x"].tobytes() for request in calls.requests]
    assert len(set(batches)) == len(batches)
    assert {request["new_first"] for request in calls.requests} == {True, False}


def test_who_prepares_something_for_every_new_batch_does_not_remember():
    assert found(Calls(lambda seen, prepared, number: 1e-3 if seen or prepared else 0.5)) == ""


def test_who_computes_is_asked_twice_and_no_more():
    calls = Calls(lambda seen, prepared, number: 1e-3)
    assert found(calls) == ""
    assert len(calls.requests) == 2


def test_one_call_that_was_held_up_changes_nothing():
    assert found(Calls(lambda seen, prepared, number: 0.02 if not seen and number == 1 else 1e-3)) == ""
    remembered = Calls(lambda seen, prepared, number: 0.02 if seen and number == 1 else 1e-6 if seen else 1e-3)
    assert "results are remembered" in found(remembered)


@pytest.mark.parametrize("seed", range(20))
def test_times_of_two_kinds_are_no_sign(seed):
    rng = np.random.default_rng(seed)
    assert found(Calls(lambda seen, prepared, number: rng.choice([1e-3, (LONGER + 0.5) * 1e-3]))) == ""


def test_a_clock_that_does_not_tell_is_no_sign():
    assert found(Calls(lambda seen, prepared, number: 0.0)) == ""


def test_a_new_batch_must_give_what_it_should():
    stale = Calls(lambda seen, prepared, number: 1e-3, batches=list(EXPECTED.task.batches[:1]))
    assert found(stale).startswith("outputs of a call on a new batch: ")


def test_in_training_nothing_is_seen_twice():
    calls = Calls(lambda seen, prepared, number: 1e-6 if seen else 1.0)
    assert found(calls, "training") == ""
    assert calls.requests == []


@pytest.mark.parametrize(("outcome", "passes"), [("out_of_memory", True), ("crashed", False)])
def test_that_one_batch_more_does_not_fit_is_no_fault(outcome, passes):
    class Full(Calls):
        def request(self, kind, **body):
            raise WorkerError("no", outcome=outcome, where="jax:jit")

    full = Full(lambda *_: 1.0)
    if passes:
        assert found(full) == ""
    else:
        with pytest.raises(WorkerError):
            found(full)
