"""Throughput is measured as latency is: rounds in turn, several processes, twins, disturbed rounds left out."""

import math
from types import MappingProxyType

import numpy as np
import pytest

from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender, DenseSpec, LstmSpec, Workload
from faceoff.speed.budget import Budget
from faceoff.speed.measure import ROWS_SHARE, compare_speeds, precision_of, summarise, throughput_of
from faceoff.speed.rounds import (
    FEWEST_IN_A_ROW,
    LEAST_ROWS,
    LONGEST_ROW_S,
    MOST_ALIVE_BYTES,
    OWN_WAIT_SHARE,
    WAIT_SHARE,
    Rounds,
    Row,
    find_row,
    run_turn,
    warm_up,
)
from faceoff.workloads.work import result_bytes
from tests.unit.speed.test_schedule import SimulatedWorker, passes, run

EAGER, JIT = Contender("pytorch", "eager"), Contender("jax", "jit")
WORKLOAD = Workload(DenseSpec((4, 3)), 2)


def row(times_s, calls=4, waits_s=0.0, broken=()):
    count = len(times_s)
    return Row(
        calls, "each call is long", list(times_s), [waits_s] * count, [0.0] * count, [0.0] * count,
        [number in broken for number in range(count)],
    )  # fmt: skip


def process(times_s, of_row):
    """Quiet rounds of waited calls, and these of calls in a row."""
    count = len(times_s)
    return Rounds(
        4, 5, times_s[0], durations_s=list(times_s), taken_s=[0.0] * count, waiting_s=[0.0] * count,
        broken=[False] * count, calls_s=[np.array(times_s)], row=of_row,
    )  # fmt: skip


def steady(time_s, seed=0, count=12):
    return time_s * np.exp(0.01 * np.random.default_rng(seed).standard_normal(count))


def width(interval_s):
    return math.log(interval_s[1] / interval_s[0])


def test_the_same_rounds_have_the_same_time_and_interval_however_they_are_waited_for():
    times = [[steady(level, seed) for seed in range(2)] for level in (2.0, 1.0)]
    measured = {
        contender: [process(found, row(found)) for found in of_both]
        for contender, of_both in zip((EAGER, JIT), times, strict=True)
    }
    for speed in summarise(measured).values():
        assert speed.pipelined_s == speed.time_s
        assert speed.pipelined_interval_s == speed.interval_s
        assert speed.pipelined_rounds_s == speed.rounds_s
    latency, throughput = precision_of(measured), throughput_of(measured)
    assert throughput.ratio(EAGER, JIT) == latency.ratio(EAGER, JIT)
    (comparison,), _ = compare_speeds(WORKLOAD, measured)
    assert (comparison.pipelined_ratio, comparison.pipelined_interval) == (comparison.ratio, comparison.interval)


def test_processes_that_differ_make_its_interval_wide_and_leave_that_of_latency_narrow():
    speeds = summarise(
        {
            EAGER: [process(steady(2.0, seed), row(steady(1.9, seed))) for seed in range(2)],
            JIT: [process(steady(1.0, seed), row(steady(level, seed))) for seed, level in enumerate((0.9, 1.8))],
        }
    )
    speed = speeds[JIT]
    assert speed.pipelined_interval_s[0] < 0.9 < 1.8 < speed.pipelined_interval_s[1]
    assert width(speed.pipelined_interval_s) > 5 * width(speed.interval_s)
    assert speeds[EAGER].pipelined_s == pytest.approx(1.9, rel=0.02)


def test_disturbed_rounds_are_left_out_and_recorded():
    disturbed = [10.0 if number in (1, 4) else 1.0 for number in range(12)]
    measured = {EAGER: [process([1.0] * 12, row(disturbed, broken=(1, 4))) for _ in range(2)]}
    speed = summarise(measured)[EAGER]
    assert speed.pipelined_s == pytest.approx(1.0)
    assert [one.pipelined_disturbed for one in speed.processes] == [[1, 4]] * 2
    stolen = row(disturbed)
    stolen.taken_s = [9.0 * stolen.calls if number in (1, 4) else 0.0 for number in range(12)]
    assert np.flatnonzero(stolen.disturbed).tolist() == [1, 4]


