"""Does a run that is ended lose anything? `python -m tests.calibration.kill_and_resume`.

A small run with real workers is ended at a random moment between the first line of its journal and its end, by Ctrl-C,
SIGTERM, SIGHUP, `kill -9` or a full disk, and then resumed; or it is paused for a while with all its workers, and goes
on by itself. Right is: every case that was finished stands in the final result once and unchanged, the result holds
everything that an undisturbed run holds, the terminal has named the command that goes on wherever the run could still
say anything, and no process and no temporary file is left. Exit status 1 if a run is not right.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import track

from faceoff import load
from faceoff.machine.description import describe_machine
from faceoff.results.file import write_text
from faceoff.results.records import Result
from faceoff.run.journal import NAME, Contents, read

LIMIT_S = 600.0
SIGNALS = {"int": signal.SIGINT, "term": signal.SIGTERM, "hup": signal.SIGHUP, "kill": signal.SIGKILL}
WAYS = (*SIGNALS, "pause", "full")
PAUSE_S = 5.0
DISK = "size=64m"
OPTIONS = ("--preset", "small", "--budget", "quick", "--threads", "1", "--quiet")


def start(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """The command, its output in a log beside `folder`."""
    # A folder of its own for temporary files, in which nothing may be left.
    temporary_folder(folder).mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(temporary_folder(folder))}
    with log_of(folder).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "faceoff", *arguments], stdout=log, stderr=log, env=environment,
            # Started in the background of a script it would ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip


def log_of(folder: Path) -> Path:
    """What a run prints; not on its own disk, which may be full."""
    return folder.parent.with_suffix(".log")


def temporary_folder(folder: Path) -> Path:
    return folder.parent.with_suffix(".tmp")


def wait_for_journal(run: subprocess.Popen[bytes], folder: Path, lines: int = 1) -> None:
    """Until the journal has so many lines."""
    path, end_s = folder / NAME, time.monotonic() + LIMIT_S
    while not (path.exists() and path.read_bytes().count(b"\n") >= lines):
        if run.poll() is not None or time.monotonic() > end_s:
            raise SystemExit(f"no such journal in {folder}: {log_of(folder).read_text()}")
        time.sleep(0.01)


def names(result: Result) -> list[str]:
    """Everything that a result holds, by name."""
    checks = [f"{a.workload['model']['kind']} {a.workload['dtype']} {a.contender}" for a in result.agreements]
    return [*checks, *(case.name for case in result.cases)]


def undisturbed(command: list[str], folder: Path) -> tuple[list[str], list[float]]:
    """What a run that nobody kills holds, and when each of its units was finished and then the run, seconds."""
    run = start([*command, "--out", str(folder)], folder)
    wait_for_journal(run, folder)
    begin_s = time.monotonic()
    if run.wait(LIMIT_S) != 0:
        raise SystemExit(f"the run that nobody kills failed: {log_of(folder).read_text()}")
    finished_s = [unit.elapsed_s for unit in read(folder / NAME).units.values()]
    return names(load(folder / "result.json")), [*finished_s, time.monotonic() - begin_s]


def end_one(
    command: list[str], folder: Path, way: str, units: int, after_s: float
) -> tuple[Contents, list[str]] | None:
    """Runs, and ends the run so long after so many units were finished.

    Returns:
        What the journal held then, and what was not right about its end. None if the run had ended by itself.
    """
    run = start([*command, "--out", str(folder)], folder)
    wait_for_journal(run, folder, 1 + units)
    time.sleep(after_s)
    if run.poll() is not None:
        return None
    processes = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
    before = read(folder / NAME)
    if way == "full":
        fill(folder.parent)
        status = run.wait(LIMIT_S)
        found = [] if status in (0, 2) else [f"status {status} on a full disk"]
        (folder.parent / "filler").unlink()
    elif way == "pause":
        pause(processes)
        # It goes on by itself.
        status = run.wait(LIMIT_S)
        found = [] if status == 0 else [f"status {status} after a pause"]
    else:
        run.send_signal(SIGNALS[way])
        status = run.wait(LIMIT_S)
        expected = (-signal.SIGKILL,) if way == "kill" else (0, 130)
        found = [] if status in expected else [f"status {status} after {way}"]
    _, alive = psutil.wait_procs(processes[1:], timeout=10)
    if alive:
        found.append(f"workers outlive their run: {alive}")
    after = read(folder / NAME)
    said = log_of(folder).read_text()
    if way in ("int", "term", "hup", "full") and not after.ended and f"--resume {folder}" not in said:
        found.append(f"the terminal names no command that goes on: {said[-300:]}")
    # What was finished between the look and the end counts too.
    return (before if way == "pause" else after), found


def pause(processes: list[psutil.Process]) -> None:
    """Stops all of a run for a while; what it has stopped itself stays so."""
    running = [process for process in processes if process.is_running() and process.status() != psutil.STATUS_STOPPED]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for process in running:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if number == signal.SIGSTOP:
            time.sleep(PAUSE_S)


def fill(disk: Path) -> None:
    """Leaves no byte free on a disk."""
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)


@contextmanager
def disk_of_its_own(folder: Path) -> Iterator[bool]:
    """Mounts a small disk on a folder while the block runs; False where that is not allowed."""
    mounted = not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(folder)], capture_output=True
    ).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def left_over(folder: Path) -> list[str]:
    """Temporary files that a resumed run should have removed."""
    ours = [*temporary_folder(folder).glob("faceoff-*"), *folder.glob(".*"), *folder.parent.glob(".*")]
    return [f"left: {path}" for path in ours]


def faults(before: Contents, folder: Path, status: int, wanted: list[str], resumed: int) -> list[str]:
    """What is wrong with the result of a resumed run; empty when nothing is."""
    if status != 0 or not (folder / "result.json").exists():
        return [f"status {status}: {log_of(folder).read_text()[-500:]}"]
    result, after = load(folder / "result.json"), read(folder / NAME)
    found = []
    for name, count in Counter(names(result)).items():
        if count != 1:
            found.append(f"{name} stands there {count} times")
    if names(result) != wanted:
        found.append(f"not what an undisturbed run holds: {sorted(set(wanted) ^ set(names(result)))}")
    for unit in before.units.values():
        if any(case not in result.cases for case in unit.cases):
            found.append(f"{unit.key}: a case that was finished is not there, or was run again")
        if any(agreement not in result.agreements for agreement in unit.agreements):
            found.append(f"{unit.key}: an agreement that was finished is not there, or was found again")
    if not after.ended or after.notices or list(after.units)[: len(before.units)] != list(before.units):
        found.append(f"the journal is not whole: {after.notices}")
    if result.resumed != resumed or result.interrupted or not (folder / "page.html").exists():
        found.append("the result does not say that it was resumed, or there is no page")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--ways", default=",".join(WAYS), help="how runs are ended, in turn")
    parser.add_argument("--models", default="dense,rnn")
    parser.add_argument("--contender", default="pytorch:eager")
    parser.add_argument("--steps", default="inference")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--at-once", type=int, default=1, help="runs side by side")
    parser.add_argument("--out", type=Path, default=Path("reports/published/kill-and-resume.json"))
    asked = parser.parse_args()
    console, begin_s, moments = Console(stderr=True), time.monotonic(), random.Random(asked.seed)
    command = ["bench", *OPTIONS, "--models", asked.models, "--contenders", asked.contender, "--steps", asked.steps]
    ways = asked.ways.split(",")
    if unknown := set(ways) - set(WAYS):
        parser.error(f"unknown ways: {', '.join(unknown)}; expected some of {', '.join(WAYS)}")
    with tempfile.TemporaryDirectory(prefix="study-") as name:
        root = Path(name)
        with disk_of_its_own(root) as may_mount:
            if not may_mount and "full" in ways:
                ways.remove("full")
                print("no disk is filled: mounting one is not allowed here", file=sys.stderr)
        (root / "undisturbed").mkdir()
        wanted, finished_s = undisturbed(command, root / "undisturbed" / "out")

        def attempt(number: int) -> dict[str, Any]:
            """One run, ended and resumed; anew and ended earlier as often as it ends by itself before."""
            way = ways[number % len(ways)]
            too_late = 0
            # Uniform over an undisturbed run; counted from the last unit, as the machine may be slower or faster now.
            moment_s = end_at[number]
            units = sum(end_s <= moment_s for end_s in finished_s[:-1])
            after_s = moment_s - (finished_s[units - 1] if units else 0.0)
            while True:
                place = root / f"run-{number}-{too_late}"
                place.mkdir()
                with disk_of_its_own(place) if way == "full" else nullcontext():
                    folder = place / "out"
                    ended = end_one(command, folder, way, units, after_s)
                    if ended is not None:
                        before, found = ended
                        status, resumed = 0, 0 if before.ended or way == "pause" else 1
                        if resumed:
                            status = start(["bench", "--resume", str(folder), "--quiet"], folder).wait(LIMIT_S)
                        found += [*faults(before, folder, status, wanted, resumed), *left_over(folder)]
                        break
                too_late, after_s = too_late + 1, after_s / 2
            return {
                "way": way,
                "ended_after_units": units,
                "and_after_s": after_s,
                "finished_units": len(before.units),
                "finished_cases": sum(len(unit.cases) for unit in before.units.values()),
                "line_cut_off": bool(before.notices),
                "ended": before.ended,
                "ended_before_it_was_ended": too_late,
                "faults": found,
            }

        runs: list[dict[str, Any]] = []
        end_at = [moments.uniform(0, finished_s[-1]) for _ in range(asked.runs)]
        with ThreadPoolExecutor(asked.at_once) as executor:
            done = executor.map(attempt, range(asked.runs))
            for run in track(done, "ending and resuming", total=asked.runs, console=console):
                runs.append(run)
                # A study that is stopped keeps what it found.
                write_text(asked.out, summary(runs, wanted, finished_s, command, asked.seed, begin_s))
    bad = sum(bool(run["faults"]) for run in runs)
    print(f"{bad} of {len(runs)} runs that were ended are not right; written to {asked.out}")
    return int(bad > 0)


def summary(
    runs: list[dict[str, Any]],
    wanted: list[str],
    finished_s: list[float],
    command: list[str],
    seed: int,
    begin_s: float,
) -> str:
    """The study so far as JSON text."""
    found = {
        "runs": len(runs),
        "not_right": sum(bool(run["faults"]) for run in runs),
        "finished_cases_at_the_end": sum(run["finished_cases"] for run in runs),
        "runs_by_way": dict(sorted(Counter(run["way"] for run in runs).items())),
        "runs_by_finished_units": dict(sorted(Counter(run["finished_units"] for run in runs).items())),
        "records_of_an_undisturbed_run": wanted,
        "finished_s_of_an_undisturbed_run": finished_s,
        "command": " ".join(["faceoff", *command]),
        "each": runs,
        "seed": seed,
        "seconds": time.monotonic() - begin_s,
        "machine": describe_machine(),
    }
    return json.dumps(found, indent=1) + "\n"


if __name__ == "__main__":
    sys.exit(main())
