"""Does a run that is killed lose anything? `python -m tests.calibration.kill_and_resume`.

A small run with real workers is ended by `kill -9` at a random moment between the first line of its journal and its
end, then resumed. Right is: every case that was finished stands in the final result once and unchanged, and the result
holds everything that an undisturbed run holds. Exit status 1 if one of the runs is not right.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import track

from harness import load
from harness.journal import NAME, Contents, read
from harness.machine import describe_machine
from harness.result_file import write_text
from harness.results import Result

LIMIT_S = 600.0
OPTIONS = ("--preset", "small", "--budget", "quick", "--threads", "1", "--quiet")


def start(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """The command, its output in a log beside `folder`."""
    # What a killed process leaves in its temporary folder goes with the study's own.
    environment = {**os.environ, "TMPDIR": str(folder.parent)}
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "harness", *arguments], stdout=log, stderr=log, env=environment)


def wait_for_journal(run: subprocess.Popen[bytes], folder: Path, lines: int = 1) -> None:
    """Until the journal has so many lines."""
    path, end_s = folder / NAME, time.monotonic() + LIMIT_S
    while not (path.exists() and path.read_bytes().count(b"\n") >= lines):
        if run.poll() is not None or time.monotonic() > end_s:
            raise SystemExit(f"no such journal in {folder}: {folder.with_suffix('.log').read_text()}")
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
        raise SystemExit(f"the run that nobody kills failed: {folder.with_suffix('.log').read_text()}")
    finished_s = [unit.elapsed_s for unit in read(folder / NAME).units.values()]
    return names(load(folder / "result.json")), [*finished_s, time.monotonic() - begin_s]


def kill_one(command: list[str], folder: Path, units: int, after_s: float) -> Contents | None:
    """Runs, kills so long after so many units were finished, and returns what the journal held then.

    None if the run had ended by itself.
    """
    run = start([*command, "--out", str(folder)], folder)
    wait_for_journal(run, folder, 1 + units)
    time.sleep(after_s)
    if run.poll() is not None:
        return None
    workers = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGKILL)
    run.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    if alive:
        raise SystemExit(f"workers outlive a killed run: {alive}")
    return read(folder / NAME)


def faults(before: Contents, folder: Path, status: int, wanted: list[str]) -> list[str]:
    """What is wrong with the result of a resumed run; empty when nothing is."""
    if status != 0 or not (folder / "result.json").exists():
        return [f"status {status}: {folder.with_suffix('.log').read_text()[-500:]}"]
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
    # Killed after its result was written, there was nothing left to go on with.
    resumed = 0 if before.ended else 1
    if result.resumed != resumed or result.interrupted or not (folder / "page.html").exists():
        found.append("the result does not say that it was resumed, or there is no page")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--models", default="dense,rnn")
    parser.add_argument("--contender", default="pytorch:eager")
    parser.add_argument("--steps", default="inference")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--at-once", type=int, default=1, help="runs side by side")
    parser.add_argument("--out", type=Path, default=Path("reports/published/kill-and-resume.json"))
    asked = parser.parse_args()
    console, begin_s, moments = Console(stderr=True), time.monotonic(), random.Random(asked.seed)
    command = ["bench", *OPTIONS, "--models", asked.models, "--contenders", asked.contender, "--steps", asked.steps]
    with tempfile.TemporaryDirectory(prefix="faceoff-") as name:
        root = Path(name)
        wanted, finished_s = undisturbed(command, root / "undisturbed")

        def attempt(number: int) -> dict[str, Any]:
            """One run, killed and resumed; anew and killed earlier as often as it ends before it is killed."""
            too_late = 0
            # Uniform over an undisturbed run; counted from the last unit, as the machine may be slower or faster now.
            moment_s = kill_at[number]
            units = sum(end_s <= moment_s for end_s in finished_s[:-1])
            after_s = moment_s - (finished_s[units - 1] if units else 0.0)
            while True:
                folder = root / f"run-{number}-{too_late}"
                before = kill_one(command, folder, units, after_s)
                if before is not None:
                    break
                too_late, after_s = too_late + 1, after_s / 2
            status = start(["bench", "--resume", str(folder), "--quiet"], folder).wait(LIMIT_S)
            return {
                "killed_after_units": units,
                "and_after_s": after_s,
                "finished_units": len(before.units),
                "finished_cases": sum(len(unit.cases) for unit in before.units.values()),
                "line_cut_off": bool(before.notices),
                "ended": before.ended,
                "ended_before_it_was_killed": too_late,
                "faults": faults(before, folder, status, wanted),
            }

        runs: list[dict[str, Any]] = []
        kill_at = [moments.uniform(0, finished_s[-1]) for _ in range(asked.runs)]
        with ThreadPoolExecutor(asked.at_once) as executor:
            done = executor.map(attempt, range(asked.runs))
            for run in track(done, "killing and resuming", total=asked.runs, console=console):
                runs.append(run)
                # A study that is stopped keeps what it found.
                write_text(asked.out, summary(runs, wanted, finished_s, command, asked.seed, begin_s))
    bad = sum(bool(run["faults"]) for run in runs)
    print(f"{bad} of {len(runs)} runs that were killed are not right; written to {asked.out}")
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
        "finished_cases_at_the_kill": sum(run["finished_cases"] for run in runs),
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
