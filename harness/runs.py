"""The engine behind `compare`, `agree` and `bench`: one run, from options to a result."""

from __future__ import annotations

import functools
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
import psutil
from cpuinfo import get_cpu_info
from threadpoolctl import threadpool_limits

from harness.agreement import Expected, check_agreement, ended, name_precision_findings
from harness.cold_start import start_cold_one
from harness.comparison import compare_quantity
from harness.core.errors import DeviceError, WorkerError
from harness.core.spec import Case, Contender, Workload
from harness.gradient_norms import SPECS, ExpectedNorms, choose_contenders, judge_norms, make_expected
from harness.measure import Rounds, compare_speeds, last_value, measure
from harness.options import Options
from harness.pool import Pool
from harness.progress import Reporter
from harness.results import Agreement, CaseResult, ContenderInfo, GradientNorms, Result, Speed, TrainingRun
from harness.task import Task
from harness.training import ExpectedTraining, TrainingTask, judge_training, make_tasks

# Units of progress: rough seconds on two cores, so that the time left is about right.
START_UNITS, AGREEMENT_UNITS, SPEED_UNITS, TRAINING_UNITS, NORM_UNITS, COLD_UNITS = 2.0, 2.5, 2.0, 1.0, 2.0, 4.0

Found = TypeVar("Found")
Judged = TypeVar("Judged")


def run(options: Options, *, speed: bool, training: bool, cold_start: bool) -> Result:
    """Runs everything asked for. Ctrl-C ends it early: the result holds what was finished and says `interrupted`.

    Args:
        options: what is run.
        speed: time the steps after agreement was checked.
        training: train on real data.
        cold_start: start each contender once more, alone, with empty compile caches.

    Raises:
        InputError: data that cannot be used.
        DeviceError: no contender has the device.
    """
    began_s, worked_s = time.monotonic(), time.process_time()
    result = blank_result(options)
    tasks = (
        make_tasks([w.model.kind for w in options.workloads], options.data, options.device, options.seed)
        if training
        else []
    )
    norms = [kind for kind in SPECS if options.gradient_norms and kind in {w.model.kind for w in options.workloads}]
    total = NORM_UNITS * len(norms) * len(choose_contenders(options.contenders)) + len(options.contenders) * (
        START_UNITS
        + AGREEMENT_UNITS * len(options.workloads) * len(options.dtypes)
        + SPEED_UNITS * len(options.workloads) * len(options.steps) * speed
        + TRAINING_UNITS * len(tasks)
        + COLD_UNITS * cold_start
    )
    pool = make_pool(options)
    with Reporter(total, options.quiet) as reporter, pool:
        engine = Engine(options, pool, reporter, result)
        try:
            engine.start()
            for workload in options.workloads:
                expected = engine.check(workload)
                for step in options.steps if speed else ():
                    engine.time_step(workload, step, expected)
            for task in tasks:
                engine.train(task)
            for kind in norms:
                engine.follow_gradients(kind)
            if cold_start:
                engine.start_cold()
        except KeyboardInterrupt:
            result.interrupted = True
    result.duration_s = time.monotonic() - began_s
    result.harness_s = time.process_time() - worked_s
    return result


def blank_result(options: Options) -> Result:
    """A result that holds nothing yet but what was asked, when and where."""
    return Result(
        created=datetime.now(UTC).isoformat(),
        command=options.command_line(),
        seed=options.seed,
        threads=options.threads,
        duration_s=0.0,
        machine=describe_machine(),
        contenders=[],
    )


def make_pool(options: Options) -> Pool:
    """The pool of a run, nothing started yet."""
    return Pool(
        options.contenders,
        device=options.device,
        threads=options.threads,
        seed=options.seed,
        log_directory=options.out / "logs",
        configuration=options.configuration,
        timeout_s=options.timeout_s,
    )


def describe_machine() -> dict[str, object]:
    """Processor, cores, memory, operating system and Python of this machine."""
    return {
        "processor": get_cpu_info().get("brand_raw") or platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "operating_system": platform.platform(),
        "python": platform.python_version(),
    }


