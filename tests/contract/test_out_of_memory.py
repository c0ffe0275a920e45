"""Memory that runs out is an outcome, and what comes after it is run. Real allocations fail at a real limit."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from faceoff.agreement.check import Expected
from faceoff.agreement.timed_check import TimedExpected
from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender, DenseSpec, Workload
from faceoff.pool.worker import Worker
from faceoff.pool.workers import Pool
from faceoff.run import own_models
from faceoff.workloads.task import Task
from tests.contract.sweeps import outcomes, sweep

pytestmark = pytest.mark.thorough

# 1.3 GB of activations from 262 kB of inputs.
WIDE = Workload(DenseSpec((16, 80_000, 4)), 4096, step="inference")
NARROW = Workload(DenseSpec((16, 8, 4)), 4, step="inference")
ROOM_BYTES = 300 * 2**20


@contextmanager
def little_room(worker: Worker) -> Iterator[None]:
    """Lets the process have no more than `ROOM_BYTES` of memory beside what it has."""
    process = psutil.Process(worker.process_id)
    soft, hard = process.rlimit(psutil.RLIMIT_AS)
    process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + ROOM_BYTES, hard))
    try:
        yield
    finally:
        if worker.alive:
            process.rlimit(psutil.RLIMIT_AS, (soft, hard))


def call(worker: Worker, contender: Contender, workload: Workload) -> None:
    weights, batches = Task.seeded(workload, 0, batches=1).cast("float32")
    worker.request("build", workload=workload.to_json(), mode=contender.mode, weights=weights)
    worker.request("load", batches=[batch.to_json() for batch in batches])
    worker.request("first_call", step="inference")


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the system cannot limit another process's memory")
def test_memory_that_runs_out_in_a_framework_is_said_and_the_next_size_runs(
    worker: Worker, contender: Contender, every_worker: Pool
) -> None:
    call(worker, contender, NARROW)
    with little_room(worker), pytest.raises(WorkerError) as caught:
        call(worker, contender, WIDE)
    # oneDNN inside TensorFlow uses the memory that it was not given.
    allowed = {"out_of_memory", "crashed"} if contender.mode == "graph-onednn" else {"out_of_memory"}
    assert caught.value.outcome in allowed, caught.value
    call(every_worker.worker(contender), contender, NARROW)


def test_a_size_that_cannot_even_be_made_is_a_gap_in_a_sweep(lightest: Contender, tmp_path: Path) -> None:
    result = sweep("dense", lightest, tmp_path / "sweep", (4, 10**11, 8))
    assert outcomes(result) == {4: "ok", 10**11: "out_of_memory", 8: "ok"}
    gap = next(case for case in result.cases if case.outcome == "out_of_memory")
    assert "GiB are free" in gap.reason
    assert result.exit_status == 3
    assert "out of memory" in (tmp_path / "sweep" / "page.html").read_text()


def test_memory_that_runs_out_in_the_reference_ends_that_size_alone(
    lightest: Contender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starving(task: Task, *arguments: object, **keywords: object) -> Expected:
        if task.workload.batch_size == 8:
            raise MemoryError("Unable to allocate 9.00 GiB")
        return Expected(task, *arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(own_models, "Expected", starving)
    result = sweep("dense", lightest, tmp_path / "sweep", (4, 8, 6))
    assert outcomes(result) == {4: "ok", 8: "out_of_memory", 6: "ok"}
    assert any("Unable to allocate" in case.reason for case in result.cases)


def test_memory_that_runs_out_while_a_timed_value_is_checked_ends_that_size_alone(
    lightest: Contender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = TimedExpected.problem

    def starving(self: TimedExpected, *arguments: Any, **named: Any) -> str:
        if self.task.workload.batch_size == 8:
            raise MemoryError("Unable to allocate 9.00 GiB")
        return problem(self, *arguments, **named)

    monkeypatch.setattr(TimedExpected, "problem", starving)
    result = sweep("dense", lightest, tmp_path / "sweep", (4, 8, 6))
    assert outcomes(result) == {4: "ok", 8: "out_of_memory", 6: "ok"}
