"""Checks the agreement of every contender on one workload after the other, and keeps what timing needs of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

from threadpoolctl import threadpool_limits

from faceoff.agreement.check import Expected, blank, check_agreement, ended, name_precision_findings
from faceoff.agreement.timed_check import TimedExpected, examples_compared, is_judged_whole
from faceoff.core.errors import WorkerError
from faceoff.core.own import family_of
from faceoff.core.spec import Contender, Workload
from faceoff.pool.memory import as_outcome, require_memory, require_memory_of_reference, timed_batches
from faceoff.pool.workers import Pool
from faceoff.results.agreements import EVERYDAY, Agreement
from faceoff.results.records import CaseResult, Result
from faceoff.run.options import Options
from faceoff.run.own_models import References
from faceoff.run.progress import Reporter
from faceoff.run.side_by_side import SideBySide
from faceoff.run.situated import Situated
from faceoff.run.timing import Timing
from faceoff.run.turns import Turns
from faceoff.workloads.task import TRAINING_STEPS, Task

# Units of progress: rough seconds on two cores, so that the time left is about right.
AGREEMENT_UNITS = 2.5


class Checking:
    """The checks of a run; fills `result` with agreements.

    Args:
        options: what is run.
        pool: the workers.
        result: of the run.
        timing: is told which process holds which model.
        reporter: of progress.
        compiling: turns at the cores: agreement is mostly compiling, on one thread.
        side_by_side: runs the reference beside the contenders.
        references: give what is expected.
    """

    def __init__(
        self,
        options: Options,
        pool: Pool,
        result: Result,
        timing: Timing,
        reporter: Reporter,
        compiling: Turns,
        side_by_side: SideBySide,
        references: References,
    ) -> None:
        self._options, self._pool, self._result, self._timing = options, pool, result, timing
        self._references = references
        self._reporter, self._compiling, self._side_by_side = reporter, compiling, side_by_side
        # Of the workload at hand, and of the one that was compared in its place.
        self._expected: dict[Workload, Callable[[], TimedExpected]] = {}
        self._compared: dict[Workload, tuple[Expected, dict[Contender, list[Agreement]]]] = {}

    def check(self, workload: Workload, timed: bool) -> None:
        """Checks every contender on `workload` in every dtype, two or more at a time.

        Args:
            workload: its step is `training`.
            timed: it will be timed: let further processes of those that agree compile it meanwhile.
        """
        self._reporter.stage(_stage(workload))
        # Large batches make room for the next.
        self._expected.clear()
        if self._options.device == "gpu" and "out_of_memory" in outcomes_of_last(self._result):
            # Whoever took what there was keeps it, and the next model would find a card that is full already.
            self._pool.release()
        if smaller := ran_out_at(self._result, workload, self._options.contenders, self._options.steps):
            what = f"not run: at a batch of {smaller} memory ran out already, and no contender was left"
            self._end(workload, WorkerError(what, outcome="out_of_memory", where=workload.name))
            return
        try:
            compared = self._compared_for(workload)
            require_memory(workload, TRAINING_STEPS if compared == workload else timed_batches(workload))
            require_memory_of_reference(compared)
            self._check(workload, timed)
        except MemoryError as error:
            self._end(workload, as_outcome(error))

    def _end(self, workload: Workload, error: WorkerError) -> None:
        for contender in self._options.contenders:
            for dtype in self._options.dtypes:
                why = self._pool.failures.get(contender, error)
                self._result.agreements.append(ended(self._blank(contender, workload, dtype), why))
                self._reporter.advance(AGREEMENT_UNITS)

    def expected(self, workload: Workload) -> Callable[[], TimedExpected]:
        """Gives the reference's side of timing; computed anew if its agreement was found before a run went on."""
        if workload not in self._expected:
            self._expected = {workload: functools.cache(functools.partial(self._compute_expected, workload))}
        return self._expected[workload]

    def _check(self, workload: Workload, timed: bool) -> None:
        compared = self._compared_for(workload)
        task = Task.seeded(compared, self._options.seed)
        earlier, known = self._compared.get(compared, (None, {}))
        situated = Situated(self._options, self._pool, self._compiling, compared)

        def make() -> tuple[Expected, TimedExpected]:
            """For the comparison, and for timing."""
            part = earlier or self._references.expected(task, self._options.seed, self._options.detail)
            return part, self._references.timed(workload, part)

        def warm(both: tuple[Expected, TimedExpected]) -> Iterator[object]:
            for dtype in self._options.dtypes:
                if EVERYDAY in self._options.situations_of(compared, dtype):
                    yield both[0].values(dtype)
                    yield both[0].noise(dtype)
                yield from situated.warm(dtype)

        def judge(contender: Contender, both: Callable[[], tuple[Expected, TimedExpected]]) -> list[Agreement]:
            found = known.get(contender, [])
            if not found or any(agreement.outcome not in ("ok", "disagrees") for agreement in found):
                found = self._check_all(contender, task, lambda: both()[0], situated)
                name_precision_findings(found)
            if timed and {agreement.outcome for agreement in found} in ({"ok"}, {"ok", "not_offered"}):
                with self._compiling.turn(contender):
                    self._timing.make_replicates(contender, workload, lambda: both()[1])
            return found

        units = AGREEMENT_UNITS * len(self._options.dtypes)
        contenders = self._options.contenders
        both, found = self._side_by_side.run(make, warm, judge, units, _stage(workload), contenders)
        self._compared = {compared: (both()[0], dict(zip(contenders, found, strict=True)))}
        self._expected = {workload: lambda: both()[1]}
        self._result.agreements += [
            agreement if compared == workload else _said_of(agreement, workload, compared)
            for agreements in found
            for agreement in agreements
        ]

    def _check_all(
        self, contender: Contender, task: Task, expected: Callable[[], Expected], situated: Situated
    ) -> list[Agreement]:
        """In every dtype and situation; who hangs is not asked again, as each time would cost the whole time limit."""
        found: list[Agreement] = []
        for dtype in self._options.dtypes:
            hung = next((agreement for agreement in found if agreement.outcome == "timeout"), None)
            if hung is None:
                everyday = EVERYDAY in self._options.situations_of(task.workload, dtype)
                first = [self._check_one(contender, task, expected, dtype)] if everyday else []
                found += [*first, *situated.check(contender, dtype, first)]
            else:
                what = f"not run: there was no answer in time in {hung.workload['dtype']}"
                error = WorkerError(what, outcome="timeout", where=str(contender))
                found.append(ended(self._blank(contender, task.workload, dtype), error))
        return found

    def _check_one(self, contender: Contender, task: Task, expected: Callable[[], Expected], dtype: str) -> Agreement:
        again = self._options.again(task.workload, contender, dtype)
        try:
            worker = self._pool.worker_for(contender, task.workload.replace(dtype=dtype))
        except WorkerError as error:
            return ended(self._blank(contender, task.workload, dtype), error)
        busy, detail = self._compiling.turn(contender), self._options.detail
        agreement = check_agreement(worker, contender, task, expected, dtype, again=again, busy=busy, detail=detail)
        self._timing.holds(contender, worker, task.workload.replace(dtype=dtype))
        return agreement

    def _compared_for(self, workload: Workload) -> Workload:
        """What is compared in the place of a workload that is timed: the same with `examples_compared`."""
        if self._options.command == "agree":
            return workload
        return workload.replace(batch_size=examples_compared(workload))

    def _compute_expected(self, workload: Workload) -> TimedExpected:
        with threadpool_limits(1):
            part = self._references.expected(
                Task.seeded(self._compared_for(workload), self._options.seed), self._options.seed
            )
            return self._references.timed(workload, part)

    def _blank(self, contender: Contender, workload: Workload, dtype: str) -> Agreement:
        return blank(workload, contender, dtype, self._options.again(workload, contender, dtype))


