"""Which rounds count as disturbed: by what the kernel says of them, never by how long they took."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender, DenseSpec, Workload
from faceoff.machine.cards import Reading
from faceoff.speed.budget import Budget
from faceoff.speed.measure import compare_speeds, compare_tuned, summarise
from faceoff.speed.rounds import Rounds, Row, end_rounds, run_round, run_row, settling_calls, warm_up
from faceoff.speed.statistics import unsteadiness

LENGTH_S = 0.01


def rounds(waiting_s, taken_s=None, broken=None, durations_s=None):
    count = len(waiting_s)
    return Rounds(
        1,
        3,
        LENGTH_S,
        durations_s=list(durations_s or [LENGTH_S] * count),
        taken_s=list(taken_s or [0.0] * count),
        waiting_s=list(waiting_s),
        broken=list(broken or [False] * count),
    )


def test_threads_that_always_wait_for_each_other_disturb_no_round():
    assert not rounds([0.006] * 9).disturbed.any()


def test_a_round_that_waits_much_longer_than_the_process_does_in_the_median_is_disturbed():
    assert np.flatnonzero(rounds([0.006] * 8 + [0.009]).disturbed).tolist() == [8]
    assert not rounds([0.006] * 8 + [0.0065]).disturbed.any()


def test_stolen_time_counts_whole_however_regular_it_is():
    assert rounds([0.0] * 9, taken_s=[0.002] * 9).disturbed.all()


def test_pages_read_from_disk_or_sleep_break_a_round():
    assert np.flatnonzero(rounds([0.0] * 3, broken=[False, True, False]).disturbed).tolist() == [1]


def test_a_long_round_alone_is_not_disturbed():
    assert not rounds([0.0] * 9, durations_s=[LENGTH_S] * 8 + [LENGTH_S * 5]).disturbed.any()


@pytest.mark.parametrize(("call_s", "calls"), [(0.001, 15), (0.004, 4), (0.02, 1), (0.09, 1), (0.2, 0)])
def test_after_a_pause_calls_go_untimed_until_threads_have_settled(call_s, calls):
    assert settling_calls(Rounds(1, 3, call_s)) == calls


class Answering:
    """A worker whose rounds are all alike."""

    process_id, device, held_up_s = 4711, "cpu", 0.0
    start_reply = MappingProxyType({"clock_tick_s": 1e-9})

    def request(self, kind, **body):
        if kind != "time":
            return {"memory": {"device_peak_bytes": 5}}.get(kind, {})
        accounts = dict.fromkeys(("stolen_s", "waited_s", "asleep_s", "cpu_s", "busy_s"), 0.0) | {
            "major_faults": 0,
            "switches": 3,
            "throttled_s": 0.0,
            "continued": 0,
        }
        call_ns = np.full(body["iterations"], 1e7)
        told = {"duration_ns": call_ns.sum(), "call_ns": call_ns, "wait_ns": 0, "last_batch": 0, "device_s": 0.008}
        return told | accounts


class ThrottlingCard:
    """A card that is too hot in every third round, with one process that is not ours."""

    def __init__(self):
        self.rounds = 0

    def read(self):
        self.rounds += 1
        throttled = ("temperature (hardware)",) if self.rounds % 3 == 0 else ()
        return Reading(1500 + self.rounds, 2600, 60, throttled, {4711: self.rounds, 4712: 7, 999: 5})


def test_rounds_in_which_a_card_throttles_are_marked_and_what_it_said_is_kept():
    contender, card = Contender.parse("jax:jit"), ThrottlingCard()
    processes = [Rounds(1, 3, LENGTH_S, process_id) for process_id in (4711, 4712)]
    for number in range(6):
        run_round(Answering(), "inference", processes[number % 2], card)
    assert [list(rounds.disturbed) for rounds in processes] == [[False, True, False], [False, False, True]]
    first, second = summarise({contender: processes})[contender].processes
    assert first.card.model_dump() == {
        "clock_mhz": (1501, 1505),
        "memory_clock_mhz": (2600, 2600),
        "temperature_c": (60, 60),
        "throttled": {"temperature (hardware)": 1},
        "process_bytes": 5,
        "others": 1,
    }
    # Where each call is waited for the device's clock counts the waiting.
    assert (first.device_s, first.switches, second.card.process_bytes) == (None, 9, 7)
    known = summarise({contender: processes}, [999])[contender].processes
    assert [process.card.others for process in known] == [0, 0]


def test_the_device_s_own_time_and_the_memory_are_those_of_calls_that_follow_each_other():
    rounds = Rounds(2, 3, LENGTH_S, row=Row(4))
    for _ in range(3):
        run_row(Answering(), "inference", rounds, None)
    worker, asked = Answering(), []
    worker.request = lambda kind, **body: (asked.append((kind, body)), Answering.request(worker, kind, **body))[1]
    end_rounds(worker, "inference", rounds)
    kind, last = asked[-1]
    # The last call is one on the first of the batches, however many there are.
    assert (kind, last["start"] + last["iterations"] - 1) == ("time", 0)
    assert rounds.device_s == [0.002] * 3
    assert rounds.memory == {"device_peak_bytes": 5}


@pytest.mark.parametrize("step", ["inference", "training"])
def test_the_stages_of_an_inference_are_medians_and_no_other_step_has_any(step):
    rounds, worker = Rounds(2, 3, LENGTH_S, row=Row(4)), Answering()
    told = {"kernels": np.array([3.0, 1.0, 2.0])}
    worker.request = lambda kind, **body: told if kind == "stages" else Answering.request(worker, kind, **body)
    end_rounds(worker, step, rounds)
    assert rounds.stages_s == ({"kernels": 2.0} if step == "inference" else {})


def test_rounds_of_calls_in_a_row_in_which_a_card_throttles_are_marked_too():
    rounds, card = Rounds(1, 3, LENGTH_S), ThrottlingCard()
    for _ in range(6):
        run_row(Answering(), "inference", rounds, card)
    assert np.flatnonzero(rounds.row.disturbed).tolist() == [2, 5]


def test_a_driver_that_numbers_processes_otherwise_tells_nothing_of_others():
    contender = Contender.parse("jax:jit")
    processes = [Rounds(1, 3, LENGTH_S, process_id) for process_id in (1, 2)]
    for rounds in processes * 3:
        run_round(Answering(), "inference", rounds, ThrottlingCard())
    found = summarise({contender: processes})[contender].processes
    assert [(process.card.others, process.card.process_bytes) for process in found] == [(None, 0), (None, 0)]


class Counting(Answering):
    """A worker whose calls all take `call_s`; counts what it was asked."""

    contender = Contender.parse("jax:jit")

    def __init__(self, call_s):
        self.call_s, self.requests, self.calls = call_s, 0, 0

    def request(self, kind, **body):
        if kind != "time":
            return super().request(kind, **body)
        self.requests += 1
        self.calls += body["iterations"]
        return super().request(kind, **body) | {"duration_ns": 1e9 * self.call_s * body["iterations"]}


@pytest.mark.parametrize("call_s", [1e-6, 1e-4, 1e-2])
def test_warm_up_of_short_calls_takes_as_long_as_of_others_and_not_as_many_requests(call_s):
    worker = Counting(call_s)
    rounds = warm_up(worker, "inference", Budget())
    assert not rounds.on_gpu
    assert Budget().min_warmup_s <= worker.calls * call_s < 2 * Budget().min_warmup_s
    assert worker.requests < 80
    assert rounds.warmup_calls == worker.calls
    assert rounds.iterations == round(Budget().min_round_s / call_s)


class Cooling(Counting):
    """A worker whose every call is a tenth faster than the one before."""

    def request(self, kind, **body):
        self.call_s *= 0.9
        return super().request(kind, **body)


def test_who_never_gets_warm_is_measured_and_said():
    worker = Cooling(0.3)
    unready = warm_up(worker, "inference", Budget(max_warmup_s=1.0))
    assert not unready.warm
    run_round(worker, "inference", unready, None)
    run_round(worker, "inference", unready, None)
    other = Rounds(1, 3, LENGTH_S)
    for _ in range(2):
        run_round(Answering(), "inference", other, None)
    (process, _) = summarise({worker.contender: [unready, other]})[worker.contender].processes
    assert not process.warm
    assert unsteadiness([process]) == "calls still got faster when the time for warming up was over"


def test_without_time_for_warming_up_nothing_is_said_of_it():
    assert warm_up(Cooling(0.3), "inference", Budget(max_warmup_s=0.0)).warm


class Coarse(Counting):
    """A worker whose clock moves once in a while."""

    start_reply = MappingProxyType({"clock_tick_s": 1e-3})

    def request(self, kind, **body):
        reply = super().request(kind, **body)
        return reply | {"duration_ns": reply["duration_ns"] // 1e6 * 1e6} if kind == "time" else reply


def test_rounds_are_so_long_that_a_coarse_clock_tells_them():
    assert warm_up(Coarse(5e-5), "inference", Budget()).iterations * 5e-5 == pytest.approx(1.0, rel=0.1)


def test_rounds_know_whether_they_wait_for_a_card():
    worker = Counting(1e-3)
    worker.device = "gpu"
    assert warm_up(worker, "inference", Budget()).on_gpu


def test_a_clock_that_stands_still_is_said():
    worker = Counting(0.0)
    with pytest.raises(WorkerError, match="clock stands still"):
        warm_up(worker, "inference", Budget())
    with pytest.raises(WorkerError, match="clock stands still"):
        run_round(worker, "inference", Rounds(1, 3, LENGTH_S), None)


def test_on_the_cpu_no_card_is_read():
    rounds = Rounds(1, 3, LENGTH_S)
    for _ in range(3):
        run_round(Answering(), "inference", rounds, None)
    assert rounds.readings == []
    assert not rounds.disturbed.any()


def floor_of(**changed):
    """How surely two contenders of two processes each could be told apart, all of their processes alike."""
    workload, passes = Workload(DenseSpec((4, 3)), 2), 6
    measured = {}
    for name in ("pytorch:eager", "jax:jit"):
        processes = [replace(rounds([0.0] * passes), **{"cpu_s": 0.1} | changed) for _ in range(2)]
        measured[Contender.parse(name)] = processes
    _, floor = compare_speeds(workload, measured)
    return floor


def test_a_machine_on_which_nothing_else_runs_is_not_called_busy_for_a_few_disturbed_rounds():
    assert not floor_of().noisy
    # Too few are left to be taken without the disturbed ones.
    floor = floor_of(broken=[True, True, False, False, False, False])
    assert floor.disturbed == 1 / 3
    assert not floor.noisy


def test_a_machine_is_busy_when_others_have_its_cores_or_most_rounds_are_disturbed():
    assert not floor_of(busy_s=0.105).noisy
    assert floor_of(busy_s=0.115).noisy
    assert floor_of(busy_s=0.1, taken_s=[0.002] * 6).noisy
    assert floor_of(broken=[True] * 4 + [False] * 2).noisy


def test_who_waits_for_a_card_does_not_make_a_machine_busy_by_taking_no_processor_time():
    waiting = {"cpu_s": 0.01, "busy_s": 0.01 + 0.05 * 6 * LENGTH_S}
    assert floor_of(**waiting).noisy
    assert not floor_of(**waiting, on_gpu=True).noisy
    assert floor_of(cpu_s=0.01, busy_s=0.01 + 0.2 * 6 * LENGTH_S, on_gpu=True).noisy
    # Whoever computes on several cores meanwhile is judged by those.
    assert not floor_of(cpu_s=24 * LENGTH_S, busy_s=25 * LENGTH_S, on_gpu=True).noisy


def test_what_tuning_brings_is_told_against_the_fastest_other_mode_of_the_same_framework():
    workload, factors = Workload(DenseSpec((4, 3)), 2), {"pytorch:eager": 1.2, "pytorch:compile": 1.0}
    factors |= {"pytorch:tuned": 0.8, "jax:jit": 0.5, "tensorflow:tuned": 0.1}
    measured = {
        Contender.parse(name): [rounds([0.0] * 6, durations_s=[LENGTH_S * factor] * 6) for _ in range(2)]
        for name, factor in factors.items()
    }
    (found,) = compare_tuned(workload, measured)
    assert (found.contender, found.baseline) == ("pytorch:tuned", "pytorch:compile")
    assert np.isclose(found.ratio, 0.8)
    assert compare_tuned(workload, {Contender.parse("jax:jit"): measured[Contender.parse("jax:jit")]}) == []


def test_a_mode_without_a_setting_is_none_of_the_plain_ones():
    workload, factors = Workload(DenseSpec((4, 3)), 2), {"jax:jit": 1.0, "jax:tuned": 0.8}
    measured = {
        Contender.parse(name): [rounds([0.0] * 6, durations_s=[LENGTH_S * factor] * 6) for _ in range(2)]
        for name, factor in (factors | {"jax:tuned-without-allocator": 0.7}).items()
    }
    (found,) = compare_tuned(workload, measured)
    assert (found.contender, found.baseline) == ("jax:tuned", "jax:jit")
