"""The canary: a process that does the same few computations in every pass of every run, whatever is compared.

It tells what the machine was like, to whoever compares two runs that have no contender in common that stayed the same.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

import faceoff.worker
from faceoff.pool.environment import THREAD_VARIABLES, tilts
from faceoff.results.costs import Canary
from faceoff.speed.statistics import Sample
from faceoff.worker.canary import KINDS

PROGRAM = Path(faceoff.worker.__file__).with_name("canary.py")
# Far longer than it needs even on a machine that is busy; then it is done without.
PATIENCE_S = 20.0


class CanaryProcess:
    """The canary's process, for one workload. A context manager. Where it fails nothing is recorded.

    Args:
        device: on which the workload runs; of a card it would tell nothing, and does nothing.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._rounds_s: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self._numpy = ""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> CanaryProcess:
        if self._device != "cpu":
            return self
        environment = {name: value for name, value in os.environ.items() if not tilts(name)}
        with suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                bufsize=1,
                env={**environment, **dict.fromkeys(THREAD_VARIABLES, "1")},
                process_group=0,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run_once(self) -> None:
        """Does and times the computations once."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._numpy = self._numpy or _line(self._process.stdout).strip()
            self._process.stdin.write("\n")
            times_ns = [int(word) for word in _line(self._process.stdout).split()]
            found = dict(zip(KINDS, times_ns, strict=True))
        except (OSError, ValueError):
            self._end()
            return
        for kind, time_ns in found.items():
            self._rounds_s[kind].append(time_ns / 1e9)

    def record(self, workload: str) -> list[Canary]:
        """What it found while a workload was timed: one record, or none where it failed or there was no pass."""
        if not all(self._rounds_s.values()) or not all(min(rounds_s) > 0 for rounds_s in self._rounds_s.values()):
            return []
        times_s = {kind: _time_s(rounds_s) for kind, rounds_s in self._rounds_s.items()}
        return [Canary(workload=workload, numpy=self._numpy, rounds_s=self._rounds_s, times_s=times_s)]

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _line(output: IO[str]) -> str:
    """The next line; raises OSError where none comes in time."""
    # It writes one line for each that it is sent, so nothing is left in the buffer.
    if not select.select([output], [], [], PATIENCE_S)[0]:
        raise OSError("no answer")
    return output.readline()


def _time_s(rounds_s: list[float]) -> float:
    """As the time of a process is taken."""
    sample = Sample(np.array([rounds_s]), np.zeros((1, len(rounds_s)), dtype=bool))
    return float(np.exp(sample.log_times(sample.disturbed)[0]))
