"""The engine behind `compare`, `agree` and `bench`: one run, from options to a result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial

from faceoff.agreement.gradient_norms import SPECS, ExpectedNorms, choose_contenders, judge_norms, make_expected
from faceoff.agreement.timed_check import examples_compared
from faceoff.agreement.training import ExpectedTraining, judge_training
from faceoff.core.errors import DeviceError
from faceoff.core.own import family_of
from faceoff.core.spec import Contender, OwnSpec, Workload
from faceoff.core.tuning import TUNED, left_out, without
from faceoff.frameworks.contenders import tuned_modes
from faceoff.frameworks.installations import digest_of, installed_bytes, installed_in
from faceoff.frameworks.manifest import Setting
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.workers import Pool
from faceoff.results.records import CaseResult, ContenderInfo, Result
from faceoff.results.trainings import GradientNorms, TrainingRun
from faceoff.run.checking import AGREEMENT_UNITS, Checking
from faceoff.run.identity import require_same_settings
from faceoff.run.journal import START, Journal
from faceoff.run.options import Options
from faceoff.run.own_models import References
from faceoff.run.progress import Reporter
from faceoff.run.side_by_side import SideBySide
from faceoff.run.sources import digest_of_folder
from faceoff.run.starting import blank_result, make_pool, without_home
from faceoff.run.timing import Timing
from faceoff.run.turns import Turns
from faceoff.run.wall_time import WallTime
from faceoff.speed.ceiling import measure_ceiling
from faceoff.speed.cold_start import start_cold_one
from faceoff.speed.costs import find_break_evens
from faceoff.speed.measure import decide, record_setting
from faceoff.system.texts import cleaned
from faceoff.workloads.trainings import TrainingTask, make_long_tasks, make_tasks

# Units of progress: rough seconds on two cores, so that the time left is about right.
START_UNITS, SPEED_UNITS, TRAINING_UNITS, NORM_UNITS, COLD_UNITS = 2.0, 2.0, 1.0, 2.0, 4.0


def run(
    options: Options,
    *,
    speed: bool,
    training: bool,
    cold_start: bool,
    journal: Journal | None = None,
    on_part: Callable[[Result, int, int], None] | None = None,
) -> Result:
    """Runs everything asked for. Ctrl-C ends it early: the result holds what was finished and says `interrupted`.

    Args:
        options: what is run.
        speed: time the steps after agreement was checked.
        training: train on real data.
        cold_start: start each contender once more, alone, with empty compile caches.
        journal: keeps each finished unit of work, and gives those of the run that goes on.
        on_part: called once the contenders have started and after each unit of work, when nothing is timed, with what
            is known by then, how many units are done and how many there are.

    Raises:
        InputError: data that cannot be used, a journal that cannot be written, or contenders that are set otherwise
            than before the run was resumed.
        DeviceError: no contender has the device.
    """
    began_s, worked_s = time.monotonic(), time.process_time()
    result = blank_result(options)
    plan = make_plan(options, speed=speed, training=training, cold_start=cold_start)
    left = list(plan)
    if journal:
        journal.take_over([START, *plan], result)
        left = [key for key in plan if key not in journal.contents.units]
    total = sum(plan[key].units for key in left) + START_UNITS * len(options.contenders)

    def conclude() -> None:
        """Makes the verdicts, over all units together, those that were taken over included."""
        settings = [setting.comparison for setting in result.tuned_settings if setting.comparison]
        decide([*result.comparisons, *result.tuned, *settings])
        result.break_evens = find_break_evens(result.cold_starts, result.cases)
        result.duration_s = time.monotonic() - began_s
        result.harness_s = time.process_time() - worked_s
        if journal:
            begin = journal.contents.begin
            result.created, result.command = begin.created, begin.command_line
            result.resumed, result.duration_s = journal.contents.resumed, journal.elapsed_s

    def tell(done: int) -> None:
        if on_part:
            conclude()
            on_part(result, len(plan) - len(left) + done, len(plan))

    wall = WallTime(options.budget.wall_s, options.budget.max_time_s, len(options.contenders))
    pool = make_pool(options)
    with Reporter(total, options.quiet) as reporter, pool, ExitStack() as stack:
        engine = Engine(options, pool, reporter, result)
        stack.enter_context(engine.side_by_side)
        # Ended first: what waits for a reference side's process would keep the run waiting.
        stack.enter_context(engine.references)
        try:
            if left or not result.contenders:
                start_again(engine, result, journal)
            tell(0)
            begun = START_UNITS * len(options.contenders)
            for done, key in enumerate(wall.parts_that_fit(plan, left, result, begun, engine.allow), 1):
                with journal.unit(key, result) if journal else nullcontext():
                    plan[key].do(engine)
                tell(done)
        except KeyboardInterrupt:
            result.interrupted = True
    conclude()
    return cleaned(result)


@dataclass(frozen=True)
class Work:
    """A unit of work: done as a whole or not at all when a run is resumed.

    Args:
        units: of progress.
        do: the work.
        times: whether rounds are timed in it, and for as long as there is time for.
    """

    units: float
    do: Callable[[Engine], object]
    times: bool = False


def make_plan(options: Options, *, speed: bool, training: bool, cold_start: bool) -> dict[str, Work]:
    """All that a run does once its workers are started, in order, by names that are the same when it is resumed."""
    plan: dict[str, Work] = {}
    count, kinds = len(options.contenders), [workload.model.kind for workload in options.workloads]
    for workload in options.workloads:
        # Of a batch larger than what is compared, only whoever is timed compiles the whole.
        whole = options.command == "compare" and workload.batch_size > examples_compared(workload)
        check = partial(Engine.check, workload=workload, timed=speed or whole)
        plan[f"agreement {workload.name}"] = Work(AGREEMENT_UNITS * count * len(options.dtypes), check)
        for step in options.steps if speed else ():
            timed = partial(Engine.time_step, workload=workload, step=step)
            plan[f"speed {workload.replace(step=step).name}"] = Work(SPEED_UNITS * count, timed, times=True)
    # First comes what ranks the contenders. This puts other models into the place of theirs.
    if speed:
        plan["ceiling"] = Work(START_UNITS, Engine.find_ceiling)
    for contender in options.contenders if cold_start else ():
        plan[f"cold start {contender}"] = Work(COLD_UNITS, partial(Engine.start_cold, contender=contender))
    for task in choose_tasks(options) if training else ():
        name = f"training {task.name}, {task.workload.optimiser.kind}, {task.workload.dtype}"
        plan[name] = Work(TRAINING_UNITS * count, partial(Engine.train, task=task))
    for kind in SPECS:
        if options.gradient_norms and kind in kinds:
            units = NORM_UNITS * len(choose_contenders(options.contenders))
            plan[f"gradient norms {kind}"] = Work(units, partial(Engine.follow_gradients, kind=kind))
    # Last, as it ends the workers of all others.
    for framework in FRAMEWORKS if speed else ():
        if Contender(framework, TUNED) in options.contenders:
            of_one = AGREEMENT_UNITS * len(options.dtypes) + SPEED_UNITS * len(options.steps)
            counts = [len(_settings_with_part_in(w, options.steps, framework)) + 1 for w in options.workloads]
            units = START_UNITS * max(counts) + of_one * sum(counts)
            plan[f"settings of {framework}"] = Work(units, partial(Engine.weigh_settings, framework=framework))
    return plan


def rough_seconds(options: Options) -> float:
    """How long agreement and speed of these may take on two cores; small models take less."""
    plan = make_plan(options, speed=True, training=False, cold_start=False)
    return sum(work.units for work in plan.values()) + START_UNITS * len(options.contenders)


def choose_tasks(options: Options) -> list[TrainingTask]:
    """The tasks that a run was asked for: long ones when a number of steps was given, else those of the main job.

    Raises:
        InputError: the folder's data cannot be used.
    """
    models = [workload.model.kind for workload in options.workloads]
    if options.training_steps is None:
        return make_tasks(models, options.data, options.device, options.seed)
    return make_long_tasks(
        models, options.training_optimisers, options.dtypes, options.device, options.seed, options.training_steps
    )


def _settings_with_part_in(workload: Workload, steps: Sequence[str], framework: str) -> list[Setting]:
    """The settings of a framework's mode `tuned` that change anything about a step of the model."""
    timed = [workload.replace(step=step) for step in steps]
    return [setting for setting in FRAMEWORKS[framework].tuned_settings() if any(setting.has_part_in(w) for w in timed)]


