"""Runs one part: begins it or goes on with it, and ends it in time."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from tests.calibration.on_a_gpu.plan import DEVICE, FOLDER, PUBLISHED, Part
from tests.calibration.on_a_gpu.states import Call, PartState

ROOT = Path(__file__).resolve().parents[3]
JOURNAL = "journal.jsonl"
# Of what was begun and could not be gone on with.
EARLIER = "earlier"
# What a part ends with that came to its end: all well, disagreements or bars that were missed, cases that did not run.
FINISHED = (0, 1, 3)
# What a run says whose journal is of another machine, other versions or other code.
REFUSED = 2
# Between the signal and the last word of a part, of its limit.
GRACE_S = 10.0
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
# A process that waits for its card may outlive even that.
KILL_S = 5.0


def go_on(
    part: Part, state: PartState, folder: Path, device: str, until_s: float, environment: Mapping[str, str]
) -> None:
    """Begins a part or goes on with it, and says in `state` what has become of it.

    Args:
        part: of the plan.
        state: of the part; it is `running` meanwhile.
        folder: of the part, made if need be.
        device: such as `gpu`.
        until_s: when it has to have ended, by the monotonic clock.
        environment: of its process.

    Raises:
        KeyboardInterrupt: this was interrupted; so was the part.
    """
    resumed = part.resumes and (folder / JOURNAL).exists()
    if folder.exists() and not resumed:
        set_aside(folder)
    folder.mkdir(parents=True, exist_ok=True)
    status = _run(state, _command(part, folder, device, resumed, environment), folder, until_s, environment)
    if resumed and status == REFUSED and state.state == "failed":
        # It was begun elsewhere, and is of use as it is.
        set_aside(folder)
        folder.mkdir()
        _run(state, _command(part, folder, device, False, environment), folder, until_s, environment)


def set_aside(folder: Path) -> Path:
    """Puts what is there where no result is looked for: under the part's name and a number."""
    number = 1
    while (aside := folder.parent / EARLIER / f"{folder.name}.{number}").exists():
        number += 1
    aside.parent.mkdir(exist_ok=True)
    return folder.rename(aside)


def _command(part: Part, folder: Path, device: str, resumed: bool, environment: Mapping[str, str]) -> list[str]:
    values = {DEVICE: device, FOLDER: str(folder)}
    if PUBLISHED in part.arguments:
        values[PUBLISHED] = _published(environment)
    arguments = list(part.arguments)
    for placeholder, value in values.items():
        arguments = [argument.replace(placeholder, value) for argument in arguments]
    if resumed:
        arguments = [*arguments[:3], "--resume", str(folder)]
    elif part.resumes:
        arguments += ["--out", str(folder)]
    return [sys.executable, *arguments]


def _published(environment: Mapping[str, str]) -> str:
    """The workloads that have a published time, asked of a process that has the packages, as this one may not."""
    ask = "from faceoff.workloads.presets import PUBLISHED_V100_MS; print(','.join(PUBLISHED_V100_MS))"
    command = [sys.executable, "-c", ask]
    answer = subprocess.run(command, cwd=ROOT, env=dict(environment), capture_output=True, text=True, check=False)
    return answer.stdout.strip()


def _run(
    state: PartState, command: list[str], folder: Path, until_s: float, environment: Mapping[str, str]
) -> int | None:
    """Runs a command until it ends or its time is over; returns its exit status."""
    began_s = time.monotonic()
    call = Call(datetime.now(UTC).isoformat(timespec="seconds"))
    state.calls.append(call)
    with (folder / "log.txt").open("a") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        process = subprocess.Popen(
            command, cwd=ROOT, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_begin_as_part,
        )  # fmt: skip
        try:
            process.wait(max(0.0, until_s - GRACE_S - time.monotonic()))
            state.state = "finished" if process.returncode in FINISHED else "failed"
        except subprocess.TimeoutExpired:
            _end(process, until_s)
            # It may have come to its end meanwhile; a status of 1 may also be that of an end in disorder.
            state.state = "finished" if process.returncode in (0, 3) else "out of time"
        except KeyboardInterrupt:
            _end(process, min(until_s, time.monotonic() + GRACE_S))
            state.state = "interrupted"
            raise
        finally:
            call.took_s, call.status = round(time.monotonic() - began_s, 1), process.returncode
    return call.status


def _begin_as_part() -> None:
    """Between fork and exec: a part hears what interrupts it, and is interrupted where this process ends."""
    # Where all of this was started in the background of a script, it would be ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def _end(process: subprocess.Popen[bytes], until_s: float) -> None:
    """Interrupts a process, so that it can write down what it has; ends all its group if it does not end by then."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, until_s - time.monotonic()))
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(KILL_S)
