"""Workers that crash, hang or are killed become outcomes, and leave no process behind. Real workers, real signals."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender, Workload
from faceoff.frameworks.installations import variable_name
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool import memory
from faceoff.pool import worker as live_worker
from faceoff.pool.worker import Worker
from faceoff.pool.workers import Pool, Seat
from faceoff.worker.failures import describe_error
from faceoff.workloads.presets import choose
from faceoff.workloads.task import Task
from tests.conftest import new_pool

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pool(lightest: Contender, tmp_path: Path):
    pool = new_pool([lightest], tmp_path, timeout_s=60)
    yield pool
    pool.close()


def is_stopped(process_id: int) -> bool:
    return psutil.Process(process_id).status() == psutil.STATUS_STOPPED


def test_a_killed_worker_is_an_outcome_and_a_fresh_one_takes_over(pool, lightest):
    worker = pool.worker(lightest)
    threading.Timer(0.3, os.kill, (worker.process_id, signal.SIGKILL)).start()
    with pytest.raises(WorkerError, match="SIGKILL") as caught:
        worker.request("sleep", seconds=30)
    assert caught.value.outcome == "crashed"
    fresh = pool.worker(lightest)
    assert fresh.process_id != worker.process_id
    assert fresh.request("memory")["host_in_use_bytes"] > 0


def test_a_worker_that_the_kernel_ends_for_want_of_memory_did_not_crash(pool, lightest, tmp_path, monkeypatch):
    counters = tmp_path / "vmstat"
    counters.write_text("oom_kill 4\n")
    monkeypatch.setattr(memory, "VMSTAT", counters)
    worker = pool.worker(lightest)

    def end() -> None:
        counters.write_text("oom_kill 5\n")
        os.kill(worker.process_id, signal.SIGKILL)

    threading.Timer(0.3, end).start()
    with pytest.raises(WorkerError, match="memory ran out") as caught:
        worker.request("sleep", seconds=30)
    assert caught.value.outcome == "out_of_memory"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be told whom to end")
def test_workers_are_ended_before_the_harness_when_memory_runs_out(pool, lightest):
    own, its = (Path(f"/proc/{pid}/oom_score_adj") for pid in ("self", pool.worker(lightest).process_id))
    assert int(its.read_text()) == 1000 > int(own.read_text())


def test_a_worker_that_sleeps_for_ever_ends_at_the_time_limit(pool, lightest):
    worker = pool.worker(lightest)
    begin = time.monotonic()
    with pytest.raises(WorkerError, match=r"within 0\.5 s") as caught:
        worker.request("sleep", timeout_s=0.5, seconds=3600)
    assert caught.value.outcome == "timeout"
    assert time.monotonic() - begin < 10
    assert not psutil.pid_exists(worker.process_id)
    assert pool.worker(lightest).alive


def test_a_contender_that_keeps_hanging_is_given_up(pool, lightest):
    def hang():
        with pytest.raises(WorkerError, match="no answer"):
            pool.worker(lightest).request("sleep", timeout_s=0.3, seconds=3600)

    hang()
    hang()
    # One that it answers, as the next size of a sweep may be, and all is forgotten.
    pool.worker(lightest).request("sleep", seconds=0)
    for _ in range(3):
        hang()
    with pytest.raises(WorkerError, match="given up after 3 workloads in a row") as caught:
        pool.worker(lightest)
    assert caught.value.outcome == "timeout"


def test_an_error_inside_the_worker_leaves_it_alive_and_is_in_its_log(pool, lightest):
    worker = pool.worker(lightest)
    with pytest.raises(WorkerError, match="no model yet") as caught:
        worker.request("weights")
    assert "InputError" in caught.value.log_tail
    with pytest.raises(WorkerError, match="unknown request"):
        worker.request("no_such_thing")
    assert worker.alive


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 GiB", "out_of_memory"),
        ("CUDA error: out of memory", "out_of_memory"),
        ("\"addmm_impl_cpu_\" not implemented for 'Half'", "unsupported"),
        ("CUDA error: no kernel image is available for execution on the device", "unsupported"),
        ("CUDA error: an illegal memory access was encountered", "crashed"),
        ("RESOURCE_EXHAUSTED: Failed to allocate 17179869184 bytes", "out_of_memory"),
        ("CUDNN_STATUS_NOT_SUPPORTED", "unsupported"),
        ("Graph execution error:\n\nOut of memory while trying to allocate", "out_of_memory"),
        ("anything else", "crashed"),
    ],
)
def test_what_a_framework_says_becomes_an_outcome(pool, lightest, text, outcome):
    with pytest.raises(WorkerError) as caught:
        pool.worker(lightest).request("fail", text=text)
    assert caught.value.outcome == outcome


def test_the_reason_is_the_line_that_tells_it():
    text = "Exception encountered when calling Conv2D.call().\n\nno algorithm worked!"
    assert describe_error(RuntimeError(text), FRAMEWORKS["tensorflow"].errors)["reason"].endswith(
        "no algorithm worked!"
    )


@pytest.mark.parametrize(
    "text", ["DNN library initialization failed.", "Autotuning failed for HLO: %dot.1; No valid config found!"]
)
def test_what_a_full_card_may_have_caused_is_out_of_memory_on_a_full_card_alone(pool, lightest, text):
    def outcome():
        with pytest.raises(WorkerError) as caught:
            worker.request("fail", text=text)
        return caught.value.outcome

    worker = pool.worker(lightest)
    assert outcome() == "crashed"
    for full, expected in ((False, "crashed"), (True, "out_of_memory")):
        worker.card = SimpleNamespace(is_full=lambda full=full: full)
        assert outcome() == expected
    worker.card = None


def test_a_contender_that_finds_a_card_full_is_asked_again_once_there_is_room(pool, lightest, monkeypatch):
    pool.worker(lightest).kill()
    full = WorkerError("no room", outcome="out_of_memory", where=str(lightest))

    def refuse(worker):
        raise full

    with monkeypatch.context() as patched:
        patched.setattr(Worker, "finish_start", refuse)
        with pytest.raises(WorkerError, match="no room"):
            pool.worker(lightest)
    pool.release()
    assert pool.worker(lightest).request("sleep", seconds=0) == {}


def test_a_process_that_does_not_die_is_given_up(pool, lightest, monkeypatch):
    worker = pool.worker(lightest)
    monkeypatch.setattr(live_worker, "KILL_TIMEOUT_S", 0.1)
    with monkeypatch.context() as patched:
        patched.setattr(worker, "_signal", lambda number: None)
        worker.kill()
    assert not worker.alive
    assert pool.worker(lightest) is not worker
    monkeypatch.setattr(live_worker, "KILL_TIMEOUT_S", 30.0)
    worker.kill()


def test_a_worker_that_has_lost_its_device_is_replaced_and_one_that_ran_out_of_memory_is_not(pool, lightest):
    worker = pool.worker(lightest)
    with pytest.raises(WorkerError, match="illegal memory access"):
        worker.request("fail", text="CUDA error: an illegal memory access was encountered")
    assert not worker.alive
    fresh = pool.worker(lightest)
    with pytest.raises(WorkerError):
        fresh.request("fail", text="CUDA error: out of memory")
    assert pool.worker(lightest) is fresh
    # On a card it would keep what it took, and the next workload find none.
    fresh.device = "gpu"
    with pytest.raises(WorkerError):
        fresh.request("fail", text="CUDA error: out of memory")
    assert not fresh.alive


def test_processes_that_were_released_are_started_again(pool, lightest):
    first = pool.worker(lightest)
    with pool.replicate(Seat(lightest, 1)) as second:
        second.request("sleep", seconds=0)
    pool.release()
    assert not first.alive
    assert not second.alive
    pool.worker(lightest).request("sleep", seconds=0)
    with pool.replicate(Seat(lightest, 1)) as third:
        third.request("sleep", seconds=0)


def test_closing_the_pool_ends_every_process_also_paused_ones(lightest, tmp_path):
    pool = new_pool([lightest], tmp_path)
    cold = pool.start_cold(lightest)
    ids = [pool.worker(lightest).process_id, cold.process_id]
    pool.worker(lightest).pause()
    pool.close()
    assert not any(psutil.pid_exists(process_id) for process_id in ids)


def test_a_process_that_cannot_be_stopped_is_ended(lightest, tmp_path, monkeypatch):
    pool = new_pool([lightest], tmp_path)
    worker = pool.worker(lightest)
    monkeypatch.setattr(live_worker, "PAUSE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(live_worker.os, "waitid", lambda *arguments: None)
    worker.pause()
    assert worker.timed_out
    assert not worker.alive
    pool.close()


def test_only_the_awake_worker_runs_while_it_is_timed(lightest, tmp_path, every_worker: Pool):
    others = [contender for contender in every_worker.available if contender != lightest]
    with every_worker.quiet(), every_worker.awake(Seat(lightest)) as worker:
        assert not is_stopped(worker.process_id)
        assert all(is_stopped(every_worker.worker(contender).process_id) for contender in others)
    assert not any(is_stopped(every_worker.worker(contender).process_id) for contender in every_worker.available)


def test_a_worker_dies_with_its_parent(lightest, tmp_path):
    """The parent is killed with SIGKILL while its worker is paused: nothing is left."""
    script = (
        "import sys, time; from pathlib import Path; from faceoff.core.spec import Contender; "
        "from tests.conftest import new_pool; chosen = Contender.parse(sys.argv[1]); "
        "pool = new_pool([chosen], Path(sys.argv[2])); worker = pool.worker(chosen); worker.pause(); "
        "print(worker.process_id, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script, str(lightest), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        worker_id = int(parent.stdout.readline())
        stopped = is_stopped(worker_id)
        parent.kill()
    assert stopped
    for _ in range(100):
        if not psutil.pid_exists(worker_id) or psutil.Process(worker_id).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    pytest.fail(f"worker {worker_id} outlived its parent")


def test_an_interpreter_that_does_not_exist_is_missing(lightest, tmp_path, monkeypatch):
    monkeypatch.setenv(variable_name(lightest.framework), "/nowhere/python")
    pool = new_pool([lightest], tmp_path)
    assert pool.failures[lightest].outcome == "missing"
    assert "/nowhere/python" in str(pool.failures[lightest])
    pool.close()


def test_another_interpreter_runs_the_framework_with_its_own_packages(lightest, tmp_path, monkeypatch):
    """A worker of another interpreter sees Face-off, and of packages only its own: here, none."""
    import venv

    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare" / "bin" / "python"
    monkeypatch.setenv(variable_name(lightest.framework), str(python))
    pool = new_pool([lightest], tmp_path)
    error = pool.failures[lightest]
    assert error.outcome == "missing"
    assert f"pip install '.[{lightest.framework}]'" in (error.next_step or "")
    pool.close()


def test_what_a_worker_prints_does_not_disturb_its_answers(lightest, tmp_path):
    """Frameworks write to the standard streams while they compile; here a large batch travels at the same time."""
    pool = new_pool([lightest], tmp_path)
    sized = choose("small", ["dense"])[0]
    task = Task.seeded(Workload(sized.model, sized.batch_size), 0)
    weights, batches = task.cast("float32")
    worker = pool.worker(lightest)
    with pytest.raises(WorkerError):
        worker.request("trace", index=99, training=False)
    worker.request("build", workload=task.workload.to_json(), mode=lightest.mode, weights=weights)
    worker.request("load", batches=[batch.to_json() for batch in batches])
    with pytest.raises(WorkerError):
        worker.request("forward", indices=[99])
    assert worker.log_tail()
    for name, value in worker.request("weights").items():
        np.testing.assert_array_equal(value, weights[name])
    pool.close()


def test_a_replicate_that_was_paused_while_it_started_is_woken_to_finish(pool, lightest):
    seat = Seat(lightest, 1)
    pool.launch(seat)
    with pool.quiet():
        pass
    # Paused it would never answer, and end at the time limit of a start.
    with pool.replicate(seat) as worker:
        assert worker.start_reply["modes"]
        assert not is_stopped(worker.process_id)
    assert is_stopped(worker.process_id)