def start_again(engine: Engine, result: Result, journal: Journal | None) -> None:
    """Starts the workers; those of a run that is resumed must be what they were."""
    earlier = {info.contender: info for info in result.contenders}
    result.contenders.clear()
    try:
        with journal.unit(START, result) if journal and not earlier else nullcontext():
            engine.start()
    finally:
        known = {info.contender for info in result.contenders}
        result.contenders += [info for name, info in earlier.items() if name not in known]
    for info in result.contenders:
        before = earlier.get(info.contender, info)
        if before.outcome == info.outcome == "ok":
            require_same_settings(info.contender, before.settings, info.settings)


class Engine:
    """One run in progress; fills `result`."""

    def __init__(self, options: Options, pool: Pool, reporter: Reporter, result: Result) -> None:
        self.references = References(options.configuration, options.seed, options.out / "logs" / "reference")
        self._options, self._pool, self._reporter, self._result = options, pool, reporter, result
        self._timing = Timing(options, pool, result)
        # Agreement is mostly compiling, on one thread. In training thread pools that share cores spin and wait.
        # A card's kernels are chosen by trying them, so nobody else computes meanwhile.
        slots = 1 if options.device == "gpu" else options.threads
        self._compiling = Turns(slots)
        self._computing = Turns(max(1, slots - 1))
        self.side_by_side = SideBySide(pool, reporter, self._compiling)
        self._checking = Checking(
            options, pool, result, self._timing, reporter, self._compiling, self.side_by_side, self.references
        )

    def start(self) -> None:
        """Starts all workers and records what each contender is."""
        self._reporter.stage("starting workers, importing frameworks")
        for contender in self._pool.start():
            error = self._pool.failures.get(contender)
            installation = self._pool.installations[contender.framework]
            info = ContenderInfo(contender=str(contender), outcome="ok", versions=installation.versions)
            info.code = digest_of_folder(contender.framework)
            if installation.installed:
                info.disk_bytes = installed_bytes(contender.framework, installation.python)
                info.installed = digest_of(installed_in(installation.python))
            if error:
                info.outcome, info.reason = error.outcome, error.what
                info.next_step = error.next_step or ""
            else:
                info.settings = without_home(self._pool.worker(contender).start_reply["settings"])
            self._result.contenders.append(info)
            self._reporter.advance(START_UNITS, f"started {contender}")
        failures = list(self._pool.failures.values())
        nowhere = not self._pool.available and all(e.outcome in ("unsupported", "missing") for e in failures)
        if self._options.device == "gpu" and nowhere:
            # The modes of a framework say the same.
            said = dict.fromkeys((contender.framework, e.what) for contender, e in self._pool.failures.items())
            looked = "; ".join(f"{framework}: {what}" for framework, what in said)
            next_step = "use --device cpu, or see `faceoff doctor`"
            raise DeviceError("no GPU", where="device", got=looked, next_step=next_step)

    def allow(self, max_time_s: float) -> None:
        """Sets how long the rounds of each case may take from now on."""
        self._timing.budget = replace(self._options.budget, max_time_s=max_time_s)

    def check(self, workload: Workload, timed: bool) -> None:
        """Checks the agreement of every contender on `workload`; `timed`: it will be timed."""
        self._checking.check(workload, timed)

    def time_step(self, workload: Workload, step: str) -> list[CaseResult]:
        """Times one step of `workload` for the contenders that agree on it; returns a case for every contender."""
        self._reporter.stage(f"speed: {family_of(workload.model)} {step}")
        units, done = SPEED_UNITS * len(self._options.contenders), 0.0

        def on_pass(share: float) -> None:
            nonlocal done
            self._reporter.advance(max(0.0, min(1.0, share) - done) * units)
            done = max(done, min(1.0, share))

        cases = self._timing.time(workload, step, self._checking.expected(workload), on_pass)
        on_pass(1.0)
        return cases

    def train(self, task: TrainingTask) -> None:
        """Trains every contender on a task, two or more at a time, and compares with the reference's training."""

        # All have compiled before the first trains: a compiler on one core would keep a thread pool waiting for it.
        ready = threading.Barrier(len(self._pool.contenders))

        @contextmanager
        def preparing(contender: Contender) -> Iterator[None]:
            try:
                with self._compiling.turn(contender):
                    yield
            finally:
                with suppress(threading.BrokenBarrierError):
                    ready.wait()

        def judge(contender: Contender, expected: Callable[[], ExpectedTraining]) -> TrainingRun:
            worker, turn = (
                partial(self._pool.worker_for, contender, task.workload, "training"),
                self._computing.turn(contender),
            )
            again, seed = self._options.again_training(task.workload, contender), self._options.seed
            return judge_training(worker, contender, task, seed, expected, preparing(contender), turn, again=again)

        stage = f"training: {task.name}, {task.workload.optimiser.kind}, {task.workload.dtype}"
        self._reporter.stage(stage)
        try:
            _, runs = self.side_by_side.run(
                lambda: ExpectedTraining(task, self._options.seed),
                lambda expected: (),
                judge,
                TRAINING_UNITS,
                stage,
            )
        finally:
            # Whoever still waits when the run is interrupted has nobody to wait for.
            ready.abort()
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
                worker = partial(self._pool.worker_for, contender, workload.replace(dtype=dtype), "gradients")
                # So small that it is mostly calling, on one thread.
                turn = self._compiling.turn(contender)
                found += judge_norms(worker, contender, expected, dtype, again=again, busy=turn)
            return found

        self._reporter.stage(stage)
        _, found = self.side_by_side.run(
            lambda: make_expected(kind, options.device, options.seed),
            lambda expected: (e.noise(dtype) for e in expected for dtype in dtypes),
            judge,
            NORM_UNITS,
            stage,
            choose_contenders(options.contenders),
        )
        self._result.gradient_norms += [norms for records in found for norms in records]

    def weigh_settings(self, framework: str) -> None:
        """Finds what each setting of a framework's mode `tuned` brings: that mode without it, against the whole."""
        whole = Contender(framework, TUNED)
        if whole in self._pool.failures:
            return
        others = [Contender(framework, mode) for mode in tuned_modes(framework, self._options.device) if left_out(mode)]
        asked = replace(
            self._options,
            contenders=(whole, *others),
            baseline=whole,
            out=self._options.out / "settings",
        )
        found = blank_result(asked)
        # So many processes more would not fit into memory.
        self._pool.release()
        with make_pool(asked) as pool:
            Engine(asked, pool, self._reporter, found).start()
            for workload in (w for w in asked.workloads if not isinstance(w.model, OwnSpec)):
                served = _settings_with_part_in(workload, asked.steps, framework)
                contenders = (whole, *(Contender(framework, without(setting.name)) for setting in served))
                engine = Engine(replace(asked, contenders=contenders), pool, self._reporter, found)
                engine.check(workload, timed=True)
                for step in asked.steps:
                    engine.time_step(workload, step)
                    timed = workload.replace(step=step)
                    self._result.tuned_settings += [
                        record_setting(found, setting, whole, timed) for setting in served if setting.has_part_in(timed)
                    ]

    def find_ceiling(self) -> None:
        """Measures what this machine can do at best."""
        self._reporter.stage("ceiling: matrix product, copy")
        self._result.ceilings.append(measure_ceiling(self._pool, self._options.workloads[0], self._options.seed))
        self._reporter.advance(START_UNITS)

    def start_cold(self, contender: Contender) -> None:
        """Starts a contender once more, alone; builds and first-calls each model in it."""
        self._reporter.stage(f"cold start: {contender}")
        if self._options.device == "gpu":
            # Those that were timed hold what they took of the card.
            self._pool.release()
        with self._pool.quiet():
            self._result.cold_starts += start_cold_one(
                self._pool, contender, self._options.workloads, self._options.seed
            )
        self._reporter.advance(COLD_UNITS)
