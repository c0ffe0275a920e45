"""Does a contender cost more than code written by hand in its framework? `python -m tests.benchmarks.handwritten`.

For each contender of the device a process of its own runs the contender and the hand-written model of the same
framework, rounds interleaved in random order. Each ratio of medians is printed with its interval as soon as it is
known; what cannot be run is one line that says why, and the rest is run.

    python -m tests.benchmarks.handwritten pytorch jax --models lstm --passes 20
    python -m tests.benchmarks.handwritten --device gpu --dtype bfloat16 --preset deepbench --json found.json \\
        --workload lstm-t25-i512-h512-o10-b16 dense-1760-1760-b16

A framework runs in the interpreter that `faceoff` would take for it. Exit status 1 when a ratio is above the limit,
else 3 when something could not be run; 2 for bad usage, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faceoff.core.errors import HarnessError, InputError
from faceoff.core.spec import STEPS, Contender, Workload
from faceoff.frameworks.caches import cache_directory
from faceoff.frameworks.configuration import Configuration, read_configuration
from faceoff.frameworks.contenders import parse_contenders
from faceoff.frameworks.installations import find_installation, interpreter
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.machine.processor import describe_processor
from faceoff.pool.devices import AUTO, parse_device
from faceoff.pool.environment import worker_environment
from faceoff.results.file import write_text
from faceoff.workloads.presets import PRESETS, choose

LIMIT = 1.10
INTERRUPTED = 130
DTYPES = ("float32", "bfloat16", "float16")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; bad usage ends the process with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.handwritten",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("contenders", nargs="*", help="framework:mode or framework; all of the device by default")
    parser.add_argument("--device", default="cpu", help="cpu, gpu or gpu:N; cpu by default")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--preset", default="default", choices=PRESETS)
    parser.add_argument("--models", nargs="+", default=[], help="families; all by default")
    parser.add_argument("--workload", nargs="+", default=[], help="of these models, by name as in `faceoff list`")
    parser.add_argument("--batch-size", nargs="+", type=int, default=[])
    parser.add_argument("--sequence-length", nargs="+", type=int, default=[])
    parser.add_argument("--hidden-size", nargs="+", type=int, default=[])
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--passes", type=int, default=40, help="rounds of each version")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, metavar="FILE", help="keeps all that was found, with versions and device")
    asked = parser.parse_args(arguments)
    for name in ("passes", "threads"):
        if getattr(asked, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return asked


def requests(asked: argparse.Namespace, device: str) -> list[tuple[Contender, dict[str, Any]]]:
    """What each contender is asked for. Raises InputError on names and sizes that are not known."""
    sizes = (asked.batch_size, asked.sequence_length, asked.hidden_size)
    chosen = choose(asked.preset, asked.models, *sizes, asked.workload)
    workloads = {
        sized.name: Workload(sized.model, sized.batch_size, asked.dtype, device, "training").to_json()
        for sized in chosen
    }
    common = {
        "workloads": workloads,
        "steps": [step for step in STEPS if step in asked.steps],
        "passes": asked.passes,
        "threads": asked.threads,
        "device": device,
    }
    return [
        (contender, {"framework": contender.framework, "mode": contender.mode, **common})
        for contender in parse_contenders(asked.contenders, device=device)
    ]


def answers(
    contender: Contender, request: dict[str, Any], card: int, configuration: Configuration
) -> Iterator[dict[str, Any]]:
    """What the contender's process says, as it says it; at the end how it ended, if it did not end well."""
    device, threads = request["device"], request["threads"]
    environment = worker_environment(contender, threads, cache_directory({}), device=device, card=card)
    python = interpreter(contender.framework, configuration)
    command = [python, "-m", "tests.benchmarks.handwritten.one_contender", json.dumps(request)]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield json.loads(line)
        except BaseException:
            process.kill()
            raise
        if process.wait():
            log.seek(0)
            said = log.read().strip().splitlines() or ["nothing"]
            how = f"by signal {-process.returncode}" if process.returncode < 0 else f"with status {process.returncode}"
            yield {"outcome": "crashed", "reason": f"the process ended {how} and said last: {said[-1]}"}


def run_all(asked: argparse.Namespace) -> dict[str, Any]:
    """Runs all that was asked for, and prints it row by row.

    Returns:
        What `--json` keeps: `rows`, what was `not_run` and why, and `settings` of each contender's process.

    Raises:
        InputError: something was asked for that there is not.
    """
    device, card = parse_device(asked.device)
    if device == AUTO:
        raise InputError("unknown device", where="device", got=repr(AUTO), expected="cpu, gpu or gpu:N")
    found: dict[str, Any] = {
        "device": asked.device, "dtype": asked.dtype, "threads": asked.threads, "passes": asked.passes, "limit": LIMIT,
        "processor": describe_processor(), "settings": {}, "rows": [], "not_run": [],
    }  # fmt: skip
    wanted, configuration = requests(asked, device), read_configuration()
    unusable: set[str] = set()

    def keep(kind: str, entry: dict[str, Any]) -> None:
        found[kind].append(entry)
        print(describe_row(entry) if kind == "rows" else describe_failure(entry), flush=True)
        save(asked.json, found)

    save(asked.json, found)
    for contender, request in wanted:
        name = contender.framework
        if name in unusable:
            continue
        installation = find_installation(FRAMEWORKS[name], configuration)
        if not installation.installed:
            unusable.add(name)
            reason = f"{installation.reason}; {installation.next_step}"
            keep("not_run", {"contender": name, "outcome": "missing", "reason": reason})
            continue
        started = False
        for answer in answers(contender, request, card, configuration):
            if "settings" in answer:
                started = True
                found["settings"][str(contender)] = answer["settings"]
            elif "ratio" in answer:
                keep("rows", {"contender": str(contender), **answer})
            else:
                if not started:
                    # Nor would the next mode of this framework start.
                    unusable.add(name)
                keep("not_run", {"contender": str(contender) if started else name, **answer})
    return found


def save(path: Path | None, found: dict[str, Any]) -> None:
    """Writes what there is so far, so that whoever stops this loses nothing."""
    if path:
        write_text(path, json.dumps(found, indent=1) + "\n")


def describe_row(row: dict[str, Any]) -> str:
    """One line for a ratio."""
    low, high = row["interval"]
    mark = "" if row["ratio"] <= LIMIT else f"   above {LIMIT}"
    return (
        f"{row['contender']:24} {row['workload']:38} {row['step']:10} {1e3 * row['contender_s']:9.3f} ms "
        f"by hand {1e3 * row['hand_s']:9.3f} ms   {row['ratio']:.3f} [{low:.3f}, {high:.3f}]{mark}"
    )


def describe_failure(entry: dict[str, Any]) -> str:
    """One line for what could not be run."""
    what = " ".join(entry[name] for name in ("workload", "step") if entry.get(name))
    return f"{entry['contender']:24} {what}{': ' if what else ''}{entry['outcome']}: {entry['reason']}"


def exit_status(found: dict[str, Any]) -> int:
    """1 when a ratio is above the limit, else 3 when something could not be run, else 0."""
    if any(row["ratio"] > LIMIT for row in found["rows"]):
        return 1
    return 3 if found["not_run"] else 0


def main(arguments: list[str] | None = None) -> int:
    asked = parse(arguments)
    # So that whoever ends this ends the contender's process too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return exit_status(run_all(asked))
    except KeyboardInterrupt:
        return INTERRUPTED
    except HarnessError as error:
        print(error, file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
