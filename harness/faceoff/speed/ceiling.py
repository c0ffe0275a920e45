"""What this machine can do at best: a large matrix product and a copy, measured in the same run as everything else."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np

from faceoff.agreement.gradient_norms import choose_contenders
from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender, DenseSpec, Workload
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.worker import Worker
from faceoff.pool.workers import Pool, Seat
from faceoff.results.costs import Ceiling
from faceoff.workloads.task import Task
from faceoff.workloads.work import count_work

# Large enough for the arithmetic to outweigh all else, and done in seconds.
PRODUCT_SIZE = {"cpu": 1024, "gpu": 8192}
PRODUCT_CALLS = 5
# A card's clock falls under its power limit in less than this.
SUSTAINED_S = 0.5
COPY_BYTES = 2**27
STREAM_BYTES = 2**30
COPIES = 5


def measure_ceiling(pool: Pool, like: Workload, seed: int) -> Ceiling:
    """The best of some calls of each framework, which one after the other have the machine for themselves.

    On a GPU the rate that the card sustains, with calls that are not waited for one by one.

    Args:
        pool: one process for each framework builds a matrix product in place of what it holds.
        like: has the dtype and the device of the product.
        seed: of its values.
    """
    dtype, device = like.dtype, like.device
    size = PRODUCT_SIZE[device]
    workload = Workload(DenseSpec((size, size)), size, dtype, device)
    weights, batches = Task.seeded(workload, seed, batches=1).cast(dtype)
    flops, rates, streams = count_work(workload).flops, {}, {}
    for contender in setting_the_best(pool.available):
        try:
            worker = pool.worker(contender)
            worker.request("build", workload=workload.to_json(), mode=contender.mode, weights=weights)
            worker.request("load", batches=[batch.to_json() for batch in batches])
            worker.request("first_call", step="inference")
            with pool.quiet(), pool.awake(Seat(contender)):
                reply = worker.request("time", step="inference", warmup=1, iterations=PRODUCT_CALLS, start=0)
                call_s = float(np.min(reply["call_ns"])) / 1e9
                if device == "gpu":
                    calls = max(PRODUCT_CALLS, round(SUSTAINED_S / call_s))
                    reply = worker.request(
                        "time", step="inference", warmup=calls, iterations=calls, start=0, pipelined=True
                    )
                    call_s = float(reply["duration_ns"]) / 1e9 / calls
                    streams[str(contender)] = stream_rate(worker)
            rates[str(contender)] = flops / call_s
        except WorkerError:
            continue  # Its cases will say why; the ceiling is the others'.
    with pool.quiet():
        copied = copy_rate(pool.threads) if device == "cpu" else max(streams.values(), default=None)
    return Ceiling(dtype=dtype, device=device, product_size=size, product_flops=rates, copy_bytes=copied)


def setting_the_best(contenders: Sequence[Contender]) -> list[Contender]:
    """One contender of each framework; of kernels that take part on request alone only where there is nobody else.

    A large product may take them a hundred times as long as a library, and says nothing of the machine.
    """
    usual = [contender for contender in contenders if not FRAMEWORKS[contender.framework].on_request]
    return choose_contenders(usual or contenders)


def stream_rate(worker: Worker) -> float:
    """Bytes read and written per second within the device, at best. Raises WorkerError."""
    reply = worker.request("stream", count=STREAM_BYTES // 4, repetitions=COPIES)
    return 2 * STREAM_BYTES / float(np.min(reply["call_s"]))


def copy_rate(threads: int) -> float:
    """Bytes read and written per second by as many threads at a time, each copying its part of a large array."""
    sources = np.array_split(np.ones(COPY_BYTES // 8), threads)
    targets = [np.empty_like(source) for source in sources]
    fastest_s = np.inf
    with ThreadPoolExecutor(threads) as executor:
        for _ in range(COPIES + 1):  # The first maps the memory.
            begin_s = perf_counter()
            list(executor.map(np.copyto, targets, sources))
            fastest_s = min(fastest_s, perf_counter() - begin_s)
    return 2 * COPY_BYTES / float(fastest_s)
