"""Cold start: a new process to the first result, alone on the machine, with empty compile caches."""

from __future__ import annotations

from collections.abc import Sequence

from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender, Workload
from faceoff.pool.memory import as_outcome, reason_of, require_memory
from faceoff.pool.worker import Worker
from faceoff.pool.workers import Pool, require_offered
from faceoff.results.costs import ColdStart
from faceoff.workloads.task import Task


def start_cold_one(pool: Pool, contender: Contender, workloads: Sequence[Workload], seed: int) -> list[ColdStart]:
    """Starts one more process of `contender`, builds and first-calls each model in it, and ends it.

    Args:
        pool: quiet, so that no other worker takes processor time.
        contender: who starts.
        workloads: their models share the process's start.
        seed: of weights and batches.

    Returns:
        A record for each workload.
    """
    worker: Worker | None = None
    # What hung, or could not start, would do so with every model.
    failed = pool.failures.get(contender)
    records = []
    for workload in workloads:
        called = workload.replace(step="inference")
        record = ColdStart(workload=called.to_json(), contender=str(contender), outcome="ok")
        records.append(record)
        try:
            if failed is not None:
                raise failed
            require_offered(contender, workload)
            require_memory(workload, batches=1)
            weights, batches = Task.seeded(workload, seed, batches=1).cast(workload.dtype)
            if worker is None or not worker.alive:
                worker = pool.start_cold(contender)
            start = worker.start_reply
            built = worker.request("build", workload=called.to_json(), mode=contender.mode, weights=weights)
            worker.request("load", batches=[batch.to_json() for batch in batches])
            record.first_call_s = worker.request("first_call", step="inference")["first_call_s"]
            record.build_s = built["build_s"]
            record.interpreter_s, record.import_s, record.configure_s = (
                start["interpreter_s"],
                start["import_s"],
                start["configure_s"],
            )
        except WorkerError as error:
            record.outcome, record.reason = error.outcome, reason_of(error, workload.device)
            if error.outcome != "not_offered" and (worker is None or error.outcome == "timeout"):
                failed = error
        except MemoryError as error:
            record.outcome, record.reason = "out_of_memory", reason_of(as_outcome(error), workload.device)
    if worker is not None:
        worker.kill()
    return records
