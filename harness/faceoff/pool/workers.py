"""Starts, pauses and replaces workers: long-lived processes, one or more for each contender."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from faceoff.core.clock import monotonic_ns
from faceoff.core.errors import WorkerError
from faceoff.core.messages import Channel
from faceoff.core.spec import Contender, Workload
from faceoff.frameworks.caches import cache_directory
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import Installation, find_installation
from faceoff.frameworks.registry import FRAMEWORKS, hidden_modules
from faceoff.machine.cards import open_card
from faceoff.machine.cores import held_cores
from faceoff.machine.processor import usable_cores
from faceoff.pool.compile_cache import remove_damaged
from faceoff.pool.environment import worker_environment
from faceoff.pool.needs import find_lack
from faceoff.pool.worker import Worker
from faceoff.system.interrupts import held_off
from faceoff.system.whole_files import scratch_folder

PACKAGE = Path(__file__).resolve().parents[1]
# A GPU's kernels are chosen by trying them, and for a new card some are compiled first.
DEFAULT_TIMEOUT_S = {"cpu": 180.0, "gpu": 600.0}
# A contender may hang on one size and not on the next; one that always hangs would cost its whole time limit each time.
MAX_TIMEOUTS = 3


class Seat(NamedTuple):
    """One process of a contender: 0 is the first, which agreement is checked with, the others are its replicates."""

    contender: Contender
    process: int = 0

    def __str__(self) -> str:
        return str(self.contender) if not self.process else f"{self.contender} (process {self.process + 1})"


class Pool:
    """The workers of a run, started side by side. Use it as a context manager: leaving it ends every process.

    A replicate rests (paused) whenever nothing is asked of it, as idle thread pools spin.

    Args:
        contenders: whose workers.
        device, threads, seed: settings of every worker.
        number_of_card: which GPU, where the device is one.
        log_directory: where their logs go.
        configuration: interpreters and time limit.
        timeout_s: longest time one request may take; overrides the configuration.
        pinned: each process is kept on as many cores as it has threads, all on the same ones, as what is timed has to
            be; another run beside this one takes others, if there are any. Else they go to whichever core is free.
    """

    def __init__(
        self,
        contenders: Sequence[Contender],
        *,
        device: str,
        threads: int,
        seed: int,
        log_directory: Path,
        configuration: Configuration,
        timeout_s: float | None = None,
        number_of_card: int = 0,
        pinned: bool = True,
    ) -> None:
        self.contenders = tuple(contenders)
        self.failures: dict[Contender, WorkerError] = {}
        self._device, self._number_of_card, self.threads, self._seed = device, number_of_card, threads, seed
        self._log_directory = log_directory
        self._timeout_s = timeout_s or configuration.timeout_s or DEFAULT_TIMEOUT_S[device]
        self._workers: dict[Seat, Worker] = {}
        self._spawned: list[Worker] = []
        self._count: dict[Contender, int] = {}
        self._timeouts: dict[Contender, int] = {}
        self._closed = False
        self.installations: dict[str, Installation] = {
            name: find_installation(FRAMEWORKS[name], configuration)
            for name in dict.fromkeys(contender.framework for contender in contenders)
        }
        # Linux sends a worker its death signal when the THREAD that made it ends: so one thread makes them all.
        self._spawner = ThreadPoolExecutor(1, thread_name_prefix="spawner")
        self._open, self._scratch = ExitStack(), ExitStack()
        self._temporary = self._scratch.enter_context(scratch_folder())
        self.card = self._open.enter_context(open_card(device, number_of_card))
        self._cores = self._open.enter_context(held_cores(threads if pinned else usable_cores()))

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every process; safe to call twice."""
        self._closed = True
        with held_off():
            for worker in self._spawned:
                worker.kill()
            self._spawned.clear()
            self._workers.clear()
            self._open.close()
            self._spawner.shutdown(wait=True)
            self._scratch.close()

    def start(self) -> Iterator[Contender]:
        """Starts all workers side by side and yields each contender as it is ready or has failed (`failures`)."""
        for label, installation in self.installations.items():
            with suppress(OSError):
                remove_damaged(cache_directory(installation.versions), FRAMEWORKS[label].compiled)
        for contender in self.contenders:
            try:
                self._launch(Seat(contender))
            except WorkerError as error:
                self.failures[contender] = error
        for contender in self.contenders:
            if contender not in self.failures:
                try:
                    self._finish(contender)
                except WorkerError as error:
                    self.failures[contender] = error
            yield contender

    @property
    def available(self) -> tuple[Contender, ...]:
        """The contenders that started."""
        return tuple(contender for contender in self.contenders if contender not in self.failures)

    @property
    def process_ids(self) -> list[int]:
        """Of every process that was started here."""
        return [worker.process_id for worker in self._spawned]

    def worker(self, contender: Contender) -> Worker:
        """The live worker of `contender`; a fresh one if the last one died.

        Raises:
            WorkerError: it cannot be started, or it hung so often in a row that it is given up.
        """
        if contender in self.failures:
            raise self.failures[contender]
        worker = self._workers.get(Seat(contender))
        if worker is not None and worker.timed_out:
            self._timeouts[contender] = self._timeouts.get(contender, 0) + 1
            worker.timed_out = False
            if self._timeouts[contender] >= MAX_TIMEOUTS:
                self.failures[contender] = WorkerError(
                    f"given up after {MAX_TIMEOUTS} workloads in a row that it did not answer in time",
                    outcome="timeout",
                    where=str(contender),
                    next_step="raise --timeout if it needs longer",
                    log_tail=worker.log_tail(),
                )
                raise self.failures[contender]
        if worker is not None and worker.alive:
            # What it was asked since it last hung it has answered.
            self._timeouts.pop(contender, None)
        else:
            self._launch(Seat(contender))
            self._finish(contender)
        return self._workers[Seat(contender)]

    def worker_for(self, contender: Contender, workload: Workload, step: str = "inference") -> Worker:
        """The same for a step of a workload; raises WorkerError too if it is not offered, and asks no worker then."""
        require_offered(contender, workload, step)
        return self.worker(contender)

    def release(self) -> None:
        """Ends every process, so that what they hold of the device is free; fresh ones start when asked for."""
        for worker in self._workers.values():
            worker.kill()

    def start_cold(self, contender: Contender) -> Worker:
        """One more process of `contender`, with empty compile caches, for the caller to `kill`.

        Raises:
            WorkerError: it cannot be started.
        """
        worker = self._spawn(contender, cold=True)
        worker.send_start(self._device, self.threads, self._seed)
        worker.finish_start()
        return worker

    def has(self, seat: Seat) -> bool:
        """Whether this process was started and lives."""
        return seat in self._workers and self._workers[seat].alive

    def launch(self, seat: Seat) -> None:
        """Begins to start a replicate, if there is none or it died, without waiting for it. Raises WorkerError."""
        if not self.has(seat):
            self._launch(seat)

    @contextmanager
    def replicate(self, seat: Seat) -> Iterator[Worker]:
        """Lets a replicate run while the block runs; a fresh one if there is none or it died. Raises WorkerError."""
        self.launch(seat)
        worker = self._workers[seat]
        # One that was paused while it started would never finish.
        worker.resume()
        if not worker.start_reply:
            worker.finish_start()
        try:
            yield worker
        finally:
            worker.pause()

    def start_untouched(self, contender: Contender) -> Worker:
        """One more process of `contender`, for the caller to `kill`, without configuration and variables of its mode.

        The framework is imported at the first probe, and is then as its users find it where there is no other device.

        Raises:
            WorkerError: the framework is missing.
        """
        return self._spawn(contender, untouched=True)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Keeps every worker paused while the block runs, but for the one inside `awake`."""
        for worker in self._workers.values():
            worker.pause()
        try:
            yield
        finally:
            for seat, worker in self._workers.items():
                if not seat.process:
                    worker.resume()

    @contextmanager
    def awake(self, seat: Seat) -> Iterator[Worker]:
        """Inside `quiet`: lets the worker of `seat` alone run while the block runs.

        Raises:
            WorkerError: it has died; a fresh one would hold no model.
        """
        worker = self._workers[seat]
        if not worker.alive:
            raise worker.death("while it was paused")
        worker.resume()
        try:
            yield worker
        finally:
            worker.pause()

    def _launch(self, seat: Seat) -> None:
        worker = self._spawn(seat.contender)
        self._workers[seat] = worker
        worker.send_start(self._device, self.threads, self._seed)

    def _finish(self, contender: Contender) -> None:
        try:
            self._workers[Seat(contender)].finish_start()
        except WorkerError as error:
            if "ModuleNotFoundError" in error.reason:
                # The framework is there, and something that it needs is not.
                error.next_step = self.installations[contender.framework].install
            if error.outcome != "out_of_memory":
                self.failures[contender] = error
            # On a card that is full; once others have left it, there may be room.
            raise

    def _spawn(self, contender: Contender, cold: bool = False, untouched: bool = False) -> Worker:
        installation = self.installations[contender.framework]
        if not installation.installed:
            raise WorkerError(
                installation.reason, outcome="missing", where=str(contender), next_step=installation.next_step
            )
        lack = find_lack(contender, self._device, installation.python, installation.versions)
        if lack and not untouched:
            raise WorkerError(lack.reason, outcome="missing", where=str(contender), next_step=lack.next_step)
        if self._closed:
            raise WorkerError("the run is ending", outcome="crashed", where=str(contender))
        return self._spawner.submit(self._spawn_here, contender, installation, cold, untouched).result()

    def _spawn_here(self, contender: Contender, installation: Installation, cold: bool, untouched: bool) -> Worker:
        number = self._count[contender] = self._count.get(contender, -1) + 1
        self._log_directory.mkdir(parents=True, exist_ok=True)
        log_path = self._log_directory / f"{contender.framework}-{contender.mode}-{number}.txt"
        compile_cache = self._compile_cache(installation, cold)
        environment = worker_environment(
            contender, self.threads, compile_cache, cold, self._device, self._number_of_card
        )
        if untouched:
            for name in FRAMEWORKS[contender.framework].variables_of(contender.mode):
                environment.pop(name, None)
        # A framework may be there by the caller's path alone.
        paths = [os.path.abspath(path) for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
        framework = FRAMEWORKS[contender.framework]
        environment["PYTHONPATH"] = os.pathsep.join([str(self._import_root()), *paths])
        others = ",".join(hidden_modules(contender.framework))
        cores = ",".join(map(str, self._cores))
        ours, theirs = socket.socketpair()
        with theirs, log_path.open("wb") as log:
            arguments = [str(theirs.fileno()), str(framework.folder.absolute()), str(os.getpid()), str(monotonic_ns())]
            process = subprocess.Popen(
                [installation.python, "-m", "faceoff.worker", *arguments, cores, others],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=[theirs.fileno()],
                # A group of its own to pause and end; the same session, as Linux shares out cores by session first.
                process_group=0,
                cwd=self._temporary,
            )
        worker = Worker(contender, process, Channel(ours), log_path, self._timeout_s)
        worker.card = self.card
        self._spawned.append(worker)
        return worker

    def _compile_cache(self, installation: Installation, cold: bool) -> Path:
        """An empty folder for a cold start, or where there is no home to keep compiled code in."""
        if not cold:
            with suppress(OSError):
                return cache_directory(installation.versions)
        return Path(tempfile.mkdtemp(dir=self._temporary))

    def _import_root(self) -> Path:
        """A folder with this package alone, so that another interpreter sees none of the packages of this one."""
        root = self._temporary / "packages"
        if not root.exists():
            root.mkdir(parents=True)
            (root / PACKAGE.name).symlink_to(PACKAGE)
        return root


def require_offered(contender: Contender, workload: Workload, step: str = "inference") -> None:
    """Raises WorkerError, which says what it lacks, unless a contender's framework offers a step of a workload."""
    if lacking := FRAMEWORKS[contender.framework].lacks(workload, step, contender.mode):
        raise WorkerError(lacking, outcome="not_offered", where=str(contender))