def test_fewer_rounds_than_another_contender_are_its_first_ones():
    long, short = steady(1.0, 1, 24), steady(1.0, 2, 6)
    measured = {EAGER: [process(long, row(long))] * 2, JIT: [process(long, row(short))] * 2}
    assert throughput_of(measured).passes(EAGER) == 24
    assert throughput_of(measured).passes(JIT) == 6


def test_without_such_rounds_there_is_none():
    measured = {EAGER: [process([2.0] * 12, Row()), process([2.0] * 12, Row())]}
    speed = summarise(measured)[EAGER]
    assert (speed.pipelined_s, speed.pipelined_interval_s, speed.last_wait) == (None, None, None)


@pytest.mark.parametrize(
    ("calls", "wait_s", "last_wait", "said"),
    [
        # It waits for every call by itself.
        (1, 0.001, 0.001, ""),
        # Of one call nothing is known but how long it was waited for.
        (1, 0.9, 0.9, "each call is long"),
        # The wait of the first of several is taken off.
        (2, 1.9, 0.0, ""),
    ],
)
def test_what_the_last_wait_may_have_added_is_told_with_the_reason(calls, wait_s, last_wait, said):
    one = process([1.0] * 12, row([1.0] * 12, calls, wait_s))
    speed = summarise({EAGER: [one, one]})[EAGER]
    assert speed.last_wait == pytest.approx(last_wait, rel=1e-6)
    assert (speed.pipelined_calls, speed.few_calls) == (calls, said)


class Device:
    """A worker that starts a call in `launch_s` and computes it in `compute_s`, one after the other, beside that."""

    contender, process_id, device, held_up_s = JIT, 1, "gpu", 0.0
    start_reply = MappingProxyType({"clock_tick_s": 1e-9})

    def __init__(self, launch_s, compute_s, waits_itself=False):
        self.launch_s, self.compute_s, self.waits_itself = launch_s, compute_s, waits_itself

    def request(self, kind, pipelined=False, iterations=1, **body):
        if kind != "time":
            return {}
        one_s = self.launch_s + self.compute_s
        launched_s = iterations * (one_s if self.waits_itself else self.launch_s)
        if not pipelined or self.waits_itself:
            whole_s = iterations * one_s
        else:
            whole_s = one_s + (iterations - 1) * max(self.launch_s, self.compute_s)
        names = ("stolen_s", "throttled_s", "waited_s", "asleep_s", "cpu_s", "busy_s")
        accounts = dict.fromkeys((*names, "major_faults", "switches", "continued"), 0)
        wait_ns = 1e9 * (whole_s - launched_s) if pipelined else 0
        call_ns = np.full(iterations, 1e9 * whole_s / iterations)
        return {
            "duration_ns": 1e9 * whole_s, "wait_ns": wait_ns, "call_ns": call_ns, "last_batch": 0, "device_s": None,
            **accounts,
        }  # fmt: skip


def row_of(device, result_size=4, **budget):
    rounds = warm_up(device, "inference", Budget(**budget))
    find_row(device, "inference", rounds, result_size)
    for number in range(LEAST_ROWS):
        run_turn(device, "inference", rounds, None, with_row=True, row_first=number % 2 == 1)
    return rounds


@pytest.mark.parametrize("launch_s", [1e-5, 1e-4, 4.9e-4])
@pytest.mark.parametrize("compute_s", [1e-5, 5e-4, 4e-3, 0.1])
def test_the_time_of_calls_in_a_row_is_that_of_one_more_however_few_they_are(launch_s, compute_s):
    rounds = row_of(Device(launch_s, compute_s))
    # Where next to nothing is left to wait for, it is that of a call that is waited for.
    off = 1e-9 if rounds.row.own_wait_s is None else OWN_WAIT_SHARE
    assert rounds.row.durations_s == pytest.approx([max(launch_s, compute_s)] * LEAST_ROWS, rel=off)
    assert rounds.row.calls <= max(rounds.iterations, FEWEST_IN_A_ROW)
    speed = summarise({JIT: [rounds] * 2})[JIT]
    assert (speed.last_wait, speed.few_calls) == (0.0, "")