def _in_background(compute: Callable[[], Found]) -> Found:
    """Computes on one thread that gives way to the workers; their thread pools stall when one core is taken away."""
    if sys.platform == "linux":
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
    return compute()


def end_case(case: CaseResult, error: WorkerError) -> None:
    """The case ends as `error` says."""
    case.outcome, case.reason, case.log_tail = error.outcome, str(error), error.log_tail


class Engine:
    """One run in progress; fills `result`."""

    def __init__(self, options: Options, pool: Pool, reporter: Reporter, result: Result) -> None:
        self._options, self._pool, self._reporter, self._result = options, pool, reporter, result
        # The process that holds a model built for timing, and that model's workload.
        self._built: dict[Contender, tuple[int, Workload]] = {}
        # Agreement is mostly compiling, on one thread. In training thread pools that share cores spin and wait.
        self._spent_s: dict[Contender, float] = {}
        self._compiling = threading.Semaphore(options.threads)
        self._computing = threading.Semaphore(max(1, options.threads - 1))

    def start(self) -> None:
        """Starts all workers and records what each contender is."""
        self._reporter.stage("starting workers, importing frameworks")
        for contender in self._pool.start():
            error = self._pool.failures.get(contender)
            installation = self._pool.installations[contender.framework]
            info = ContenderInfo(contender=str(contender), outcome="ok", versions=installation.versions)
            if error:
                info.outcome, info.reason = error.outcome, error.what
                info.next_step = error.next_step or ""
            else:
                info.settings = self._pool.worker(contender).start_reply["settings"]
            self._result.contenders.append(info)
            self._reporter.advance(START_UNITS, f"started {contender}")
        failures = list(self._pool.failures.values())
        nowhere = not self._pool.available and all(e.outcome in ("unsupported", "missing") for e in failures)
        if self._options.device == "gpu" and nowhere:
            looked = "; ".join(dict.fromkeys(f"{error.where}: {error.what}" for error in failures))
            raise DeviceError("no GPU", where="device", got=looked, next_step="use --device cpu")

    def check(self, workload: Workload) -> Callable[[], Expected]:
        """Checks the agreement of every contender on `workload` in every dtype, two or more at a time."""
        task = Task.seeded(workload, self._options.seed)
        name = f"{workload.model.kind}, batch {workload.batch_size}"
        self._reporter.stage(f"agreement: {name}")

        def judge(contender: Contender, expected: Callable[[], Expected]) -> list[Agreement]:
            found = [self._check_one(contender, task, expected, dtype) for dtype in self._options.dtypes]
            name_precision_findings(found)
            return found

        def warm(expected: Expected) -> None:
            for dtype in self._options.dtypes:
                expected.values(dtype)
                expected.noise(dtype)

        expected, found = self._side_by_side(
            lambda: Expected(task, self._options.seed),
            warm,
            judge,
            AGREEMENT_UNITS * len(self._options.dtypes),
            f"agreement: {name}",
        )
        self._result.agreements += [agreement for agreements in found for agreement in agreements]
        return expected

    def _check_one(self, contender: Contender, task: Task, expected: Callable[[], Expected], dtype: str) -> Agreement:
        again = self._options.again(task.workload, contender, dtype)
        try:
            worker = self._pool.worker(contender)
        except WorkerError as error:
            blank = Agreement(
                workload=task.workload.replace(dtype=dtype).to_json(),
                contender=str(contender),
                outcome="ok",
                again=again,
                check="meaning" if dtype == "float64" else "precision",
            )
            return ended(blank, error)
        agreement = check_agreement(
            worker, contender, task, expected, dtype, again=again, busy=self._turn(self._compiling, contender)
        )
        self._built[contender] = (worker.process_id, task.workload.replace(dtype=dtype))
        return agreement

    @contextmanager
    def _turn(self, slots: threading.Semaphore, contender: Contender) -> Iterator[None]:
        """Waits for a slot, holds it, and adds the time to what the contender has spent."""
        with slots:
            begin_s = time.monotonic()
            try:
                yield
            finally:
                self._spent_s[contender] = self._spent_s.get(contender, 0.0) + time.monotonic() - begin_s

    def _side_by_side(
        self,
        make_expected: Callable[[], Found],
        warm: Callable[[Found], object],
        judge: Callable[[Contender, Callable[[], Found]], Judged],
        units: float,
        stage: str,
        contenders: Sequence[Contender] | None = None,
    ) -> tuple[Callable[[], Found], list[Judged]]:
        """Computes the reference's side while as many contenders as there are cores do theirs; keeps their order."""
        # A thread for each: one that waits for the reference must not keep another's worker waiting.
        executor = ThreadPoolExecutor(len(self._pool.contenders) + 2)
        one_thread = threadpool_limits(1)
        try:
            expected = executor.submit(_in_background, make_expected)
            executor.submit(_in_background, lambda: warm(expected.result()))
            # Who took longest before begins first, so that none is left to end alone.
            chosen = contenders or self._pool.contenders
            by_cost = sorted(chosen, key=lambda contender: -self._spent_s.get(contender, 0.0))
            jobs = {contender: executor.submit(judge, contender, expected.result) for contender in by_cost}
            names = {job: contender for contender, job in jobs.items()}
            for job in as_completed(names):
                self._reporter.advance(units, f"{stage}: {names[job]} done")
            expected.result()
            return expected.result, [jobs[contender].result() for contender in chosen]
        except BaseException:
            # Threads that wait for a worker end when it does.
            self._pool.close()
            raise
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            one_thread.restore_original_limits()

    def time_step(self, workload: Workload, step: str, expected: Callable[[], Expected]) -> list[CaseResult]:
        """Times one step of `workload` for the contenders that agree on it; returns a case for every contender."""
        timed = workload.replace(step=step)
        self._reporter.stage(f"speed: {workload.model.kind} {step}")
        results = {contender: self._case_before_timing(timed, contender) for contender in self._options.contenders}
        ready = [contender for contender, case in results.items() if case.outcome == "ok"]
        units, done = SPEED_UNITS * len(self._options.contenders), 0.0

        def on_pass(share: float) -> None:
            nonlocal done
            self._reporter.advance(max(0.0, min(1.0, share) - done) * units)
            done = max(done, min(1.0, share))

        for contender in list(ready):
            try:
                results[contender].ledger = self._prepare(contender, workload, expected())
            except WorkerError as error:
                end_case(results[contender], error)
                ready.remove(contender)
        measured = measure(self._pool, ready, step, self._options.budget, self._options.seed, on_pass)
        for contender, rounds in measured.items():
            if isinstance(rounds, WorkerError):
                end_case(results[contender], rounds)
            else:
                self._judge_timed(results[contender], contender, timed, rounds, expected())
        on_pass(1.0)
        self._result.cases += results.values()
        speeds: dict[Contender, Speed] = {
            contender: case.speed for contender, case in results.items() if case.outcome == "ok" and case.speed
        }
        self._result.comparisons += compare_speeds(timed, speeds, self._options.seed)
        return list(results.values())

    def _case_before_timing(self, workload: Workload, contender: Contender) -> CaseResult:
        """The case with the outcome that its checks of agreement leave it."""
        case = CaseResult(
            name=Case(workload, contender).name, workload=workload.to_json(), contender=str(contender), outcome="ok"
        )
        for agreement in self._result.agreements:
            same = Workload.from_json(agreement.workload).replace(dtype=workload.dtype, step=workload.step) == workload
            if same and agreement.contender == str(contender) and agreement.outcome != "ok" and case.outcome == "ok":
                case.outcome, case.log_tail = agreement.outcome, agreement.log_tail
                case.reason = agreement.reason or f"disagrees with the reference: {agreement.message.splitlines()[0]}"
        return case

    def _prepare(self, contender: Contender, workload: Workload, expected: Expected) -> dict[str, object]:
        """Makes sure that the worker holds the model with its starting weights and its batches; returns its ledger."""
        worker = self._pool.worker(contender)
        weights, batches = expected.task.cast(workload.dtype)
        if self._built.get(contender) == (worker.process_id, workload):
            worker.request("reset", weights=weights)
        else:
            worker.request("build", workload=workload.to_json(), mode=contender.mode, weights=weights)
            worker.request("load", batches=[batch.to_json() for batch in batches])
            self._built[contender] = (worker.process_id, workload)
        ledger: dict[str, object] = worker.request("describe")["ledger"]
        return ledger

    def _judge_timed(
        self, case: CaseResult, contender: Contender, workload: Workload, rounds: Rounds, expected: Expected
    ) -> None:
        """Keeps the rounds if what the last timed call returned is right; otherwise the case disagrees."""
        try:
            value = last_value(self._pool.worker(contender), workload.step)
        except WorkerError as error:
            end_case(case, error)
            return
        if workload.step == "inference":
            reference = expected.forward(rounds.last_batch, workload.dtype)
            noise = expected.noise(workload.dtype)["outputs"]
            quantity = compare_quantity("outputs of the last timed call", value, reference, workload.dtype, noise)
            if not quantity.agrees:
                case.outcome = "disagrees"
                case.reason = (
                    f"{quantity.name}: {quantity.problem or f'{quantity.noise_units} noise units off'} "
                    f"(limit {quantity.limit:g})"
                )
                return
        elif not np.isfinite(value).all():
            case.outcome, case.reason = "disagrees", "the loss of the last timed call is not finite"
            return
        case.speed = rounds.summary()

    def train(self, task: TrainingTask) -> None:
        """Trains every contender on a task, two or more at a time, and compares with the reference's training."""

        def judge(contender: Contender, expected: Callable[[], ExpectedTraining]) -> TrainingRun:
            worker, turn = functools.partial(self._pool.worker, contender), self._turn(self._computing, contender)
            return judge_training(worker, contender, task, self._options.seed, expected, turn)

        self._reporter.stage(f"training: {task.name}")
        _, runs = self._side_by_side(
            lambda: ExpectedTraining(task, self._options.seed),
            lambda expected: None,
            judge,
            TRAINING_UNITS,
            f"training: {task.name}",
        )
        self._result.training_runs += runs

    def follow_gradients(self, kind: str) -> None:
        """Follows the gradient of a recurrent model back through time, by one contender of each framework."""
        options, stage = self._options, f"gradient norms: {kind}"
        # The signal is too small for the range of float16, and bfloat16's noise would hide the curve.
        dtypes = [dtype for dtype in options.dtypes if dtype in ("float64", "float32")]

        def judge(contender: Contender, expected: Callable[[], list[ExpectedNorms]]) -> list[GradientNorms]:
            found = []
            for dtype in dtypes:
                workload = next(w for w in options.workloads if w.model.kind == kind)
                again = options.again(workload, contender, dtype) + " --gradient-norms"
                worker = functools.partial(self._pool.worker, contender)
                turn = self._turn(self._computing, contender)
                found += judge_norms(worker, contender, expected, dtype, again=again, busy=turn)
            return found

        self._reporter.stage(stage)
        _, found = self._side_by_side(
            lambda: make_expected(kind, options.device, options.seed),
            lambda expected: [e.noise(dtype) for e in expected for dtype in dtypes],
            judge,
            NORM_UNITS,
            stage,
            choose_contenders(options.contenders),
        )
        self._result.gradient_norms += [norms for records in found for norms in records]

    def start_cold(self) -> None:
        """Starts every contender once more, alone; builds and first-calls each model in it."""
        with self._pool.quiet():
            for contender in self._options.contenders:
                self._reporter.stage(f"cold start: {contender}")
                self._result.cold_starts += start_cold_one(
                    self._pool, contender, self._options.workloads, self._options.seed
                )
                self._reporter.advance(COLD_UNITS)
