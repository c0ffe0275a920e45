"""Calls in a row through real workers: who waits for every call by itself, and how many calls make a row."""

from __future__ import annotations

import statistics

import pytest

from faceoff.core.spec import Contender, DenseSpec, Workload
from faceoff.pool.worker import Worker
from faceoff.speed.rounds import FEWEST_IN_A_ROW, WAIT_SHARE, Rounds, find_row, run_row
from faceoff.workloads.task import Task

WORKLOAD = Workload(DenseSpec((512, 1024, 10)), 64)
CALLS, ROUNDS = 10, 30


def built(worker: Worker, contender: Contender) -> Worker:
    """The worker with the model and its batches, warm."""
    weights, batches = Task.seeded(WORKLOAD, 0).cast("float32")
    worker.request("build", workload=WORKLOAD.to_json(), mode=contender.mode, weights=weights)
    worker.request("load", batches=[batch.to_json() for batch in batches])
    worker.request("time", step="inference", warmup=CALLS, iterations=CALLS, start=0)
    return worker


def test_on_a_cpu_pytorch_and_tensorflow_wait_for_every_call_by_themselves(
    worker: Worker, contender: Contender
) -> None:
    if contender.framework == "jax":
        pytest.skip("JAX returns before a call is done")
    built(worker, contender)
    waits = []
    for number in range(ROUNDS):
        asked = {"warmup": 1, "iterations": CALLS, "start": number}
        reply = worker.request("time", step="inference", pipelined=True, **asked)
        waits.append(reply["wait_ns"] / reply["duration_ns"])
        assert worker.request("time", step="inference", **asked)["wait_ns"] == 0
    # So that both ways of timing are the same work; how long it takes `tests/calibration/throughput.py` compares.
    assert statistics.median(waits) <= WAIT_SHARE


def test_calls_in_a_row_are_found_for_every_contender(worker: Worker, contender: Contender) -> None:
    built(worker, contender)
    reply = worker.request("time", step="inference", warmup=1, iterations=CALLS, start=0)
    rounds = Rounds(2, CALLS, reply["call_ns"].min() / 1e9)
    find_row(worker, "inference", rounds, 4 * 64 * 10)
    for _ in range(3):
        run_row(worker, "inference", rounds, None)
    assert len(rounds.row.durations_s) == len(rounds.row.waits_s) == 3
    assert rounds.row.calls == (FEWEST_IN_A_ROW if contender.framework == "jax" else 2)
    assert all(0 <= wait_s <= s * rounds.row.calls for wait_s, s in zip(
        rounds.row.waits_s, rounds.row.durations_s, strict=True))  # fmt: skip