def ran_out_at(result: Result, workload: Workload, contenders: Sequence[Contender], steps: Sequence[str]) -> int:
    """The smallest batch of the same model that nobody could run in any step, somebody for want of memory; 0 if none.

    Args:
        result: with what was run so far.
        workload: a larger batch; its step does not matter.
        contenders, steps: of the run. A contender whose check of agreement ended has no step left.
    """
    ended_at: dict[int, set[tuple[str, str]]] = {}
    sizes = set()
    records: list[Agreement | CaseResult] = [*result.agreements, *result.cases]
    for record in records:
        other = Workload.from_json(record.workload)
        alike = other.replace(batch_size=1, dtype=workload.dtype, step=workload.step)
        if record.outcome != "ok" and alike == workload.replace(batch_size=1):
            ended_steps = [other.step] if isinstance(record, CaseResult) else steps
            ended_at.setdefault(other.batch_size, set()).update((record.contender, step) for step in ended_steps)
            if record.outcome == "out_of_memory":
                sizes.add(other.batch_size)
    everything = {(str(contender), step) for contender in contenders for step in steps}
    return min((size for size in sizes if ended_at[size] >= everything and size < workload.batch_size), default=0)


def outcomes_of_last(result: Result) -> set[str]:
    """How everything ended that was run of the last workload whose agreement was checked, steps and dtypes alike."""
    if not result.agreements:
        return set()
    last = Workload.from_json(result.agreements[-1].workload)
    records: list[Agreement | CaseResult] = [*result.agreements, *result.cases]
    return {
        record.outcome
        for record in records
        if Workload.from_json(record.workload).replace(dtype=last.dtype, step=last.step) == last
    }


def _stage(workload: Workload) -> str:
    return f"agreement: {family_of(workload.model)}, batch {workload.batch_size}"


def _said_of(agreement: Agreement, workload: Workload, compared: Workload) -> Agreement:
    """The agreement on fewer examples, as what is known of the whole."""
    dtype = str(agreement.workload["dtype"])
    whole = workload.replace(dtype=dtype).to_json()
    timed = "everything" if is_judged_whole(workload, compared.batch_size) else "outputs"
    return agreement.model_copy(update={"workload": whole, "examples": compared.batch_size, "timed": timed})
