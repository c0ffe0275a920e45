"""Times one workload for the contenders that agree on it, each in several processes, and checks what they returned."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from faceoff.agreement.timed_check import TimedExpected, timed_values
from faceoff.core.errors import WorkerError
from faceoff.core.spec import Case, Contender, Workload
from faceoff.frameworks.contenders import settings_in_force
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.memory import as_outcome, reason_of
from faceoff.pool.worker import Worker
from faceoff.pool.workers import Pool, Seat
from faceoff.results.records import CaseResult, Result
from faceoff.run.options import Options
from faceoff.speed.canary import CanaryProcess
from faceoff.speed.measure import Measured, compare_speeds, compare_tuned, measure, summarise
from faceoff.speed.rounds import Rounds
from faceoff.speed.seen_before import find_remembered
from faceoff.speed.stopping import between_contenders
from faceoff.workloads.work import counted_bytes, counted_flops, result_bytes

# What timed calls returned is judged of so many contenders at once: one computes while another's values are compared.
AT_ONCE = 2


class Timing:
    """The timed part of a run; fills `result` with cases, comparisons and noise floors.

    Args:
        options: what is run.
        pool: the workers.
        result: with the agreements found so far.

    Attributes:
        budget: of what is timed next.
    """

    def __init__(self, options: Options, pool: Pool, result: Result) -> None:
        self._options, self._pool, self._result = options, pool, result
        # The process that holds a model built for timing, and that model's workload.
        self._built: dict[Seat, tuple[int, Workload]] = {}
        self.budget = options.budget
        # A card is shared by all of them as it is.
        self._judged_at_once = 1 if options.device == "gpu" else min(AT_ONCE, options.threads)
        # Thread pools that share cores spin and wait for each other.
        self._computing = threading.Lock()
        self._processes = options.budget.processes_for(len(options.contenders))

    def holds(self, contender: Contender, worker: Worker, workload: Workload) -> None:
        """Notes that the first process of `contender` holds this model with its batches."""
        self._built[Seat(contender)] = (worker.process_id, workload)

    def make_replicates(self, contender: Contender, workload: Workload, expected: Callable[[], TimedExpected]) -> None:
        """Starts the other processes of `contender` and lets them build and compile all that will be timed.

        A failure is left for the timing to meet, which makes it the outcome of the case.
        """
        seats = [Seat(contender, number) for number in range(1, self._processes)]
        try:
            for seat in seats:
                self._pool.launch(seat)
            for seat in seats:
                with self._pool.replicate(seat) as worker:
                    self._load(seat, worker, workload, expected())
                    for step in self._options.steps:
                        worker.request("first_call", step=step)
        except WorkerError:
            return

    def time(
        self, workload: Workload, step: str, expected: Callable[[], TimedExpected], on_pass: Callable[[float], None]
    ) -> list[CaseResult]:
        """Times one step of `workload`; returns a case for every contender.

        Args:
            workload: whose agreement was checked.
            step: what is timed.
            expected: gives the reference's side.
            on_pass: called with the share done after each pass.
        """
        timed = workload.replace(step=step)
        results = {contender: self._case_before_timing(timed, contender) for contender in self._options.contenders}
        seats: list[Seat] = []
        for contender, case in results.items():
            if case.outcome != "ok":
                continue
            own = [Seat(contender, number) for number in range(self._processes)]
            try:
                ledger, *_ = [self._prepare(seat, workload, expected()) for seat in own]
                settings = {setting.name: setting.what for setting in settings_in_force(contender, timed)}
                case.ledger = {**ledger, "tuned": settings} if settings else ledger
                seats += own
            except WorkerError as error:
                end_case(case, error)
            except MemoryError as error:
                end_case(case, as_outcome(error))
        question = between_contenders(self._options.baseline, list(dict.fromkeys(seat.contender for seat in seats)))
        budget, seed = self.budget, self._options.seed

        def after_pass(share: float) -> None:
            canary.run_once()
            on_pass(share)

        with CanaryProcess(timed.device) as canary:
            measured = measure(self._pool, seats, step, budget, seed, after_pass, question, result_bytes(timed))
        self._result.canaries += canary.record(timed.name)
        right = self._judge(results, measured, timed, expected)
        for contender, speed in summarise(right, self._pool.process_ids).items():
            results[contender].speed = speed
        self._result.cases += results.values()
        comparisons, floor = compare_speeds(timed, right, self._options.baseline)
        self._result.comparisons += comparisons
        self._result.tuned += compare_tuned(timed, right)
        self._result.noise_floors += [floor] if floor else []
        return list(results.values())

    def _case_before_timing(self, workload: Workload, contender: Contender) -> CaseResult:
        """The case with the outcome that its checks of agreement leave it."""
        case = CaseResult(
            name=Case(workload, contender).name,
            workload=workload.to_json(),
            contender=str(contender),
            flops=counted_flops(workload),
            bytes=counted_bytes(workload),
            outcome="ok",
        )
        for agreement in self._result.agreements:
            same = Workload.from_json(agreement.workload).replace(dtype=workload.dtype, step=workload.step) == workload
            # Who offers no float64 is timed in what it does offer, if that agrees.
            elsewhere = agreement.outcome == "not_offered" and agreement.workload["dtype"] != workload.dtype
            own = same and agreement.contender == str(contender)
            if own and not elsewhere and agreement.outcome != "ok" and case.outcome == "ok":
                case.outcome, case.log_tail = agreement.outcome, agreement.log_tail
                case.reason = agreement.reason or f"disagrees with the reference: {agreement.message.splitlines()[0]}"
        if lacking := FRAMEWORKS[contender.framework].lacks(workload, workload.step, contender.mode):
            case.outcome, case.reason = "not_offered", lacking
        hung = hung_in(self._result, workload, contender)
        if hung and case.outcome == "ok":
            case.outcome, case.reason = "timeout", f"not run: there was no answer in time in {hung}"
        return case

    def _prepare(self, seat: Seat, workload: Workload, expected: TimedExpected) -> dict[str, object]:
        """Makes sure that the process holds the model with its starting weights and its batches; returns its ledger."""
        if not seat.process:
            worker = self._pool.worker(seat.contender)
            self._load(seat, worker, workload, expected)
            ledger: dict[str, object] = worker.request("describe")["ledger"]
            return ledger
        with self._pool.replicate(seat) as worker:
            self._load(seat, worker, workload, expected)
        return {}

    def _load(self, seat: Seat, worker: Worker, workload: Workload, expected: TimedExpected) -> None:
        if self._built.get(seat) == (worker.process_id, workload):
            worker.request("reset", weights=expected.task.cast_weights(workload.dtype))
            return
        weights, batches = expected.task.cast(workload.dtype)
        worker.request("build", workload=workload.to_json(), mode=seat.contender.mode, weights=weights)
        worker.request("load", batches=[batch.to_json() for batch in batches])
        self._built[seat] = (worker.process_id, workload)

    def _judge(
        self,
        results: Mapping[Contender, CaseResult],
        measured: Measured,
        workload: Workload,
        expected: Callable[[], TimedExpected],
    ) -> dict[Contender, list[Rounds]]:
        """The rounds of the contenders whose every process returned what is right; the others' cases are ended."""
        timed: dict[Contender, list[Rounds]] = {}
        for contender, found in measured.items():
            if isinstance(found, WorkerError):
                end_case(results[contender], found)
            else:
                timed[contender] = found
        # Nothing is timed by the first, so some do it at a time, all others being paused.
        for find, at_once in ((self._find_wrong_value, self._judged_at_once), (self._find_remembered, 1)):
            executor = ThreadPoolExecutor(at_once)
            try:
                with self._pool.quiet():
                    left = [contender for contender in timed if results[contender].outcome == "ok"]
                    jobs = {c: executor.submit(find, c, workload, timed[c], expected) for c in left}
                    for contender, job in jobs.items():
                        _end_if_wrong(results[contender], job)
            finally:
                # Threads that wait for a worker end when it does.
                executor.shutdown(wait=False, cancel_futures=True)
        # In the order of the report, whatever failed on the way.
        return {c: timed[c] for c in results if c in timed and results[c].outcome == "ok"}

    def _find_wrong_value(
        self, contender: Contender, workload: Workload, found: Sequence[Rounds], expected: Callable[[], TimedExpected]
    ) -> str:
        """What is wrong with what the processes of a contender returned when they were timed; empty if nothing is."""
        step, dtype = workload.step, workload.dtype
        for number in range(len(found)):
            with self._computing, self._pool.awake(Seat(contender, number)) as worker:
                values = timed_values(worker, step, expected().task, dtype)
            if problem := expected().problem(step, values, dtype):
                return problem
        return ""

    def _find_remembered(
        self, contender: Contender, workload: Workload, found: Sequence[Rounds], expected: Callable[[], TimedExpected]
    ) -> str:
        """What tells that a contender remembers results; all its processes run the same code, so one is asked."""
        with self._pool.awake(Seat(contender)) as worker:
            return find_remembered(worker, workload.step, found[0], expected(), workload.dtype)


def _end_if_wrong(case: CaseResult, job: Future[str]) -> None:
    """The case ends by what a check found, or by how the check itself ended."""
    try:
        if problem := job.result():
            case.outcome, case.reason = "disagrees", problem
    except WorkerError as error:
        end_case(case, error)
    except MemoryError as error:
        end_case(case, as_outcome(error))


def hung_in(result: Result, workload: Workload, contender: Contender) -> str:
    """The step of the same model in which a contender gave no answer in time; empty when there is none.

    It is not asked for another step then, which would most likely cost the whole time limit once more.
    """
    for case in result.cases:
        other = Workload.from_json(case.workload)
        same = case.contender == str(contender) and other.replace(step=workload.step) == workload
        if same and case.outcome == "timeout":
            return other.step
    return ""


def end_case(case: CaseResult, error: WorkerError) -> None:
    """The case ends as `error` says."""
    reason = reason_of(error, str(case.workload["device"]))
    case.outcome, case.reason, case.log_tail = error.outcome, reason, error.log_tail