def test_a_round_of_latency_that_was_disturbed_leaves_calls_in_a_row_a_time():
    rounds = row_of(Device(1e-3, 4e-3))
    slow = Device(1.0, 1.0)

    class SlowLatency(Device):
        def request(self, kind, pipelined=False, **body):
            reply = super().request(kind, pipelined=pipelined, **body)
            return reply if pipelined else {**slow.request(kind, **body), "major_faults": 1}

    run_turn(SlowLatency(1e-3, 4e-3), "inference", rounds, None, with_row=True, row_first=False)
    whole_s = 1e-3 + 8 * 4e-3
    assert rounds.row.durations_s[-1] == pytest.approx(whole_s / 8 / 2)
    assert rounds.row.disturbed[-1]


@pytest.mark.parametrize("call_s", [1e-5, 2e-3, 0.03, 0.9])
def test_a_framework_that_waits_by_itself_needs_no_more_calls_than_latency_has(call_s):
    rounds = row_of(Device(0.0, call_s, waits_itself=True))
    assert rounds.row.calls == rounds.iterations
    assert rounds.row.wait_share <= WAIT_SHARE
    assert rounds.row.durations_s == pytest.approx([call_s] * LEAST_ROWS)


@pytest.mark.parametrize("call_s", [1e-5, 2e-3, 0.03])
def test_whether_a_framework_waits_by_itself_is_seen_after_one_call(call_s):
    assert row_of(Device(0.0, call_s, waits_itself=True)).row.own_wait_s == 0.0
    # Of many calls in a row one is little, but it is a whole one.
    assert row_of(Device(call_s / 2, call_s / 2)).row.own_wait_s is None
    assert row_of(Device(call_s / 500, call_s)).row.own_wait_s is None


def noting(asked, share):
    """A kind of worker that notes what it is timed for, with this share of a call left to wait for after each."""

    class Noting(SimulatedWorker):
        def request(self, kind, **body):
            reply = super().request(kind, **body)
            if kind == "time":
                asked.append((self.contender, self.process_id, bool(body.get("pipelined")), body["warmup"]))
                reply["wait_ns"] = share * reply["duration_ns"] / body["iterations"]
            return reply

    return Noting


def test_where_a_framework_waits_by_itself_rounds_of_latency_are_those_of_throughput_too():
    asked, budget = [], Budget(max_passes=20, precision=0.0)
    _, found, _ = run({EAGER: 1e-4, JIT: 1.01e-4}, budget, noise=0.2, worker=noting(asked, 0.04))
    for processes in found.values():
        for rounds in processes:
            assert rounds.row.durations_s == [rounds.durations_s[n] for n in (*range(6), 9, 14, 19)]
            assert rounds.row.own_wait_s > 0
    # While rounds were found, and the two calls at the end.
    assert sum(pipelined for _, _, pipelined, _ in asked) <= 4 * 4
    speed = summarise(found)[EAGER]
    assert (speed.last_wait <= WAIT_SHARE, speed.few_calls) == (True, "")
    assert speed.pipelined_rounds_s == [s for rounds in found[EAGER] for s in rounds.row.durations_s]


def test_no_more_is_alive_at_once_than_may_be_and_that_is_said():
    device, size = Device(1e-3, 1e-3), MOST_ALIVE_BYTES // 3
    rounds = row_of(device, size)
    assert rounds.row.calls * size <= MOST_ALIVE_BYTES
    assert rounds.row.calls == 3
    alone = row_of(device, 2 * MOST_ALIVE_BYTES)
    assert alone.row.calls == 1
    speed = summarise({JIT: [alone] * 2})[JIT]
    assert speed.last_wait > WAIT_SHARE
    assert speed.few_calls == "more than 256 MiB at once"


