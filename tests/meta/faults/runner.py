"""Runs the agreement check on copies of the sources, in a long-lived worker for each framework and environment."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import socket
import subprocess
import threading
from contextlib import nullcontext
from pathlib import Path

from faceoff.agreement.check import Expected, check_agreement
from faceoff.agreement.training import ExpectedTraining, judge_training
from faceoff.core.clock import monotonic_ns
from faceoff.core.messages import Channel
from faceoff.core.spec import Contender, Optimiser, Workload
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS, hidden_modules
from faceoff.pool.environment import worker_environment
from faceoff.pool.worker import Worker
from faceoff.results.agreements import EVERYDAY, Agreement
from faceoff.results.trainings import TrainingRun
from faceoff.workloads.situations import SITUATIONS
from faceoff.workloads.task import Task
from faceoff.workloads.trainings import TrainingTask
from tests.meta.faults.fault import BATCH_SIZE, IMPLEMENTATIONS, MODELS, Fault

ROOT = IMPLEMENTATIONS.parent
# One thread suffices for models so small. A worker may still run on any core, as two of them work at a time.
SETTINGS = {"device": "cpu", "threads": 1, "seed": 0}
TIMEOUT_S = 120.0
# Here each program runs a few times at most, and most are the same for many faults.
QUICK_COMPILING = {
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}
SEED = 11


@functools.cache
def task_and_expected(model: str, optimiser: str, situation: str) -> tuple[Task, Expected]:
    """What every contender has to compute, and the reference's side of it."""
    workload = Workload(MODELS[model], BATCH_SIZE, optimiser=Optimiser(optimiser))
    task = SITUATIONS[situation].task(workload, SEED)
    return task, Expected(task, SEED)


def is_installed(framework: str) -> bool:
    return find_installation(FRAMEWORKS[framework], Configuration()).installed


class Runner:
    """Workers that load one copy of the implementation after another.

    Threads may check different frameworks at a time. A worker ends with the thread that checked first with it.

    Args:
        folder: where the copies and logs go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._workers: dict[tuple[str, ...], Worker] = {}
        self._copies = itertools.count()
        self._one_at_a_time = threading.Lock()

    def close(self) -> None:
        """Ends every process."""
        for worker in list(self._workers.values()):
            worker.kill()

    def check(
        self,
        contender: str,
        model: str,
        optimiser: str,
        dtype: str,
        situation: str = EVERYDAY,
        fault: Fault | None = None,
    ) -> Agreement:
        """The agreement of a fresh copy, with `fault` planted in it, or of an unharmed one."""
        chosen = Contender.parse(contender)
        worker = self._load(chosen, fault)
        with self._one_at_a_time:  # or two threads would both make what is kept
            task, expected = task_and_expected(model, optimiser, situation)
        return check_agreement(
            worker, chosen, task, lambda: expected, dtype, again="", busy=nullcontext(), situation=situation
        )

    def train(
        self, contender: str, task: TrainingTask, expected: ExpectedTraining, fault: Fault | None = None
    ) -> TrainingRun:
        """The training of a fresh copy on real data, with `fault` planted in it, or of an unharmed one."""
        chosen = Contender.parse(contender)
        worker = self._load(chosen, fault)
        return judge_training(lambda: worker, chosen, task, SEED, lambda: expected, nullcontext(), nullcontext())

    def _load(self, chosen: Contender, fault: Fault | None) -> Worker:
        """A worker that runs a fresh copy of the implementation, with `fault` planted in it or unharmed."""
        folder = self._folder / f"{chosen.framework}-{next(self._copies)}"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(IMPLEMENTATIONS / chosen.framework, folder, ignore=ignored)
        if fault is not None:
            fault.plant(folder)
        worker = self._worker(chosen)
        errors = FRAMEWORKS[chosen.framework].errors.to_json()
        reply = worker.request("reload", folder=str(folder), errors=errors, **SETTINGS)
        assert Path(reply["loaded"]) == folder / "runtime.py"
        return worker

    def _worker(self, contender: Contender) -> Worker:
        # Some modes want another environment before their interpreter starts.
        variables = FRAMEWORKS[contender.framework].variables_of(contender.mode)
        key = (contender.framework, *(f"{name}={value}" for name, value in variables.items()))
        worker = self._workers.get(key)
        if worker is None or not worker.alive:
            worker = self._workers[key] = self._start(contender)
        return worker

    def _start(self, contender: Contender) -> Worker:
        installation = find_installation(FRAMEWORKS[contender.framework], Configuration())
        cache = self._folder / "compiled"
        cache.mkdir(exist_ok=True)
        environment = worker_environment(contender, SETTINGS["threads"], cache)
        paths = os.pathsep.join([str(ROOT), str(ROOT / "harness")])
        environment.update(PYTHONPATH=paths, PYTHONDONTWRITEBYTECODE="1", **QUICK_COMPILING)
        others = ",".join(hidden_modules(contender.framework))
        ours, theirs = socket.socketpair()
        log_path = self._folder / f"{contender.framework}.txt"
        with theirs, log_path.open("ab") as log:
            arguments = [theirs.fileno(), contender.framework, os.getpid(), monotonic_ns(), "", others]
            process = subprocess.Popen(
                [installation.python, "-m", "tests.meta.faults.worker", *map(str, arguments)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment,
                pass_fds=[theirs.fileno()], process_group=0, cwd=self._folder,
            )  # fmt: skip
        return Worker(contender, process, Channel(ours), log_path, TIMEOUT_S)
