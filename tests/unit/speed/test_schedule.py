"""The schedule of rounds: every process once in each pass, in an order drawn anew, alone; and who is measured on."""

import itertools
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender
from faceoff.pool.workers import Seat
from faceoff.speed.budget import Budget
from faceoff.speed.measure import measure
from faceoff.speed.stopping import between_contenders

A, B, C = (Contender("pytorch", mode) for mode in ("eager", "compile", "a"))


class SimulatedWorker:
    """Calls take `call_s`, give or take `noise`; fails in its round number `fails_in`."""

    start_reply, device, held_up_s = MappingProxyType({"clock_tick_s": 1e-9}), "cpu", 0.0

    def __init__(self, seat, call_s, noise, fails_in):
        self.contender, self.process_id = seat.contender, 100 + seat.process
        self.call_s, self.noise, self.fails_in = call_s, noise, fails_in
        self.rng, self.rounds = np.random.default_rng([seat.process, int(call_s * 1e9)]), 0

    def request(self, kind, **body):
        if kind != "time":
            return {}
        self.rounds += bool(body["warmup"])
        if self.rounds == self.fails_in:
            raise WorkerError("gone", outcome="crashed", where=str(self.contender))
        call_ns = np.full(body["iterations"], 1e9 * self.call_s * np.exp(self.noise * self.rng.standard_normal()))
        names = ("stolen_s", "throttled_s", "waited_s", "asleep_s", "cpu_s", "busy_s")
        accounts = dict.fromkeys((*names, "major_faults", "switches", "continued"), 0)
        told = {"duration_ns": call_ns.sum(), "call_ns": call_ns, "wait_ns": 0, "last_batch": 0, "device_s": None}
        return told | accounts


class SimulatedPool:
    """A pool of simulated workers that notes whose turn it was."""

    card = None

    def __init__(self, calls_s, noise=0.02, fails_in=None, worker=SimulatedWorker):
        self.workers = {
            Seat(contender, number): worker(Seat(contender, number), call_s, noise, (fails_in or {}).get(contender))
            for contender, call_s in calls_s.items()
            for number in range(2)
        }
        self.turns, self.is_quiet, self.woken = [], False, None

    @contextmanager
    def quiet(self):
        self.is_quiet = True
        yield
        self.is_quiet = False

    @contextmanager
    def awake(self, seat):
        assert self.is_quiet
        assert self.woken is None
        self.woken = seat
        self.turns.append(seat)
        try:
            yield self.workers[seat]
        finally:
            self.woken = None


def run(calls_s, budget=None, seed=0, **settings):
    pool, shares = SimulatedPool(calls_s, **settings), []
    question = between_contenders(None, list(calls_s))
    found = measure(pool, list(pool.workers), "inference", budget or Budget(), seed, shares.append, question)
    return pool, found, shares


def passes(found):
    return {contender: len(rounds[0].durations_s) for contender, rounds in found.items()}


def test_each_pass_runs_every_process_once_in_an_order_of_its_own():
    budget = Budget(min_passes=8, max_passes=8)
    pool, found, _ = run({A: 0.01, B: 0.01, C: 0.01}, budget)
    assert passes(found) == {A: 8, B: 8, C: 8}
    # Everybody is warmed up first and asked for the memory last.
    turns = pool.turns[6:-6]
    orders = [tuple(turns[begin : begin + 6]) for begin in range(0, len(turns), 6)]
    assert len(orders) == 8
    assert all(set(order) == set(pool.workers) for order in orders)
    assert len(set(orders)) > 5
    assert run({A: 0.01, B: 0.01, C: 0.01}, budget, seed=0)[0].turns == pool.turns
    assert run({A: 0.01, B: 0.01, C: 0.01}, budget, seed=1)[0].turns != pool.turns


def test_who_is_clear_ends_early_and_who_is_close_goes_on():
    _, found, _ = run({A: 0.01, B: 0.0103, C: 0.02}, noise=0.1)
    count = passes(found)
    assert count[C] == Budget().min_passes
    assert count[A] == count[B] > 3 * count[C]


def test_a_slow_contender_takes_no_time_from_those_that_are_close():
    _, found, _ = run({A: 0.01, B: 0.0103, C: 1.5}, noise=0.1)
    count = passes(found)
    assert count[C] == Budget().min_passes
    assert count[A] == count[B] > 3 * count[C]


def test_a_case_that_has_had_its_time_ends():
    budget = Budget(max_time_s=0.4)
    _, found, _ = run({A: 0.01, B: 0.0101}, budget, noise=0.2)
    for processes in found.values():
        spent_s = sum(sum(rounds.durations_s) * rounds.iterations for rounds in processes)
        assert 0.4 <= spent_s < 0.5
    assert set(passes(run({A: 0.01, B: 0.0101}, replace(budget, min_passes=50), noise=0.2)[1]).values()) == {50}


def test_passes_end_when_there_were_as_many_as_may_be():
    _, found, shares = run({A: 0.0001, B: 0.0001001}, Budget(max_passes=20, precision=0.0), noise=0.2)
    assert passes(found) == {A: 20, B: 20}
    assert all(before <= after for before, after in itertools.pairwise(shares))
    assert shares[-1] == 1


def test_who_fails_ends_alone():
    _, found, _ = run({A: 0.01, B: 0.0103, C: 0.0101}, noise=0.1, fails_in={C: 4})
    assert isinstance(found[C], WorkerError)
    assert len(found[A][0].durations_s) > 20


@pytest.mark.parametrize("step", ["faults", "sleep"])
def test_rounds_with_faults_or_sleep_are_marked(step, monkeypatch):
    ordinary = SimulatedWorker.request

    def request(self, kind, **body):
        reply = ordinary(self, kind, **body)
        # The first after a pause finds how many calls make a row; so this is the turn in the second pass.
        if kind == "time" and self.rounds == 3:
            reply |= {"major_faults": 1} if step == "faults" else {"asleep_s": 0.5}
        return reply

    monkeypatch.setattr(SimulatedWorker, "request", request)
    _, found, _ = run({A: 0.01, B: 0.01}, Budget(min_passes=6, max_passes=6))
    for rounds in (*found[A], *found[B]):
        assert np.flatnonzero(rounds.disturbed).tolist() == [1]
        assert np.flatnonzero(rounds.row.disturbed).tolist() == [1]