@pytest.mark.parametrize(("call_s", "calls"), [(0.1, 5), (0.2, 2), (0.3, 1), (2.0, 1)])
def test_no_round_is_longer_than_half_a_second_unless_a_call_is(call_s, calls):
    rounds = row_of(Device(call_s / 2, call_s / 2))
    assert rounds.row.calls == calls or rounds.row.calls * call_s / 2 <= LONGEST_ROW_S
    assert rounds.row.limit == "each call is long"


def test_of_calls_so_long_that_one_makes_a_row_none_is_spent_on_finding_that():
    device = Device(0.3, 0.3)
    rounds = warm_up(device, "inference", Budget())
    device.request = None
    find_row(device, "inference", rounds, 4)
    assert (rounds.row.calls, rounds.row.own_wait_s) == (1, None)


def test_what_a_call_returns_is_counted_by_its_step():
    lstm = LstmSpec(5, 7, 3, 11)
    weights = 4 * 7 * (5 + 7) + 4 * 7 + 3 * 7 + 3
    inputs = 2 * (11 * 5 + 7 + 7)
    assert result_bytes(Workload(lstm, 2)) == 4 * 2 * 3
    assert result_bytes(Workload(lstm, 2, dtype="bfloat16")) == 2 * 2 * 3
    assert result_bytes(Workload(lstm, 2, step="gradients")) == 4 + 4 * (weights + inputs)
    assert result_bytes(Workload(lstm, 2, step="training")) == 4


def test_rounds_of_calls_in_a_row_are_spread_over_the_passes_and_take_turns_with_the_others():
    asked, budget = [], Budget(min_passes=6, max_passes=20, precision=0.0, max_time_s=100.0)
    # More is left to wait for than where a framework waits by itself.
    _, found, _ = run({EAGER: 0.01, JIT: 0.0101}, budget, noise=0.2, worker=noting(asked, 0.1))
    assert passes(found) == {EAGER: 20, JIT: 20}
    for processes in found.values():
        for rounds in processes:
            # Six in the first six passes, and then one in five.
            assert len(rounds.row.durations_s) == 6 + 3
    of_one = [(pipelined, warmup) for who, number, pipelined, warmup in asked if (who, number) == (EAGER, 100)]
    timed = of_one[-30:-1]  # The last one enters no time.
    # Whichever comes second in a turn is not preceded by a pause.
    assert sum(warmup > 0 for _, warmup in timed) == 20
    first_in_turn = [pipelined for pipelined, warmup in timed if warmup]
    assert sum(first_in_turn) == 5
    # Never all at the end.
    positions = [place for place, (pipelined, _) in enumerate(timed) if pipelined]
    assert positions[0] < 2
    assert positions[-1] > 25


def test_calls_in_a_row_take_no_more_than_their_share_of_a_case_s_time():
    budget = Budget(min_passes=6, max_passes=200, precision=0.0, max_time_s=2.0, foresight=200)
    _, found, _ = run({EAGER: 0.01, JIT: 0.0101}, budget, noise=0.2)
    for processes in found.values():
        spent_s = sum(rounds.row.spent_s for rounds in processes)
        assert spent_s <= ROWS_SHARE * 2.0 + 2 * 0.02


def test_of_long_rounds_fewer_do():
    _, found, _ = run({EAGER: 0.6, JIT: 0.61}, Budget(max_time_s=0.1))
    assert {len(rounds.row.durations_s) for processes in found.values() for rounds in processes} == {LEAST_ROWS // 2}


def test_who_fails_in_a_round_of_calls_in_a_row_ends_alone():
    class Failing(SimulatedWorker):
        def request(self, kind, **body):
            if kind == "time" and body.get("pipelined") and self.contender == JIT:
                raise WorkerError("gone", outcome="crashed", where="jax:jit")
            return super().request(kind, **body)

    _, found, _ = run({EAGER: 0.01, JIT: 0.0101}, Budget(min_passes=6, max_passes=6), worker=Failing)
    assert isinstance(found[JIT], WorkerError)
    assert len(found[EAGER][0].row.durations_s) == 6
